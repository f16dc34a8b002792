// `tanren config show|validate|schema|table`.
#ifndef TANREN_LAUNCH_CONFIG_VERBS_H_
#define TANREN_LAUNCH_CONFIG_VERBS_H_

#include <iostream>
#include <ostream>
#include <span>
#include <string>

namespace tanren {

// Each returns the exit code: 0, or 2 after writing one line per error to `errors`. Loads the plugins that
// the config names.

// The resolved config with every default, as YAML that can be run again; its SHA-256 is the config's hash.
int ConfigShow(const std::string& path, std::span<const std::string> overrides, std::ostream& out = std::cout,
               std::ostream& errors = std::cerr);

// One line with the path and the hash of the resolved config.
int ConfigValidate(const std::string& path, std::span<const std::string> overrides,
                   std::ostream& out = std::cout, std::ostream& errors = std::cerr);

// The JSON schema of a config file, with the options of these plugins.
int ConfigSchema(std::span<const std::string> plugins, std::ostream& out = std::cout,
                 std::ostream& errors = std::cerr);

// The tables of docs/config.md, with the options of these plugins.
int ConfigTable(std::span<const std::string> plugins, std::ostream& out = std::cout,
                std::ostream& errors = std::cerr);

}  // namespace tanren

#endif  // TANREN_LAUNCH_CONFIG_VERBS_H_
