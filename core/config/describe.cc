// The schema for editors and for people.
#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/config/config.h"
#include "core/config/schema.h"
#include "core/config/text.h"
#include "nlohmann/json.hpp"

namespace tanren::config {
namespace {

using Json = nlohmann::ordered_json;

std::string DefinitionName(const Descriptor* message) {
  const bool in_tree = message->file()->package() == Config::descriptor()->file()->package();
  return in_tree ? message->name() : message->full_name();
}

// Whole bounds of integers are written as integers.
Json Bound(const FieldDescriptor* field, double bound) {
  const bool is_number = field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE ||
                         field->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT;
  return is_number ? Json(bound) : Json(static_cast<int64_t>(bound));
}

void AddRange(const FieldDescriptor* field, Json* value) {
  const FieldRules& rules = RulesOf(field);
  if (rules.has_minimum()) (*value)["minimum"] = Bound(field, rules.minimum());
  if (rules.has_above()) (*value)["exclusiveMinimum"] = Bound(field, rules.above());
  if (rules.has_maximum()) (*value)["maximum"] = Bound(field, rules.maximum());
  if (rules.has_below()) (*value)["exclusiveMaximum"] = Bound(field, rules.below());
}

// One value: of a singular field, or an element of a list.
Json ValueSchema(const FieldDescriptor* field) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return Json{{"$ref", absl::StrCat("#/$defs/", DefinitionName(field->message_type()))}};
  }
  if (const auto choices = ChoicesOf(field); !choices.empty()) return Json{{"enum", choices}};
  Json value;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      value["type"] = "string";
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      value["type"] = "boolean";
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      value["type"] = "number";
      break;
    default:
      value["type"] = "integer";
  }
  AddRange(field, &value);
  return value;
}

Json DefaultOf(const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return field->default_value_int32();
    case FieldDescriptor::CPPTYPE_INT64:
      return field->default_value_int64();
    case FieldDescriptor::CPPTYPE_UINT32:
      return field->default_value_uint32();
    case FieldDescriptor::CPPTYPE_UINT64:
      return field->default_value_uint64();
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return field->default_value_double();
    case FieldDescriptor::CPPTYPE_FLOAT:
      return field->default_value_float();
    case FieldDescriptor::CPPTYPE_BOOL:
      return field->default_value_bool();
    case FieldDescriptor::CPPTYPE_ENUM:
      return field->default_value_enum()->name();
    default:
      return field->default_value_string();
  }
}

std::string Description(const FieldDescriptor* field) {
  const FieldRules& rules = RulesOf(field);
  std::string text = rules.help();
  if (rules.has_unit()) absl::StrAppend(&text, " (", rules.unit(), ")");
  if (rules.required()) absl::StrAppend(&text, " (required)");
  return text;
}

Json PropertySchema(const FieldDescriptor* field) {
  Json property =
      field->is_repeated() ? Json{{"type", "array"}, {"items", ValueSchema(field)}} : ValueSchema(field);
  if (const std::string text = Description(field); !text.empty()) property["description"] = text;
  if (!field->is_repeated() && field->has_default_value()) property["default"] = DefaultOf(field);
  return property;
}

Json SectionSchema(const Descriptor* message) {
  Json properties = Json::object();
  properties["include"] = {
      {"description", "YAML files read into this section first; relative to the file that names them"},
      {"anyOf", {{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}}}};
  for (const FieldDescriptor* field : FieldsOf(message)) {
    if (IsSupported(field)) properties[KeyOf(field)] = PropertySchema(field);
  }
  return Json{{"type", "object"}, {"additionalProperties", false}, {"properties", properties}};
}

// Every type of section under `message`, in the order of first use.
void CollectSections(const Descriptor* message, std::vector<const Descriptor*>* sections) {
  for (const FieldDescriptor* field : FieldsOf(message)) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || !IsSupported(field)) continue;
    if (std::find(sections->begin(), sections->end(), field->message_type()) != sections->end()) continue;
    sections->push_back(field->message_type());
    CollectSections(field->message_type(), sections);
  }
}

std::string TypeText(const FieldDescriptor* field) {
  std::string type = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE
                         ? "section"
                         : ValueSchema(field).value("type", "");
  if (const auto choices = ChoicesOf(field); !choices.empty()) type = absl::StrJoin(choices, ", ");
  if (RulesOf(field).path()) type = "path";
  return field->is_repeated() ? absl::StrCat("list of ", type, "s") : type;
}

std::string DefaultText(const FieldDescriptor* field) {
  if (RulesOf(field).required()) return "required";
  if (field->is_repeated()) return "empty";
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return "";
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && field->default_value_string().empty())
    return "empty";
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    return absl::StrCat("`", FormatNumber(field->default_value_double()), "`");
  }
  const Json value = DefaultOf(field);
  if (!value.is_string()) return absl::StrCat("`", value.dump(), "`");
  // One line of a table.
  return absl::StrCat(
      "`", absl::StrReplaceAll(value.get<std::string>(), {{"\n", "\\n"}, {"\t", "\\t"}, {"|", "\\|"}}), "`");
}

void AppendSection(const Descriptor* message, const std::string& path,
                   std::vector<const Descriptor*>* parents, std::string* out) {
  if (!path.empty()) absl::StrAppend(out, "\n");
  absl::StrAppend(out, "## ", path.empty() ? "Top level" : absl::StrCat("`", path, "`"),
                  "\n\n| key | type | default | range | meaning |\n|---|---|---|---|---|\n");
  parents->push_back(message);
  std::vector<const FieldDescriptor*> sections;
  for (const FieldDescriptor* field : FieldsOf(message)) {
    if (!IsSupported(field)) continue;
    const FieldRules& rules = RulesOf(field);
    const std::string range = RangeText(rules);
    absl::StrAppend(out, "| `", KeyOf(field), "` | ", TypeText(field), " | ", DefaultText(field), " | ",
                    range, rules.has_unit() && !range.empty() ? " " : "", rules.unit(), " | ",
                    absl::StrReplaceAll(rules.help(), {{"|", "\\|"}, {" * ", " &times; "}}), " |\n");
    const bool is_new = std::find(parents->begin(), parents->end(), field->message_type()) == parents->end();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && is_new) sections.push_back(field);
  }
  for (const FieldDescriptor* field : sections) {
    const std::string section = JoinPath(path, KeyOf(field));
    AppendSection(field->message_type(), field->is_repeated() ? section + ".N" : section, parents, out);
  }
  parents->pop_back();
}

}  // namespace

std::string JsonSchema(const Descriptor* root, const std::string& title) {
  Json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title}};
  schema.update(SectionSchema(root));
  std::vector<const Descriptor*> sections;
  CollectSections(root, &sections);
  for (const Descriptor* section : sections)
    schema["$defs"][DefinitionName(section)] = SectionSchema(section);
  return schema.dump(2) + "\n";
}

std::string MarkdownTable(const Descriptor* root) {
  std::string out;
  std::vector<const Descriptor*> parents;
  AppendSection(root, "", &parents, &out);
  return out;
}

}  // namespace tanren::config
