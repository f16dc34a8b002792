#include "core/config/config.h"

#include <algorithm>
#include <functional>

#include "core/config/error_report.h"
#include "core/config/loader.h"
#include "core/config/rules.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

absl::StatusOr<Config> Load(const std::string& name, const std::function<void(Loader*)>& read) {
  Config config;
  ErrorReport report(Printable(name, 200));
  Loader loader(&config, &report);
  read(&loader);
  CheckRequired(config, &report);
  CheckRules(config, &report);
  if (absl::Status status = report.ToStatus(); !status.ok()) return status;
  return config;
}

}  // namespace

absl::StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides) {
  return Load(path, [&](Loader* loader) { loader->ReadFile(path, overrides); });
}

absl::StatusOr<Config> LoadConfigText(const std::string& text, const std::string& name,
                                      std::span<const std::string> overrides) {
  return Load(name, [&](Loader* loader) { loader->ReadText(text, name, overrides); });
}

std::vector<std::string> PluginsOf(const std::string& path, std::span<const std::string> overrides) {
  Config config;
  ErrorReport report(path);
  Loader(&config, &report).ReadFile(path, overrides);
  return {config.plugins().begin(), config.plugins().end()};
}

absl::Status Validate(const Config& config) {
  ErrorReport report("");
  CheckValues(config, &report);
  CheckRequired(config, &report);
  // Rules compute with the values, so they wait until each is in its range.
  if (absl::Status status = report.ToStatus(); !status.ok()) return status;
  CheckRules(config, &report);
  return report.ToStatus();
}

Config Resolve(const Config& config) {
  Config resolved = config;
  ModelConfig& model = *resolved.mutable_model();
  if (model.kv_heads() == 0) model.set_kv_heads(model.heads());
  if (model.head_dim() == 0 && model.heads() > 0) model.set_head_dim(model.width() / model.heads());
  if (model.mlp_width() == 0) model.set_mlp_width(4 * model.width());
  if (resolved.data().sequence_length() == 0) {
    resolved.mutable_data()->set_sequence_length(model.context_length());
  }
  ScheduleConfig& schedule = *resolved.mutable_schedule();
  if (schedule.decay_steps() == 0) {
    const int64_t steps = resolved.train().steps();
    if (schedule.kind() == ScheduleConfig::warmup_stable_decay) {
      schedule.set_decay_steps(std::max<int64_t>(steps / 10, 1));
    } else if (schedule.kind() != ScheduleConfig::constant) {
      schedule.set_decay_steps(steps);
    }
  }
  return resolved;
}

}  // namespace tanren::config
