#include "core/config/schema.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

using google::protobuf::DescriptorPool;

constexpr size_t kLongestName = 64;  // longer keys are nobody's typing error

std::vector<const FieldDescriptor*> ExtensionsOf(const Descriptor* message) {
  std::vector<const FieldDescriptor*> extensions;
  if (message->extension_range_count() > 0) {
    DescriptorPool::generated_pool()->FindAllExtensions(message, &extensions);
    std::sort(extensions.begin(), extensions.end(),
              [](const auto* a, const auto* b) { return a->full_name() < b->full_name(); });
  }
  return extensions;
}

// Both bounds as text, "" where open.
struct Bounds {
  std::string lower, upper;
};

Bounds BoundsOf(const FieldRules& rules) {
  Bounds bounds;
  if (rules.has_minimum()) bounds.lower = absl::StrCat("[", FormatNumber(rules.minimum()));
  if (rules.has_above()) bounds.lower = absl::StrCat("(", FormatNumber(rules.above()));
  if (rules.has_maximum()) bounds.upper = absl::StrCat(FormatNumber(rules.maximum()), "]");
  if (rules.has_below()) bounds.upper = absl::StrCat(FormatNumber(rules.below()), ")");
  return bounds;
}

// `Number` is wide enough to compare every value with every bound exactly.
template <class Number>
bool IsInRange(const FieldRules& rules, Number value) {
  return !(rules.has_minimum() && value < rules.minimum()) &&
         !(rules.has_above() && value <= rules.above()) &&
         !(rules.has_maximum() && value > rules.maximum()) && !(rules.has_below() && value >= rules.below());
}

std::string OutOfRange(const FieldRules& rules, const std::string& value) {
  const Bounds bounds = BoundsOf(rules);
  return absl::StrCat(value, !bounds.lower.empty() && !bounds.upper.empty() ? " is outside " : " is not ",
                      RangeText(rules));
}

// The way a key is compared with names: other spellings of the same letters are no distance.
std::string Normalised(std::string_view key) {
  std::string name = absl::AsciiStrToLower(View(key));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// No suggestion is this far.
constexpr int kFar = 1 << 20;

int Distance(std::string_view key, std::string_view name) {
  if (key.size() > kLongestName) return kFar;
  const int distance = EditDistance(key, name);
  const int limit = static_cast<int>(std::min(key.size(), name.size())) / 3;  // none for two letters
  return distance <= limit ? distance : kFar;
}

bool IsIndex(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// data.train.3 -> data.train.N, the form in which ForEachField names elements.
std::string WithoutIndices(std::string_view path) {
  std::vector<std::string> parts = absl::StrSplit(View(path), '.');
  for (std::string& part : parts) {
    if (IsIndex(part)) part.assign(1, 'N');
  }
  return absl::StrJoin(parts, ".");
}

void Visit(const Descriptor* message, const std::string& section, std::vector<const Descriptor*>* parents,
           const std::function<void(const std::string&, const FieldDescriptor*)>& visit) {
  parents->push_back(message);
  for (const FieldDescriptor* field : FieldsOf(message)) {
    const std::string path = JoinPath(section, KeyOf(field));
    visit(path, field);
    const bool is_section = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && IsSupported(field);
    // A message that holds itself, in some plugin, is described once.
    if (is_section && std::find(parents->begin(), parents->end(), field->message_type()) == parents->end()) {
      Visit(field->message_type(), field->is_repeated() ? path + ".N" : path, parents, visit);
    }
  }
  parents->pop_back();
}

}  // namespace

const FieldRules& RulesOf(const FieldDescriptor* field) {
  return field->options().GetExtension(tanren::config::field);
}

std::vector<const FieldDescriptor*> FieldsOf(const Descriptor* message) {
  std::vector<const FieldDescriptor*> fields;
  for (int i = 0; i < message->field_count(); ++i) fields.push_back(message->field(i));
  const auto extensions = ExtensionsOf(message);
  fields.insert(fields.end(), extensions.begin(), extensions.end());
  return fields;
}

std::string KeyOf(const FieldDescriptor* field) {
  if (!field->is_extension()) return field->name();
  bool taken =
      field->containing_type()->FindFieldByName(field->name()) != nullptr || field->name() == "include";
  for (const FieldDescriptor* other : ExtensionsOf(field->containing_type())) {
    taken = taken || (other != field && other->name() == field->name());
  }
  return taken ? absl::StrCat("[", field->full_name(), "]") : field->name();
}

const FieldDescriptor* FindField(const Descriptor* message, std::string_view key) {
  if (const FieldDescriptor* field = message->FindFieldByName(std::string(key))) return field;
  for (const FieldDescriptor* extension : ExtensionsOf(message)) {
    if (key == KeyOf(extension) || key == absl::StrCat("[", extension->full_name(), "]")) return extension;
  }
  return nullptr;
}

bool IsSupported(const FieldDescriptor* field) {
  return field->type() != FieldDescriptor::TYPE_BYTES && field->type() != FieldDescriptor::TYPE_GROUP &&
         !field->is_map();
}

std::string ExpectedText(const FieldDescriptor* field) {
  const std::vector<std::string> choices = ChoicesOf(field);
  if (!choices.empty()) return absl::StrCat("one of ", absl::StrJoin(choices, ", "));
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "a section of keys and values";
    case FieldDescriptor::CPPTYPE_STRING:
      return "a string";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return "a number";
    default:
      return "an integer";
  }
}

