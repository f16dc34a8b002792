// One YAML scalar into one field of a message.
#ifndef TANREN_CORE_CONFIG_FIELD_VALUE_H_
#define TANREN_CORE_CONFIG_FIELD_VALUE_H_

#include <string>

#include "core/config/yaml_tree.h"
#include "google/protobuf/message.h"

namespace tanren::config {

// Sets the singular field, or element `index` of the list (index = size appends), from a scalar node. `field`
// is not a message. Returns "" or what is wrong, in which case nothing is set: the type, the text, the range,
// the choice.
std::string SetFieldFromScalar(const YamlNode& node, google::protobuf::Message* message,
                               const google::protobuf::FieldDescriptor* field, int index);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_FIELD_VALUE_H_
