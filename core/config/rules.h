// What a config must satisfy beyond the type and range of each value.
#ifndef TANREN_CORE_CONFIG_RULES_H_
#define TANREN_CORE_CONFIG_RULES_H_

#include "core/config/error_report.h"
#include "core/proto/config.pb.h"

namespace tanren::config {

// Types, ranges and choices of every value that is set. For messages made in code: the loader checks as it
// reads.
void CheckValues(const google::protobuf::Message& message, ErrorReport* report);

// Required fields, in every section in the tree and in those of plugins that are present.
void CheckRequired(const google::protobuf::Message& message, ErrorReport* report);

// Rules between values; each message names the values and the way out. `config` as written, not resolved.
void CheckRules(const Config& config, ErrorReport* report);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_RULES_H_
