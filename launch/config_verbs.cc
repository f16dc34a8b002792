#include "launch/config_verbs.h"

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/config/ineffective.h"
#include "core/plugin/load.h"

namespace tanren {
namespace {

constexpr int kDone = 0;
constexpr int kWrongInput = 2;

int Report(const absl::Status& status, std::ostream& errors) {
  errors << status.message() << '\n';
  return kWrongInput;
}

absl::Status LoadAll(std::span<const std::string> plugins) {
  for (const std::string& path : plugins) TANREN_RETURN_IF_ERROR(LoadPlugin(path));
  return absl::OkStatus();
}

}  // namespace

int ConfigShow(const std::string& path, std::span<const std::string> overrides, std::ostream& out,
               std::ostream& errors) {
  const absl::StatusOr<config::Config> loaded = LoadConfigWithPlugins(path, overrides);
  if (!loaded.ok()) return Report(loaded.status(), errors);
  out << config::ToYaml(config::Resolve(*loaded), true);
  return kDone;
}

int ConfigValidate(const std::string& path, std::span<const std::string> overrides, std::ostream& out,
                   std::ostream& errors) {
  const absl::StatusOr<config::Config> loaded = LoadConfigWithPlugins(path, overrides);
  if (!loaded.ok()) return Report(loaded.status(), errors);
  for (const std::string& key : config::IneffectiveKeys(config::Resolve(*loaded))) {
    errors << "warning: " << key << '\n';
  }
  out << path << ": valid, SHA-256 " << config::ConfigHash(config::Resolve(*loaded)) << '\n';
  return kDone;
}

int ConfigSchema(std::span<const std::string> plugins, std::ostream& out, std::ostream& errors) {
  if (const absl::Status loaded = LoadAll(plugins); !loaded.ok()) return Report(loaded, errors);
  out << config::JsonSchema();
  return kDone;
}

int ConfigTable(std::span<const std::string> plugins, std::ostream& out, std::ostream& errors) {
  if (const absl::Status loaded = LoadAll(plugins); !loaded.ok()) return Report(loaded, errors);
  out << config::MarkdownTable();
  return kDone;
}

}  // namespace tanren
