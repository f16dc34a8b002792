#include "CLI/CLI.hpp"
#include "launch/command_line.h"
#include "launch/config_verbs.h"

namespace tanren {
namespace {

struct ConfigOptions {
  std::string path;
  std::vector<std::string> overrides;
};

std::shared_ptr<ConfigOptions> AddFile(CLI::App* verb) {
  auto options = std::make_shared<ConfigOptions>();
  verb->add_option("config", options->path, "YAML file")->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the file");
  return options;
}

}  // namespace

void AddConfigVerbs(CLI::App& app, int* exit_code) {
  auto* config = app.add_subcommand("config", "Look at and check configurations");
  config->require_subcommand(1);
  auto* show = config->add_subcommand("show", "The resolved configuration, every value");
  show->callback(
      [options = AddFile(show), exit_code] { *exit_code = ConfigShow(options->path, options->overrides); });
  auto* validate = config->add_subcommand("validate", "Check a configuration; all errors at once");
  validate->callback([options = AddFile(validate), exit_code] {
    *exit_code = ConfigValidate(options->path, options->overrides);
  });
  auto* schema = config->add_subcommand("schema", "The JSON schema of configurations, for editors");
  schema->callback([exit_code] { *exit_code = ConfigSchema(); });
  auto* table = config->add_subcommand("table", "The keys as Markdown tables");
  table->callback([exit_code] { *exit_code = ConfigTable(); });
}

}  // namespace tanren