std::vector<std::string> ChoicesOf(const FieldDescriptor* field) {
  std::vector<std::string> choices;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    for (int i = 0; i < field->enum_type()->value_count(); ++i) {
      choices.push_back(field->enum_type()->value(i)->name());
    }
  } else {
    const auto& names = RulesOf(field).one_of();
    choices.assign(names.begin(), names.end());
  }
  return choices;
}

std::string RangeText(const FieldRules& rules) {
  const Bounds bounds = BoundsOf(rules);
  if (!bounds.lower.empty() && !bounds.upper.empty()) return absl::StrCat(bounds.lower, ", ", bounds.upper);
  if (!bounds.lower.empty()) return absl::StrCat(rules.has_above() ? "> " : ">= ", bounds.lower.substr(1));
  if (bounds.upper.empty()) return "";
  return absl::StrCat(rules.has_below() ? "< " : "<= ", bounds.upper.substr(0, bounds.upper.size() - 1));
}

std::string CheckRange(const FieldRules& rules, double value) {
  return IsInRange<double>(rules, value) ? "" : OutOfRange(rules, FormatNumber(value));
}

std::string CheckRange(const FieldRules& rules, int64_t value) {
  return IsInRange<long double>(rules, value) ? "" : OutOfRange(rules, absl::StrCat(value));
}

std::string CheckChoice(const FieldDescriptor* field, const std::string& value) {
  const std::vector<std::string> choices = ChoicesOf(field);
  if (choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end()) return "";
  return absl::StrCat(value.empty() ? "''" : Printable(value), " is not one of ",
                      absl::StrJoin(choices, ", "), SuggestChoice(choices, value));
}

std::string SuggestKey(const Descriptor* root, std::string_view section, std::string_view key) {
  const std::string name = Normalised(key), here = WithoutIndices(section), full = JoinPath(here, name);
  int best = kFar;
  bool is_dotted_path = false;
  std::vector<std::string> nearest;
  ForEachField(root, [&](const std::string& path, const FieldDescriptor* field) {
    const std::string parent = path.substr(0, path.size() - std::min(path.size(), KeyOf(field).size() + 1));
    const bool is_here = parent == here;
    is_dotted_path = is_dotted_path || (path == full && absl::StrContains(View(key), "."));
    int distance = Distance(name, KeyOf(field));
    const auto& others = RulesOf(field).other_names();
    if (std::find(others.begin(), others.end(), name) != others.end()) distance = 0;
    if (distance == kFar) return;
    // A key of this section that is one letter off is as near as the very name elsewhere.
    const int cost = distance + (is_here ? 0 : 1);
    if (cost < best) nearest.clear();
    best = std::min(best, cost);
    if (cost == best) nearest.push_back(is_here ? JoinPath(section, KeyOf(field)) : path);
  });
  if (is_dotted_path) {
    const size_t dot = key.find('.');
    return absl::StrCat("; in a file keys are nested: ", View(key.substr(0, dot)), ": {",
                        View(key.substr(dot + 1)), ": ...}");
  }
  if (nearest.empty() || nearest.size() > 4) return "";
  return absl::StrCat("; did you mean ", JoinWithOr(nearest), "?");
}

std::string SuggestChoice(const std::vector<std::string>& choices, std::string_view value) {
  const std::string name = Normalised(value);
  std::vector<std::string> nearest;
  int best = kFar;
  for (const std::string& choice : choices) {
    const int distance = Distance(name, choice);
    if (distance < best) nearest.clear();
    best = std::min(best, distance);
    if (distance == best && distance < kFar) nearest.push_back(choice);
  }
  return nearest.empty() ? "" : absl::StrCat("; did you mean ", JoinWithOr(nearest), "?");
}

void ForEachField(const Descriptor* root,
                  const std::function<void(const std::string&, const FieldDescriptor*)>& visit) {
  std::vector<const Descriptor*> parents;
  Visit(root, "", &parents, visit);
}

}  // namespace tanren::config
