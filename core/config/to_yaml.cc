// A Config as YAML, and its hash.
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/config/config.h"
#include "core/config/schema.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

// Words and paths that no YAML reader takes for anything but a string go without quotes.
bool IsPlain(std::string_view text) {
  static constexpr std::string_view kReserved[] = {"true", "false", "null", "yes", "no",
                                                   "on",   "off",   "y",    "n"};
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (text.empty() || !(is_letter(text[0]) || (text[0] == '/' && text.size() > 1))) return false;
  std::string lower;
  for (char c : text) {
    if (!is_letter(c) && !(c >= '0' && c <= '9') && c != '/' && c != '.' && c != '-') return false;
    lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return std::find(std::begin(kReserved), std::end(kReserved), lower) == std::end(kReserved);
}

std::string QuotedText(std::string_view text) {
  TANREN_CHECK_MSG(FirstInvalidUtf8(text) == text.npos, "a string of the config is not UTF-8");
  std::string out = "\"";
  for (size_t position = 0; position < text.size();) {
    const size_t start = position;
    const char32_t c = NextCodePoint(text, &position);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", View(text.substr(start, 1)));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (IsUnprintable(c) || c == 0x85) {
      out += absl::StrFormat("\\U%08x", static_cast<uint32_t>(c));
    } else {
      out.append(text.substr(start, position - start));
    }
  }
  return out += '"';
}

// YAML 1.1 readers, PyYAML among them, take 1e-8 for a string; 1.0e-8 and 1.0e+20 are numbers to all.
std::string NumberText(double value) {
  std::string text = FormatNumber(value);
  const size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  if (text[exponent + 1] != '-') text.insert(exponent + 1, 1, '+');
  if (text.find('.') == std::string::npos) text.insert(exponent, ".0");
  return text;
}

// A float's own digits: 0.1f is written 0.1, not the double next to it.
std::string NumberText(float value) {
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  TANREN_CHECK(error == std::errc());
  double digits = 0;
  std::from_chars(buffer, end, digits);
  return NumberText(digits);
}

// Element `index` of a list, or a singular field with index -1.
std::string ScalarText(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection* r = message.GetReflection();
  const bool single = index < 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(single ? r->GetInt32(message, field) : r->GetRepeatedInt32(message, field, index));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(single ? r->GetInt64(message, field) : r->GetRepeatedInt64(message, field, index));
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(single ? r->GetUInt32(message, field)
                                 : r->GetRepeatedUInt32(message, field, index));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(single ? r->GetUInt64(message, field)
                                 : r->GetRepeatedUInt64(message, field, index));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberText(single ? r->GetDouble(message, field) : r->GetRepeatedDouble(message, field, index));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return NumberText(single ? r->GetFloat(message, field) : r->GetRepeatedFloat(message, field, index));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (single ? r->GetBool(message, field) : r->GetRepeatedBool(message, field, index)) ? "true"
                                                                                               : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return (single ? r->GetEnum(message, field) : r->GetRepeatedEnum(message, field, index))->name();
    default: {
      const std::string text =
          single ? r->GetString(message, field) : r->GetRepeatedString(message, field, index);
      return IsPlain(text) ? text : QuotedText(text);
    }
  }
}

class Writer {
 public:
  explicit Writer(bool with_defaults) : with_defaults_(with_defaults) {}

  std::string Write(const Message& message) {
    WriteSection(message, "");
    return std::move(out_);
  }

 private:
  // Whether the section has anything to write.
  bool WriteSection(const Message& message, const std::string& indent) {
    const size_t start = out_.size();
    parents_.push_back(message.GetDescriptor());
    for (const FieldDescriptor* field : FieldsOf(message.GetDescriptor())) {
      if (!IsSupported(field)) continue;
      if (field->is_repeated()) {
        WriteList(message, field, indent);
      } else if (IsWritten(message, field)) {
        WriteSingle(message, field, indent);
      }
    }
    parents_.pop_back();
    return out_.size() > start;
  }

  bool IsWritten(const Message& message, const FieldDescriptor* field) const {
    if (message.GetReflection()->HasField(message, field)) return true;
    if (!with_defaults_ || field->is_extension()) return false;
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return !RulesOf(field).required();
    return std::find(parents_.begin(), parents_.end(), field->message_type()) == parents_.end();
  }

  void WriteSingle(const Message& message, const FieldDescriptor* field, const std::string& indent) {
    const std::string key = absl::StrCat(indent, KeyText(field), ":");
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      absl::StrAppend(&out_, key, " ", ScalarText(message, field, -1), "\n");
      return;
    }
    const size_t start = out_.size();
    absl::StrAppend(&out_, key, "\n");
    if (!WriteSection(message.GetReflection()->GetMessage(message, field), indent + "  ")) {
      out_.resize(start);
      absl::StrAppend(&out_, key, " {}\n");
    }
  }

  void WriteList(const Message& message, const FieldDescriptor* field, const std::string& indent) {
    const Reflection* reflection = message.GetReflection();
    const int size = reflection->FieldSize(message, field);
    if (size == 0 && !(with_defaults_ && !field->is_extension())) return;
    absl::StrAppend(&out_, indent, KeyText(field), size == 0 ? ": []\n" : ":\n");
    for (int i = 0; i < size; ++i) {
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
        absl::StrAppend(&out_, indent, "  - ", ScalarText(message, field, i), "\n");
        continue;
      }
      const size_t start = out_.size();
      if (WriteSection(reflection->GetRepeatedMessage(message, field, i), indent + "    ")) {
        out_[start + indent.size() + 2] = '-';  // "    key" becomes "  - key"
      } else {
        absl::StrAppend(&out_, indent, "  - {}\n");
      }
    }
  }

  static std::string KeyText(const FieldDescriptor* field) {
    const std::string key = KeyOf(field);
    return key[0] == '[' ? absl::StrCat("\"", key, "\"") : key;
  }

  bool with_defaults_;
  std::string out_;
  std::vector<const Descriptor*> parents_;
};

}  // namespace

std::string ToYaml(const Config& config, bool with_defaults) { return Writer(with_defaults).Write(config); }

std::string ConfigHash(const Config& config) {
  const std::string text = ToYaml(config, true);
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned int size = 0;
  TANREN_CHECK(EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(digest.data()), &size,
                          EVP_sha256(), nullptr) == 1);
  digest.resize(size);
  return absl::BytesToHexString(digest);
}

}  // namespace tanren::config
