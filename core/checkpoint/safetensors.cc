#include "core/checkpoint/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/checkpoint/region.h"

namespace tanren {
namespace {

// Position of the types that Tanren writes in the format's list; later ones come first in a file.
int TypeOrder(DType dtype) {
  switch (dtype) {
    case DType::kU8:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kBF16:
      return 2;
    case DType::kI32:
      return 3;
    case DType::kF32:
      return 4;
    case DType::kF64:
      return 5;
    case DType::kI64:
      return 6;
  }
  return -1;
}

absl::StatusOr<std::string> Quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const std::exception&) {
    return InvalidInput("\"%s\" is not UTF-8", Escaped(text));
  }
}

// "dir/name" as an open directory and the name.
absl::StatusOr<std::pair<Directory, std::string>> SplitPath(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  TANREN_ASSIGN_OR_RETURN(Directory directory, Directory::Open(parent));
  return std::make_pair(std::move(directory), slash == std::string::npos ? path : path.substr(slash + 1));
}

absl::Status CheckNames(absl::Span<const SafetensorsSpec> specs, const std::vector<int>& order) {
  std::vector<const std::string*> names;
  for (int i : order) names.push_back(&specs[i].name);
  std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
  for (size_t i = 0; i < names.size(); ++i) {
    if (*names[i] == "__metadata__") return InvalidInput("a tensor cannot be called __metadata__");
    if (i > 0 && *names[i] == *names[i - 1]) return InvalidInput("tensor \"%s\" twice", Escaped(*names[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MetadataJson(const std::map<std::string, std::string>& metadata) {
  std::string json = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    TANREN_ASSIGN_OR_RETURN(const std::string quoted_key, Quoted(key));
    TANREN_ASSIGN_OR_RETURN(const std::string quoted_value, Quoted(value));
    absl::StrAppend(&json, json.back() == '{' ? "" : ",", quoted_key, ":", quoted_value);
  }
  return json + "}";
}

absl::Status WriteData(const Directory& directory, const std::string& name, const SafetensorsPlan& plan,
                       absl::Span<const SafetensorsSpec> specs, absl::Span<const void* const> data) {
  TANREN_ASSIGN_OR_RETURN(NewFile file, NewFile::Create(directory, name, plan.file_bytes, nullptr));
  TANREN_RETURN_IF_ERROR(file.Append(plan.header.data(), static_cast<int64_t>(plan.header.size())));
  for (int i : plan.order) {
    TANREN_RETURN_IF_ERROR(file.Append(data[i], *CountElements(specs[i].shape) * SizeOf(specs[i].dtype)));
  }
  return file.Finish();
}

}  // namespace

absl::StatusOr<SafetensorsPlan> PlanSafetensors(absl::Span<const SafetensorsSpec> specs,
                                                const std::map<std::string, std::string>& metadata) {
  SafetensorsPlan plan;
  plan.offsets.resize(specs.size());
  for (int i = 0; i < static_cast<int>(specs.size()); ++i) plan.order.push_back(i);
  std::sort(plan.order.begin(), plan.order.end(), [&](int a, int b) {
    const int left = TypeOrder(specs[a].dtype), right = TypeOrder(specs[b].dtype);
    return left != right ? left > right : specs[a].name < specs[b].name;
  });
  TANREN_RETURN_IF_ERROR(CheckNames(specs, plan.order));

  std::string json = "{";
  if (!metadata.empty()) {
    TANREN_ASSIGN_OR_RETURN(const std::string text, MetadataJson(metadata));
    json += text;
  }
  int64_t position = 0;
  for (int i : plan.order) {
    TANREN_ASSIGN_OR_RETURN(const int64_t elements, CountElements(specs[i].shape));
    const int64_t bytes = elements * SizeOf(specs[i].dtype);
    if (bytes > INT64_MAX / 2 - position)
      return InvalidInput("tensor \"%s\": file size overflows", specs[i].name);
    TANREN_ASSIGN_OR_RETURN(const std::string name, Quoted(specs[i].name));
    absl::StrAppend(&json, json.size() > 1 ? "," : "", name, ":{\"dtype\":\"",
                    SafetensorsName(specs[i].dtype), "\",\"shape\":[", absl::StrJoin(specs[i].shape, ","),
                    "],\"data_offsets\":[", position, ",", position + bytes, "]}");
    plan.offsets[i] = position;
    position += bytes;
  }
  json += "}";
  json.append((8 - json.size() % 8) % 8, ' ');
  if (static_cast<int64_t>(json.size()) > kMaxSafetensorsHeaderBytes) {
    return InvalidInput("header of %d bytes, at most %d are allowed", json.size(),
                        kMaxSafetensorsHeaderBytes);
  }
  for (int shift = 0; shift < 64; shift += 8)
    plan.header += static_cast<char>(uint64_t{json.size()} >> shift & 255);
  plan.header += json;
  for (int64_t& offset : plan.offsets) offset += static_cast<int64_t>(plan.header.size());
  plan.file_bytes = static_cast<int64_t>(plan.header.size()) + position;
  return plan;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::OpenAt(const Directory& directory, const std::string& name) {
  SafetensorsFile opened;
  TANREN_ASSIGN_OR_RETURN(opened.file_, ReadableFile::Open(directory, name));
  const ReadableFile& file = opened.file_;
  std::string prefix(static_cast<size_t>(std::min<int64_t>(8, file.bytes())), '\0');
  TANREN_RETURN_IF_ERROR(file.ReadAt(0, prefix.data(), static_cast<int64_t>(prefix.size())));
  uint64_t length = 0;
  for (size_t i = prefix.size(); i-- > 0;) length = length << 8 | static_cast<unsigned char>(prefix[i]);
  // A length that lies is left to the parser, which refuses it from the eight bytes alone.
  if (prefix.size() == 8 && length <= static_cast<uint64_t>(kMaxSafetensorsHeaderBytes) &&
      static_cast<int64_t>(length) <= file.bytes() - 8) {
    prefix.resize(8 + length);
    TANREN_RETURN_IF_ERROR(file.ReadAt(8, prefix.data() + 8, static_cast<int64_t>(length)));
  }
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensors(prefix, file.bytes());
  if (!header.ok()) return At(file.path(), header.status());
  opened.header_ = *std::move(header);
  return opened;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  // The path is the user's own and may be a link (the Hugging Face cache is made of links); files that a file
  // names are opened with OpenAt, which follows none.
  const std::unique_ptr<char, void (*)(void*)> resolved(realpath(path.c_str(), nullptr), free);
  if (resolved == nullptr) return absl::NotFoundError(absl::StrCat(path, ": ", strerror(errno)));
  TANREN_ASSIGN_OR_RETURN(const auto place, SplitPath(resolved.get()));
  return OpenAt(place.first, place.second);
}

absl::Status SafetensorsFile::ReadPart(const SafetensorsEntry& entry, int64_t begin, void* out,
                                       int64_t bytes) const {
  if (begin < 0 || bytes < 0 || begin > entry.bytes() || bytes > entry.bytes() - begin) {
    return InvalidInput("%s: tensor \"%s\" has %d bytes; %d from byte %d were asked for", file_.path(),
                        Escaped(entry.name), entry.bytes(), bytes, begin);
  }
  return file_.ReadAt(header_.data_offset + entry.begin + begin, out, bytes);
}

absl::Status SafetensorsFile::Read(std::string_view name, void* out, int64_t bytes) const {
  const SafetensorsEntry* entry = header_.Find(name);
  if (entry == nullptr) return InvalidInput("%s: no tensor \"%s\"", file_.path(), Escaped(name));
  if (!entry->dtype.has_value()) {
    return InvalidInput("%s: tensor \"%s\" has dtype %s, which Tanren does not read", file_.path(),
                        Escaped(name), entry->dtype_name);
  }
  if (bytes != entry->bytes()) {
    return InvalidInput("%s: tensor \"%s\" has %d bytes, %d were expected", file_.path(), Escaped(name),
                        entry->bytes(), bytes);
  }
  return ReadPart(*entry, 0, out, bytes);
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const SafetensorsSpec> specs,
                              absl::Span<const void* const> data,
                              const std::map<std::string, std::string>& metadata) {
  TANREN_CHECK(specs.size() == data.size());
  absl::StatusOr<SafetensorsPlan> plan = PlanSafetensors(specs, metadata);
  if (!plan.ok()) return At(path, plan.status());
  TANREN_ASSIGN_OR_RETURN(const auto place, SplitPath(path));
  const auto& [directory, name] = place;
  TANREN_ASSIGN_OR_RETURN(const bool taken, directory.Has(name));
  if (taken) return absl::AlreadyExistsError(absl::StrCat(path, " exists and is not replaced"));
  const std::string temporary = absl::StrCat(name, ".tmp-", getpid());
  absl::Status status = WriteData(directory, temporary, *plan, specs, data);
  if (status.ok()) status = directory.Rename(temporary, name);
  if (status.ok()) return directory.Sync();
  (void)directory.Remove(temporary);  // best effort: the first error is the one to report
  return status;
}

}  // namespace tanren
