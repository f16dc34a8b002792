// Checks that follow from the schema alone: values that are set, and values that must be.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/rules.h"
#include "core/config/schema.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

// Calls visit(message, path) for `message` and every section in it. Sections that are absent are visited with
// their defaults, except those of plugins and those that hold themselves.
void ForEachSection(const Message& message, const std::string& path, std::vector<const Descriptor*>* parents,
                    const std::function<void(const Message&, const std::string&)>& visit) {
  visit(message, path);
  parents->push_back(message.GetDescriptor());
  const Reflection* reflection = message.GetReflection();
  for (const FieldDescriptor* field : FieldsOf(message.GetDescriptor())) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || !IsSupported(field)) continue;
    const std::string field_path = JoinPath(path, KeyOf(field));
    if (field->is_repeated()) {
      for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
        ForEachSection(reflection->GetRepeatedMessage(message, field, i), absl::StrCat(field_path, ".", i),
                       parents, visit);
      }
      continue;
    }
    const bool holds_itself =
        std::find(parents->begin(), parents->end(), field->message_type()) != parents->end();
    if (reflection->HasField(message, field) || (!field->is_extension() && !holds_itself)) {
      ForEachSection(reflection->GetMessage(message, field), field_path, parents, visit);
    }
  }
  parents->pop_back();
}

std::string NumberProblem(const FieldDescriptor* field, double value) {
  if (!std::isfinite(value)) return absl::StrCat(std::isnan(value) ? "nan" : "inf", " is not finite");
  return CheckRange(RulesOf(field), value);
}

// Element `index` of a list, or the value of a singular field with index -1.
std::string ValueProblem(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection* r = message.GetReflection();
  const bool single = index < 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberProblem(
          field, single ? r->GetDouble(message, field) : r->GetRepeatedDouble(message, field, index));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return NumberProblem(field,
                           single ? r->GetFloat(message, field) : r->GetRepeatedFloat(message, field, index));
    case FieldDescriptor::CPPTYPE_INT64:
      return CheckRange(RulesOf(field),
                        single ? r->GetInt64(message, field) : r->GetRepeatedInt64(message, field, index));
    case FieldDescriptor::CPPTYPE_INT32:
      return CheckRange(RulesOf(field), int64_t{single ? r->GetInt32(message, field)
                                                       : r->GetRepeatedInt32(message, field, index)});
    case FieldDescriptor::CPPTYPE_UINT32:
      return CheckRange(RulesOf(field), int64_t{single ? r->GetUInt32(message, field)
                                                       : r->GetRepeatedUInt32(message, field, index)});
    case FieldDescriptor::CPPTYPE_STRING: {
      if (!IsSupported(field)) return "";
      const std::string value =
          single ? r->GetString(message, field) : r->GetRepeatedString(message, field, index);
      if (FirstInvalidUtf8(value) != std::string::npos)
        return absl::StrCat(Printable(value), " is not UTF-8");
      return CheckChoice(field, value);
    }
    default:
      return "";
  }
}

}  // namespace

void CheckValues(const Message& message, ErrorReport* report) {
  std::vector<const Descriptor*> parents;
  ForEachSection(message, "", &parents, [&](const Message& section, const std::string& path) {
    for (const FieldDescriptor* field : FieldsOf(section.GetDescriptor())) {
      const std::string field_path = JoinPath(path, KeyOf(field));
      const Reflection* reflection = section.GetReflection();
      const int size = field->is_repeated() ? reflection->FieldSize(section, field) : -1;
      for (int i = 0; i < size; ++i) {
        const std::string problem = ValueProblem(section, field, i);
        if (!problem.empty()) report->Add("", absl::StrCat(field_path, ".", i), problem);
      }
      if (field->is_repeated() || !reflection->HasField(section, field)) continue;
      const std::string problem = ValueProblem(section, field, -1);
      if (!problem.empty()) report->Add("", field_path, problem);
    }
  });
}

void CheckRequired(const Message& message, ErrorReport* report) {
  std::vector<const Descriptor*> parents;
  ForEachSection(message, "", &parents, [&](const Message& section, const std::string& path) {
    for (const FieldDescriptor* field : FieldsOf(section.GetDescriptor())) {
      if (!RulesOf(field).required() || field->is_repeated()) continue;
      const Reflection* reflection = section.GetReflection();
      const bool is_empty = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING
                                ? reflection->GetString(section, field).empty()
                                : !reflection->HasField(section, field) && !field->has_default_value();
      if (!is_empty) continue;
      report->AddRule({JoinPath(path, KeyOf(field))},
                      absl::StrCat("is required: ", RulesOf(field).help(), " (", ExpectedText(field), ")"));
    }
  });
}

}  // namespace tanren::config
