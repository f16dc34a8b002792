#include "launch/config_verbs.h"

#include "core/config/config.h"

namespace tanren {
namespace {

constexpr int kDone = 0;
constexpr int kWrongInput = 2;

int Report(const absl::Status& status, std::ostream& errors) {
  errors << status.message() << '\n';
  return kWrongInput;
}

}  // namespace

int ConfigShow(const std::string& path, std::span<const std::string> overrides, std::ostream& out,
               std::ostream& errors) {
  const absl::StatusOr<config::Config> loaded = config::LoadConfig(path, overrides);
  if (!loaded.ok()) return Report(loaded.status(), errors);
  out << config::ToYaml(config::Resolve(*loaded), true);
  return kDone;
}

int ConfigValidate(const std::string& path, std::span<const std::string> overrides, std::ostream& out,
                   std::ostream& errors) {
  const absl::StatusOr<config::Config> loaded = config::LoadConfig(path, overrides);
  if (!loaded.ok()) return Report(loaded.status(), errors);
  out << path << ": valid, SHA-256 " << config::ConfigHash(config::Resolve(*loaded)) << '\n';
  return kDone;
}

int ConfigSchema(std::ostream& out) {
  out << config::JsonSchema();
  return kDone;
}

int ConfigTable(std::ostream& out) {
  out << config::MarkdownTable();
  return kDone;
}

}  // namespace tanren
