#include "CLI/CLI.hpp"
#include "launch/command_line.h"
#include "launch/config_verbs.h"
#include "launch/submit_verb.h"
#include "launch/suite_verb.h"

namespace tanren {
namespace {

struct ConfigOptions {
  bool suite = false;
  bool pipeline = false;
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

void AddSuite(CLI::App* verb, const std::shared_ptr<ConfigOptions>& options) {
  verb->add_flag("--suite", options->suite, "Of evaluation suites, which `tanren eval` reads");
}

void AddPipeline(CLI::App* verb, const std::shared_ptr<ConfigOptions>& options) {
  verb->add_flag("--pipeline", options->pipeline, "Of pipelines, which `tanren submit` reads");
}

}  // namespace

void AddConfigVerbs(CLI::App& app, int* exit_code) {
  auto* config = app.add_subcommand("config", "Look at and check configurations");
  config->require_subcommand(1);
  auto* show = config->add_subcommand("show", "The resolved configuration, every value");
  show->callback(
      [options = AddFile(show), exit_code] { *exit_code = ConfigShow(options->path, options->overrides); });
  auto* validate = config->add_subcommand("validate", "Check a configuration; all errors at once");
  const auto checked = AddFile(validate);
  AddSuite(validate, checked);
  validate->callback([checked, exit_code] {
    *exit_code = checked->suite ? SuiteValidate(checked->path, checked->overrides)
                                : ConfigValidate(checked->path, checked->overrides);
  });
  const auto described = std::make_shared<ConfigOptions>();
  auto* schema = config->add_subcommand("schema", "The JSON schema of configurations, for editors");
  AddSuite(schema, described);
  AddPipeline(schema, described);
  schema->callback([described, plugins = AddPlugins(schema), exit_code] {
    *exit_code = described->pipeline ? PipelineSchema()
                 : described->suite  ? SuiteSchema()
                                     : ConfigSchema(*plugins);
  });
  auto* table = config->add_subcommand("table", "The keys as Markdown tables");
  AddSuite(table, described);
  AddPipeline(table, described);
  table->callback([described, plugins = AddPlugins(table), exit_code] {
    *exit_code = described->pipeline ? PipelineTable()
                 : described->suite  ? SuiteTable()
                                     : ConfigTable(*plugins);
  });
}

}  // namespace tanren
