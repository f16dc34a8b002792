// tanren plugin check: what CMake's tanren_stage_plugin calls after it has built one.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_join.h"
#include "core/plugin/load.h"
#include "launch/command_line.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

int PluginCheck(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (const absl::Status loaded = LoadPlugin(path); !loaded.ok()) return StatusExit(loaded);
  }
  for (const LoadedPlugin& plugin : LoadedPlugins()) {
    std::printf("%s: stages %s, SHA-256 %s\n", plugin.path.c_str(),
                absl::StrJoin(plugin.stages, ", ").c_str(), plugin.sha256.c_str());
  }
  return kExitDone;
}

}  // namespace

void AddPluginVerbs(CLI::App& app, int* exit_code) {
  auto* plugin = app.add_subcommand("plugin", "Stages built outside the tree");
  plugin->require_subcommand(1);
  auto* check = plugin->add_subcommand("check", "Load plugins and say which stages they bring");
  auto paths = std::make_shared<std::vector<std::string>>();
  check->add_option("files", *paths, "Shared objects")->required();
  check->callback([paths, exit_code] { *exit_code = PluginCheck(*paths); });
}

}  // namespace tanren
