// Byte-level byte-pair encoding: GPT-2, Llama 3, Qwen and tokenizers that Tanren trains.
//
// Text is cut into pieces by patterns, a piece is merged from bytes by ranked merges. Bytes that are not
// UTF-8 form pieces of their own, so every sequence of bytes encodes, and decodes to itself.
#ifndef TANREN_CORE_TOKENIZER_BPE_TOKENIZER_H_
#define TANREN_CORE_TOKENIZER_BPE_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

struct BpeDefinition {
  std::vector<std::string> tokens;                  // by id: bytes; for a special token its text
  std::vector<std::pair<int32_t, int32_t>> merges;  // by rank; their concatenation is a token
  std::vector<std::string> split_patterns;          // each splits the pieces of the one before it
  std::vector<SpecialToken> specials;
  TokenRoles roles;
  bool normalise_nfc = false;     // Unicode NFC first: Decode gives the normalised text
  bool add_prefix_space = false;  // a space is put before text that does not start with one
  bool ignore_merges = false;     // a piece that is a token as a whole is not merged (Llama 3)
};

class BpeTokenizer : public Tokenizer {
 public:
  // Checks the definition: each of the 256 bytes is a token; tokens are distinct; every merge names known
  // tokens, appears once, and makes a known token; patterns compile.
  static absl::StatusOr<std::unique_ptr<BpeTokenizer>> Create(BpeDefinition definition);
  ~BpeTokenizer() override;

  std::string_view kind() const override { return "bpe"; }
  int64_t vocab_size() const override;
  absl::Status EncodeTo(std::string_view text, std::vector<int32_t>* ids) const override;
  std::string DecodeToken(int32_t id) const override;
  size_t LastCut(std::string_view text) const override;
  // Hugging Face's tokenizer.json and tokenizer_config.json.
  absl::Status Save(const std::string& directory) const override;

  const BpeDefinition& definition() const;

 protected:
  void HashContent(Sha256* hash) const override;

 private:
  struct Impl;
  explicit BpeTokenizer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_BPE_TOKENIZER_H_
