#include "core/tokenizer/sentencepiece_bridge.h"

#include <sentencepiece_processor.h>

#include <exception>

namespace tanren {
namespace {

absl::string_view Absl(std::string_view text) { return absl::string_view(text.data(), text.size()); }

template <class Call>
std::string ErrorOf(Call call) {
  try {
    const sentencepiece::util::Status status = call();
    if (status.ok()) return "";
    const std::string message = status.ToString();
    return message.empty() ? "unknown error of libsentencepiece" : message;
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

SentencePieceModel::SentencePieceModel()
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
SentencePieceModel::~SentencePieceModel() = default;

std::string SentencePieceModel::Load(std::string_view serialized_model) {
  return ErrorOf([&] { return processor_->LoadFromSerializedProto(Absl(serialized_model)); });
}

std::string SentencePieceModel::Encode(std::string_view text, std::vector<int>* ids) const {
  return ErrorOf([&] { return processor_->Encode(Absl(text), ids); });
}

std::string SentencePieceModel::Decode(const std::vector<int>& ids, std::string* text) const {
  return ErrorOf([&] { return processor_->Decode(ids, text); });
}

int SentencePieceModel::size() const { return processor_->GetPieceSize(); }
std::string SentencePieceModel::Piece(int id) const { return processor_->IdToPiece(id); }

SentencePieceModel::Type SentencePieceModel::TypeOf(int id) const {
  if (processor_->IsControl(id)) return Type::kControl;
  if (processor_->IsUnknown(id)) return Type::kUnknown;
  if (processor_->IsByte(id)) return Type::kByte;
  if (processor_->IsUnused(id)) return Type::kUnused;
  return Type::kNormal;
}

int SentencePieceModel::bos() const { return processor_->bos_id(); }
int SentencePieceModel::eos() const { return processor_->eos_id(); }
int SentencePieceModel::pad() const { return processor_->pad_id(); }
int SentencePieceModel::unknown() const { return processor_->unk_id(); }

}  // namespace tanren
