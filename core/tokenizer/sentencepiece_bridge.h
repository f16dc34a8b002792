// libsentencepiece behind standard types: its header brings a string_view that clashes with Abseil's, so only
// sentencepiece_bridge.cc includes it, and this header includes nothing of Abseil.
#ifndef TANREN_CORE_TOKENIZER_SENTENCEPIECE_BRIDGE_H_
#define TANREN_CORE_TOKENIZER_SENTENCEPIECE_BRIDGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace tanren {

// Functions that return text return an error, empty when all went well.
class SentencePieceModel {
 public:
  enum class Type { kNormal, kControl, kUnknown, kByte, kUnused };

  SentencePieceModel();
  ~SentencePieceModel();

  std::string Load(std::string_view serialized_model);
  std::string Encode(std::string_view text, std::vector<int>* ids) const;
  std::string Decode(const std::vector<int>& ids, std::string* text) const;

  int size() const;
  std::string Piece(int id) const;
  Type TypeOf(int id) const;
  int bos() const;  // -1 where the model has none, as are the next three
  int eos() const;
  int pad() const;
  int unknown() const;

 private:
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_SENTENCEPIECE_BRIDGE_H_
