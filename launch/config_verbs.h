// `tanren config show|validate|schema|table`.
#ifndef TANREN_LAUNCH_CONFIG_VERBS_H_
#define TANREN_LAUNCH_CONFIG_VERBS_H_

#include <iostream>
#include <ostream>
#include <span>
#include <string>

namespace tanren {

// Each returns the exit code: 0, or 2 after writing one line per error to `errors`. Plugins that the config
// names must be loaded before, or their keys are unknown (config::PluginsOf).

// The resolved config with every default, as YAML that can be run again; its SHA-256 is the config's hash.
int ConfigShow(const std::string& path, std::span<const std::string> overrides, std::ostream& out = std::cout,
               std::ostream& errors = std::cerr);

// One line with the path and the hash of the resolved config.
int ConfigValidate(const std::string& path, std::span<const std::string> overrides,
                   std::ostream& out = std::cout, std::ostream& errors = std::cerr);

// The JSON schema of a config file.
int ConfigSchema(std::ostream& out = std::cout);

// The tables of docs/config.md.
int ConfigTable(std::ostream& out = std::cout);

}  // namespace tanren

#endif  // TANREN_LAUNCH_CONFIG_VERBS_H_
