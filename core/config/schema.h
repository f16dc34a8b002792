// The schema as the generated descriptors tell it: keys, rules and names, extensions of plugins included.
#ifndef TANREN_CORE_CONFIG_SCHEMA_H_
#define TANREN_CORE_CONFIG_SCHEMA_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/proto/options.pb.h"
#include "google/protobuf/descriptor.h"

namespace tanren::config {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

const FieldRules& RulesOf(const FieldDescriptor* field);

// Fields in the order in which they are declared, then every registered extension of the message by name.
std::vector<const FieldDescriptor*> FieldsOf(const Descriptor* message);

// The key of a field in YAML. Of an extension: the last component of its full name, or "[full.name]" where
// that is taken by a field or by another extension.
std::string KeyOf(const FieldDescriptor* field);

// The field that `key` names, or null. An extension is also found as "[full.name]".
const FieldDescriptor* FindField(const Descriptor* message, std::string_view key);

// Whether YAML can set a field of this type (not: bytes, maps, groups).
bool IsSupported(const FieldDescriptor* field);

// "an integer", "one of cpu, cuda", "a section", "a list": what a message says was expected.
std::string ExpectedText(const FieldDescriptor* field);

// The names of an enum's values, or of a string field's one_of; else empty.
std::vector<std::string> ChoicesOf(const FieldDescriptor* field);

// "[0, 1)", ">= 1", "" where there is no limit.
std::string RangeText(const FieldRules& rules);

// Empty, or why the value is refused: "1.5 is outside [0, 1)".
std::string CheckRange(const FieldRules& rules, double value);
std::string CheckRange(const FieldRules& rules, int64_t value);
std::string CheckChoice(const FieldDescriptor* field, const std::string& value);

// "; did you mean optimizer.learning_rate?", or "" when no key of `root` is near enough. `section` is the
// path of the mapping in which `key` stands, "" at the top.
std::string SuggestKey(const Descriptor* root, std::string_view section, std::string_view key);

// "; did you mean cosine?", or "".
std::string SuggestChoice(const std::vector<std::string>& choices, std::string_view value);

// Calls visit(path, field) for every field under `root`, sections before what they hold. The elements of a
// list of sections have the index N: data.train.N.path.
void ForEachField(const Descriptor* root,
                  const std::function<void(const std::string& path, const FieldDescriptor* field)>& visit);

inline std::string JoinPath(std::string_view section, std::string_view key) {
  std::string path(section);
  if (!path.empty()) path += '.';
  return path.append(key);
}

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_SCHEMA_H_
