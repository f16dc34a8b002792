#include "core/config/field_value.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/config/scalars.h"
#include "core/config/schema.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Reflection has one trio of functions per type; this picks among the three.
template <class Value, class Set, class Add, class SetElement>
void Put(Message* message, const FieldDescriptor* field, int index, Value value, Set set, Add add,
         SetElement set_element) {
  const Reflection* reflection = message->GetReflection();
  if (!field->is_repeated()) {
    (reflection->*set)(message, field, std::move(value));
  } else if (index == reflection->FieldSize(*message, field)) {
    (reflection->*add)(message, field, std::move(value));
  } else {
    (reflection->*set_element)(message, field, index, std::move(value));
  }
}

template <class Integer>
bool Fits(int64_t value) {
  return std::in_range<Integer>(value);
}

std::string SetInteger(const std::string& text, Message* message, const FieldDescriptor* field, int index) {
  int64_t value = 0;
  if (std::string problem = ParseInteger(text, &value); !problem.empty()) return problem;
  if (std::string problem = CheckRange(RulesOf(field), value); !problem.empty()) return problem;
  const std::string too_large = absl::StrCat(value, " does not fit ", field->cpp_type_name());
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      if (!Fits<int32_t>(value)) return too_large;
      Put(message, field, index, static_cast<int32_t>(value), &Reflection::SetInt32, &Reflection::AddInt32,
          &Reflection::SetRepeatedInt32);
      return "";
    case FieldDescriptor::CPPTYPE_UINT32:
      if (!Fits<uint32_t>(value)) return too_large;
      Put(message, field, index, static_cast<uint32_t>(value), &Reflection::SetUInt32, &Reflection::AddUInt32,
          &Reflection::SetRepeatedUInt32);
      return "";
    case FieldDescriptor::CPPTYPE_UINT64:
      if (!Fits<uint64_t>(value)) return too_large;
      Put(message, field, index, static_cast<uint64_t>(value), &Reflection::SetUInt64, &Reflection::AddUInt64,
          &Reflection::SetRepeatedUInt64);
      return "";
    default:
      Put(message, field, index, value, &Reflection::SetInt64, &Reflection::AddInt64,
          &Reflection::SetRepeatedInt64);
      return "";
  }
}

std::string SetNumber(const std::string& text, Message* message, const FieldDescriptor* field, int index) {
  double value = 0;
  if (std::string problem = ParseNumber(text, &value); !problem.empty()) return problem;
  if (std::string problem = CheckRange(RulesOf(field), value); !problem.empty()) return problem;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT) {
    if (std::abs(value) > std::numeric_limits<float>::max())
      return FormatNumber(value) + " does not fit float";
    Put(message, field, index, static_cast<float>(value), &Reflection::SetFloat, &Reflection::AddFloat,
        &Reflection::SetRepeatedFloat);
  } else {
    Put(message, field, index, value, &Reflection::SetDouble, &Reflection::AddDouble,
        &Reflection::SetRepeatedDouble);
  }
  return "";
}

std::string SetBoolean(const std::string& text, Message* message, const FieldDescriptor* field, int index) {
  bool value = false;
  if (std::string problem = ParseBoolean(text, &value); !problem.empty()) return problem;
  Put(message, field, index, value, &Reflection::SetBool, &Reflection::AddBool, &Reflection::SetRepeatedBool);
  return "";
}

std::string SetEnum(const std::string& text, Message* message, const FieldDescriptor* field, int index) {
  if (std::string problem = CheckChoice(field, text); !problem.empty()) return problem;
  const EnumValueDescriptor* value = field->enum_type()->FindValueByName(text);
  Put(message, field, index, value, &Reflection::SetEnum, &Reflection::AddEnum, &Reflection::SetRepeatedEnum);
  return "";
}

std::string SetString(const std::string& text, Message* message, const FieldDescriptor* field, int index) {
  // Quoted scalars can spell what the file itself may not contain.
  if (FirstInvalidUtf8(text) != std::string::npos) return absl::StrCat(Printable(text), " is not UTF-8");
  if (text.find('\0') != std::string::npos) return absl::StrCat(Printable(text), " contains a NUL character");
  if (RulesOf(field).path()) {
    for (char c : text) {
      if (static_cast<unsigned char>(c) < 0x20) return Printable(text) + " has a control character in a path";
    }
  }
  if (std::string problem = CheckChoice(field, text); !problem.empty()) return problem;
  Put(message, field, index, text, &Reflection::SetString, &Reflection::AddString,
      &Reflection::SetRepeatedString);
  return "";
}

}  // namespace

std::string SetFieldFromScalar(const YamlNode& node, Message* message, const FieldDescriptor* field,
                               int index) {
  const std::string& text = node.scalar;
  const auto type = field->cpp_type();
  if (type == FieldDescriptor::CPPTYPE_STRING) return SetString(text, message, field, index);
  if (type == FieldDescriptor::CPPTYPE_ENUM) return SetEnum(text, message, field, index);
  if (node.quoted) {
    return absl::StrCat("'", Printable(text), "' is a string; expected ", ExpectedText(field),
                        ", without quotes");
  }
  if (type == FieldDescriptor::CPPTYPE_BOOL) return SetBoolean(text, message, field, index);
  if (type == FieldDescriptor::CPPTYPE_DOUBLE || type == FieldDescriptor::CPPTYPE_FLOAT) {
    return SetNumber(text, message, field, index);
  }
  return SetInteger(text, message, field, index);
}

}  // namespace tanren::config
