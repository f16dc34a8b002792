#include "core/trainer/stage.h"

#include "core/base/status.h"

namespace tanren {
namespace {

std::map<std::string, StageFactory>& Registry() {
  static auto& registry = *new std::map<std::string, StageFactory>();
  return registry;
}

}  // namespace

void RegisterStage(const std::string& name, StageFactory factory) {
  TANREN_CHECK_MSG(Registry().emplace(name, std::move(factory)).second, "two stages are named ", name);
}

absl::StatusOr<std::unique_ptr<Stage>> MakeStage(const std::string& name) {
  const auto found = Registry().find(name);
  if (found != Registry().end()) return found->second();
  std::string known;
  for (const auto& [other, factory] : Registry()) absl::StrAppend(&known, known.empty() ? "" : ", ", other);
  return absl::NotFoundError(absl::StrCat("stage: there is no stage \"", name, "\"; known stages: ", known));
}

}  // namespace tanren
