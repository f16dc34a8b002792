#include "core/checkpoint/manifest.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/checkpoint/file_system.h"

namespace tanren {
namespace {

constexpr size_t kMaxNameBytes = 1024;

bool IsPrintable(std::string_view text, std::string_view forbidden) {
  for (char c : text) {
    if (c <= ' ' || c > '~' || forbidden.find(c) != std::string_view::npos) return false;
  }
  return true;
}

}  // namespace

const char* NameOf(Role role) {
  switch (role) {
    case Role::kWeight:
      return "weight";
    case Role::kFirstMoment:
      return "first_moment";
    case Role::kSecondMoment:
      return "second_moment";
    case Role::kOther:
      return "other";
  }
  return "?";
}

std::string TensorKey(const TensorInfo& tensor) {
  std::string key = absl::StrCat(tensor.model, "/", tensor.name);
  if (tensor.role != Role::kWeight) absl::StrAppend(&key, "#", NameOf(tensor.role));
  return key;
}

std::string ChunkKey(const TensorInfo& tensor, const Region& region) {
  std::string key = TensorKey(tensor);
  if (region == Region::Whole(tensor.shape)) return key;
  absl::StrAppend(&key, "@", absl::StrJoin(region.box.offset, ","), "+", absl::StrJoin(region.box.size, ","));
  if (!region.is_whole_box()) absl::StrAppend(&key, "[", region.begin, ":", region.end, "]");
  return key;
}

std::vector<int64_t> ChunkShape(const Region& region) {
  if (region.is_whole_box()) return region.box.size;
  return {region.elements()};
}

absl::Status CheckTensorInfo(const TensorInfo& tensor) {
  if (!IsPlainBasename(tensor.model))
    return InvalidInput("model name \"%s\" is not [A-Za-z0-9._-]", Escaped(tensor.model));
  if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes || !IsPrintable(tensor.name, "#@\"\\")) {
    return InvalidInput(
        "tensor name \"%s\" is empty, too long or has a space, quote, backslash, '#', '@' or "
        "a byte that is not printable ASCII",
        Escaped(tensor.name.substr(0, kMaxNameBytes)));
  }
  return At(TensorKey(tensor), CountElements(tensor.shape).status());
}

std::string Manifest::PathOf(const FileInfo& file) {
  return file.kind == FileKind::kTokenizer ? absl::StrCat("tokenizer/", file.name) : file.name;
}

std::string TokenizerSha256(const TokenizerFiles& files) {
  if (files.empty()) return "";
  std::string text;
  for (const auto& [name, contents] : files) {
    text += name;
    text += '\0';
    absl::StrAppend(&text, Sha256Hex(contents), "\n");
  }
  return Sha256Hex(text);
}

int64_t Manifest::TensorBytes() const {
  int64_t bytes = 0;
  for (const ChunkInfo& chunk : chunks) bytes += ChunkBytes(chunk);
  return bytes;
}

}  // namespace tanren
