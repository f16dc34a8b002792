#include "core/pipeline/paths_read.h"

#include "absl/strings/str_cat.h"
#include "core/config/schema.h"

namespace tanren {
namespace {

using config::FieldDescriptor;

void Visit(const google::protobuf::Message& message, const std::string& section,
           std::vector<NamedPath>* paths) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string key = config::JoinPath(section, config::KeyOf(field));
    const bool is_path =
        field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && config::RulesOf(field).path();
    const bool is_section = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!is_path && !is_section) continue;
    const int count = field->is_repeated() ? reflection->FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      const std::string element = field->is_repeated() ? absl::StrCat(key, ".", i) : key;
      if (is_section) {
        Visit(field->is_repeated() ? reflection->GetRepeatedMessage(message, field, i)
                                   : reflection->GetMessage(message, field),
              element, paths);
        continue;
      }
      const std::string path = field->is_repeated() ? reflection->GetRepeatedString(message, field, i)
                                                    : reflection->GetString(message, field);
      if (!path.empty()) paths->push_back({element, path});
    }
  }
}

}  // namespace

std::vector<NamedPath> PathsIn(const google::protobuf::Message& message) {
  std::vector<NamedPath> paths;
  Visit(message, "", &paths);
  return paths;
}

}  // namespace tanren
