// Text to token ids and back.
//
// Every kind implements one interface; `LoadTokenizer` recognises a kind by what its files hold. A tokenizer
// is immutable after it is made, and all its functions may be called from several threads at once.
#ifndef TANREN_CORE_TOKENIZER_TOKENIZER_H_
#define TANREN_CORE_TOKENIZER_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace tanren {

class Sha256;

// A token with a meaning beyond its text. Its text in ordinary input is ordinary text.
struct SpecialToken {
  std::string text;
  int32_t id = 0;
};

// Ids with a role, -1 where the tokenizer has none.
struct TokenRoles {
  int32_t bos = -1;
  int32_t eos = -1;          // what ends a generation
  int32_t end_of_text = -1;  // what ends a document of a training corpus
  int32_t pad = -1;
  int32_t unknown = -1;
  bool prepend_bos = false;  // the model was made with `bos` in front of every document
};

class Tokenizer {
 public:
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  virtual ~Tokenizer() = default;

  // "bpe", "sentencepiece", "bytes", "characters" or "whitespace".
  virtual std::string_view kind() const = 0;
  // Ids are 0 .. vocab_size() - 1, special tokens included.
  virtual int64_t vocab_size() const = 0;

  // Appends the ids of `text` to *ids; nothing is added for the roles (no bos, no end of text). After an
  // error *ids is as long as before. Which text is an error depends on the kind: none for bpe and bytes.
  virtual absl::Status EncodeTo(std::string_view text, std::vector<int32_t>* ids) const = 0;
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const;
  // As Encode, but where the text of a special token stands (the longest, from the left), its id is taken.
  absl::StatusOr<std::vector<int32_t>> EncodeWithSpecials(std::string_view text) const;

  // The text of ids; an id outside of the vocabulary is an error. For bpe (without a normaliser or prefix
  // space), bytes and characters Decode(Encode(t)) == t for every t that encodes.
  virtual absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids) const;
  // The bytes of one token (for a special token its text), which need not be whole characters. Empty outside
  // of the vocabulary.
  virtual std::string DecodeToken(int32_t id) const = 0;

  // Where a long text may be cut without a change of its ids: the largest p, 0 < p < text.size(), with
  // Encode(text + rest) == Encode(text[0, p)) followed by Encode(text[p, end) + rest) for every rest.
  // 0 when none is known.
  virtual size_t LastCut(std::string_view text) const = 0;

  // Special tokens in the order of their ids.
  const std::vector<SpecialToken>& specials() const { return specials_; }
  const TokenRoles& roles() const { return roles_; }
  // -1 when no special token has this text.
  int32_t SpecialId(std::string_view text) const;

  // Writes files into `directory` (made when missing) from which LoadTokenizer makes an equal tokenizer.
  virtual absl::Status Save(const std::string& directory) const = 0;
  // SHA-256 of all that decides ids and text, independent of the file format it came from.
  std::string Hash() const;

 protected:
  virtual void HashContent(Sha256* hash) const = 0;
  absl::Status CheckIds(absl::Span<const int32_t> ids) const;
  // Checks that texts and ids are distinct and within the vocabulary; call it last in a factory.
  absl::Status SetSpecials(std::vector<SpecialToken> specials, const TokenRoles& roles);

 private:
  std::vector<SpecialToken> specials_;
  TokenRoles roles_;
};

// Roles by the names that published models use (<|endoftext|>, <s>, </s>, <|begin_of_text|>, <pad>, ...).
TokenRoles RolesByName(const std::vector<SpecialToken>& specials);

// `path` is a directory or a file, recognised by content:
//   vocabulary.json                 bytes, characters or whitespace (written by Save)
//   tokenizer.json                  Hugging Face's format, byte-level BPE; tokenizer_config.json beside it
//   names roles encoder.json + vocab.bpe, vocab.json + merges.txt    GPT-2's published files tokenizer.model
//   SentencePiece
// A file that is broken is an error that names the place, never a crash, in time and memory bounded by its
// size.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path);

// InvalidArgument where the tokenizer `its` of the checkpoint at `path` is another than a run's own: its
// tokens would mean something else.
absl::Status CheckSameTokenizer(const std::string& path, const Tokenizer& its, const Tokenizer& own);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_TOKENIZER_H_
