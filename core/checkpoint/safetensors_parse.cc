// The header of a safetensors file: a SAX pass that keeps no document tree, then the checks across entries.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/status.h"
#include "core/checkpoint/region.h"
#include "core/checkpoint/safetensors.h"

namespace tanren {
namespace {

struct TypeRow {
  const char* name;
  int64_t bytes;
  std::optional<DType> dtype;
};

// The format's types, in its order.
const TypeRow kTypes[] = {
    {"BOOL", 1, {}},           {"U8", 1, DType::kU8},   {"I8", 1, {}},  {"F8_E5M2", 1, {}},
    {"F8_E4M3", 1, {}},        {"I16", 2, {}},          {"U16", 2, {}}, {"F16", 2, DType::kF16},
    {"BF16", 2, DType::kBF16}, {"I32", 4, DType::kI32}, {"U32", 4, {}}, {"F32", 4, DType::kF32},
    {"F64", 8, DType::kF64},   {"I64", 8, DType::kI64}, {"U64", 8, {}},
};

const TypeRow* FindType(std::string_view name) {
  for (const TypeRow& row : kTypes) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

// Accepts exactly {"name": {"dtype": "..", "shape": [..], "data_offsets": [a, b]}, "__metadata__": {"k":
// "v"}}.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(SafetensorsHeader* header) : header_(header) {}
  const std::string& error() const { return error_; }

  bool null() override { return Fail("null"); }
  bool boolean(bool) override { return Fail("a boolean"); }
  bool number_integer(number_integer_t) override { return Fail("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override { return Fail("the number " + text); }
  bool binary(binary_t&) override { return Fail("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != kShape && state_ != kOffsets) return Fail("a number");
    if (value > static_cast<uint64_t>(INT64_MAX))
      return Fail("the number " + std::to_string(value) + ", beyond 2^63");
    if (state_ == kShape) {
      if (entry_.shape.size() == kMaxTensorRank) return Fail("more than 16 dims");
      entry_.shape.push_back(static_cast<int64_t>(value));
    } else {
      if (offsets_ == 2) return Fail("a third data offset");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = static_cast<int64_t>(value);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == kMetadata) {
      header_->metadata[key_] = value;
      return true;
    }
    if (state_ != kEntry || key_ != "dtype") return Fail("a string");
    entry_.dtype_name = value;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == kStart) {
      state_ = kTop;
    } else if (state_ == kTop && key_ == "__metadata__") {
      state_ = kMetadata;
      fields_.clear();
    } else if (state_ == kTop) {
      state_ = kEntry;
      entry_ = SafetensorsEntry{};
      entry_.name = key_;
      offsets_ = 0;
      fields_.clear();
    } else {
      return Fail("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    std::set<std::string>& seen = state_ == kTop ? names_ : fields_;
    if (!seen.insert(name).second) return Fail("the key \"" + Escaped(name) + "\" twice");
    if (state_ == kEntry && name != "dtype" && name != "shape" && name != "data_offsets") {
      return Fail("the unknown field \"" + Escaped(name) + "\"");
    }
    key_ = name;
    return true;
  }

  bool end_object() override {
    if (state_ == kEntry) {
      if (fields_.size() != 3) return Fail("an entry without dtype, shape or data_offsets");
      header_->entries.push_back(std::move(entry_));
      state_ = kTop;
    } else {
      state_ = state_ == kMetadata ? kTop : kEnd;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ != kEntry || key_ == "dtype") return Fail("an array");
    state_ = key_ == "shape" ? kShape : kOffsets;
    return true;
  }

  bool end_array() override {
    if (state_ == kOffsets && offsets_ != 2) return Fail("fewer than two data offsets");
    state_ = kEntry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_ = "header is not valid JSON in UTF-8 at byte " + std::to_string(position);
    return false;
  }

 private:
  enum State { kStart, kTop, kMetadata, kEntry, kShape, kOffsets, kEnd };

  bool Fail(const std::string& what) {
    error_ = "header has " + what;
    const bool inside = state_ == kEntry || state_ == kShape || state_ == kOffsets;
    if (inside) error_ += " in tensor \"" + Escaped(entry_.name) + "\"";
    if (state_ == kMetadata) error_ += " in __metadata__";
    return false;
  }

  SafetensorsHeader* header_;
  State state_ = kStart;
  std::set<std::string> names_, fields_;
  std::string key_, error_;
  SafetensorsEntry entry_;
  int offsets_ = 0;
};

// The entry's type is known and its byte range is what its type and shape need.
absl::Status CheckEntry(SafetensorsEntry* entry) {
  const TypeRow* type = FindType(entry->dtype_name);
  if (type == nullptr) return InvalidInput("unknown dtype \"%s\"", Escaped(entry->dtype_name));
  entry->dtype = type->dtype;
  TANREN_ASSIGN_OR_RETURN(const int64_t elements, CountElements(entry->shape));
  if (entry->end < entry->begin)
    return InvalidInput("data offsets [%d, %d] run backwards", entry->begin, entry->end);
  if (entry->bytes() != elements * type->bytes) {
    return InvalidInput("data offsets [%d, %d] hold %d bytes, dtype %s and shape %s need %d", entry->begin,
                        entry->end, entry->bytes(), type->name, ShapeToString(entry->shape),
                        elements * type->bytes);
  }
  return absl::OkStatus();
}

absl::Status CheckLayout(SafetensorsHeader* header, int64_t data_bytes) {
  std::sort(header->entries.begin(), header->entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t position = 0;
  for (SafetensorsEntry& entry : header->entries) {
    TANREN_RETURN_IF_ERROR(At("tensor \"" + Escaped(entry.name) + "\"", CheckEntry(&entry)));
    if (entry.begin != position) {
      return InvalidInput("tensor \"%s\": data begins at byte %d, the tensor before it ends at byte %d: %s",
                          Escaped(entry.name), entry.begin, position,
                          entry.begin > position ? "a hole" : "an overlap");
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    return InvalidInput("the tensors hold %d bytes, the file has %d after its header: %s", position,
                        data_bytes, position > data_bytes ? "truncated" : "trailing bytes");
  }
  return absl::OkStatus();
}

}  // namespace

const char* SafetensorsName(DType dtype) {
  for (const TypeRow& row : kTypes) {
    if (row.dtype == dtype) return row.name;
  }
  return "?";
}

const SafetensorsEntry* SafetensorsHeader::Find(std::string_view name) const {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensors(std::string_view prefix, int64_t file_bytes) {
  if (file_bytes < 8 || prefix.size() < 8)
    return InvalidInput("%d bytes: too short for a safetensors file", file_bytes);
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(prefix[i]);
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return InvalidInput("header of %d bytes, at most %d are read", length, kMaxSafetensorsHeaderBytes);
  }
  if (length > static_cast<uint64_t>(file_bytes) - 8 || length > prefix.size() - 8) {
    return InvalidInput("header of %d bytes in a file of %d: truncated", length, file_bytes);
  }
  const std::string_view text = prefix.substr(8, length);
  if (text.empty() || text[0] != '{') return InvalidInput("header does not begin with '{'");
  // The JSON library takes NUL for the end of its input and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    return InvalidInput("header is not valid JSON in UTF-8 at byte %d: NUL", nul);
  }
  SafetensorsHeader header;
  header.data_offset = 8 + static_cast<int64_t>(length);
  HeaderHandler handler(&header);
  try {
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &handler))
      return InvalidInput("%s", handler.error());
  } catch (const std::exception& e) {
    return InvalidInput("header cannot be parsed: %s", e.what());
  }
  TANREN_RETURN_IF_ERROR(CheckLayout(&header, file_bytes - header.data_offset));
  return header;
}

}  // namespace tanren
