#include "core/tokenizer/sentencepiece_tokenizer.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_replace.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/sentencepiece_bridge.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

constexpr int64_t kMaxModelBytes = int64_t{64} << 20;
constexpr const char* kSpaceMark = "\xE2\x96\x81";  // U+2581 stands for a space in pieces

class SentencePieceTokenizer : public Tokenizer {
 public:
  absl::Status Initialise(std::string serialized) {
    serialized_ = std::move(serialized);
    if (const std::string error = model_.Load(serialized_); !error.empty()) {
      return InvalidInput("not a SentencePiece model: %s", error);
    }
    if (model_.size() <= 0) return InvalidInput("a SentencePiece model without pieces");
    std::vector<SpecialToken> specials;
    for (int id = 0; id < model_.size(); ++id) {
      if (model_.TypeOf(id) == SentencePieceModel::Type::kControl) specials.push_back({model_.Piece(id), id});
    }
    TokenRoles roles;
    roles.bos = model_.bos();
    roles.eos = model_.eos();
    roles.end_of_text = model_.eos();
    roles.pad = model_.pad();
    roles.unknown = model_.unknown();
    roles.prepend_bos = roles.bos >= 0;
    return SetSpecials(std::move(specials), roles);
  }

  std::string_view kind() const override { return "sentencepiece"; }
  int64_t vocab_size() const override { return model_.size(); }

  absl::Status EncodeTo(std::string_view text, std::vector<int32_t>* ids) const override {
    const size_t valid = ValidUtf8Prefix(text);
    if (valid < text.size()) {
      return InvalidInput(
          "byte %d of the text, 0x%02x, is not UTF-8, which a SentencePiece model cannot encode", valid,
          static_cast<int>(static_cast<unsigned char>(text[valid])));
    }
    std::vector<int> encoded;
    if (const std::string error = model_.Encode(text, &encoded); !error.empty()) {
      return InvalidInput("libsentencepiece cannot encode a text of %d bytes: %s", text.size(), error);
    }
    ids->insert(ids->end(), encoded.begin(), encoded.end());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids) const override {
    TANREN_RETURN_IF_ERROR(CheckIds(ids));
    std::string text;
    if (const std::string error = model_.Decode({ids.begin(), ids.end()}, &text); !error.empty()) {
      return InvalidInput("libsentencepiece cannot decode %d tokens: %s", ids.size(), error);
    }
    return text;
  }

  std::string DecodeToken(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) return "";
    const std::string piece = model_.Piece(id);
    if (model_.TypeOf(id) == SentencePieceModel::Type::kByte && piece.size() == 6) {  // <0x0A>
      return std::string(1, static_cast<char>(std::strtol(piece.substr(3, 2).c_str(), nullptr, 16)));
    }
    return absl::StrReplaceAll(piece, {{kSpaceMark, " "}});
  }

  // The library puts a space before every text it encodes, so no cut is free.
  size_t LastCut(std::string_view) const override { return 0; }

  absl::Status Save(const std::string& directory) const override {
    TANREN_RETURN_IF_ERROR(MakeDirectories(directory));
    return WriteSmallFile(directory + "/tokenizer.model", serialized_);
  }

 protected:
  void HashContent(Sha256* hash) const override { hash->UpdateField(serialized_); }

 private:
  std::string serialized_;
  SentencePieceModel model_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSentencePieceModel(const std::string& path) {
  TANREN_ASSIGN_OR_RETURN(std::string serialized, ReadSmallFile(path, kMaxModelBytes));
  auto tokenizer = std::make_unique<SentencePieceTokenizer>();
  if (absl::Status status = tokenizer->Initialise(std::move(serialized)); !status.ok())
    return At(path, status);
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

}  // namespace tanren
