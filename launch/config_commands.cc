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

std::shared_ptr<std::vector<std::string>> AddPlugins(CLI::App* verb) {
  auto plugins = std::make_shared<std::vector<std::string>>();
  verb->add_option("--plugin", *plugins, "A shared object whose options are described too; may be repeated");
  return plugins;
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
  schema->callback([plugins = AddPlugins(schema), exit_code] { *exit_code = ConfigSchema(*plugins); });
  auto* table = config->add_subcommand("table", "The keys as Markdown tables");
  table->callback([plugins = AddPlugins(table), exit_code] { *exit_code = ConfigTable(*plugins); });
}

}  // namespace tanren
