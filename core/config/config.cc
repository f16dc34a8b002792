#include "core/config/config.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/config/checked.h"
#include "core/config/error_report.h"
#include "core/config/loader.h"
#include "core/config/rules.h"
#include "core/config/text.h"

namespace tanren::config {
absl::StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides) {
  return LoadChecked<Config>(
      path, [&](Loader* loader) { loader->ReadFile(path, overrides); }, CheckRules);
}

absl::StatusOr<Config> LoadConfigText(const std::string& text, const std::string& name,
                                      std::span<const std::string> overrides) {
  return LoadChecked<Config>(
      name, [&](Loader* loader) { loader->ReadText(text, name, overrides); }, CheckRules);
}

absl::StatusOr<Config> LoadSavedConfig(const std::string& text, const std::string& name,
                                       std::span<const std::string> overrides) {
  Config first_look;
  ErrorReport ignored("");
  Loader(&first_look, &ignored).ReadText(text, name, {});
  return LoadChecked<Config>(
      name,
      [&](Loader* loader) {
        if (first_look.plugins_size() > 0) loader->LeaveOutUnknownSections();
        loader->ReadText(text, name, overrides);
      },
      CheckRules);
}

std::vector<PluginPath> PluginsOf(const std::string& path, std::span<const std::string> overrides) {
  Config config;
  ErrorReport report(Printable(path, 200));
  Loader(&config, &report).ReadFile(path, overrides);
  std::vector<PluginPath> plugins;
  for (int i = 0; i < config.plugins_size(); ++i) {
    const std::string key = absl::StrCat("plugins.", i);
    plugins.push_back({config.plugins(i), absl::StrCat(report.PlaceOf({key}), ": ", key)});
  }
  return plugins;
}

absl::Status Validate(const Config& config) { return ValidateChecked<Config>(config, CheckRules); }

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
