#include "core/trainer/stage.h"

#include "core/base/status.h"

namespace tanren {
namespace {

std::map<std::string, StageFactory>& Registry() {
  static auto& registry = *new std::map<std::string, StageFactory>();
  return registry;
}

}  // namespace

absl::Status AddStage(const std::string& name, StageFactory factory) {
  if (name.empty() || !factory) return InvalidInput("stage \"%s\" lacks a name or a factory", name);
  if (Registry().emplace(name, std::move(factory)).second) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("there is a stage \"", name, "\" already; choose another name"));
}

void RegisterStage(const std::string& name, StageFactory factory) {
  const absl::Status added = AddStage(name, std::move(factory));
  TANREN_CHECK_MSG(added.ok(), added.message());
}

absl::StatusOr<std::unique_ptr<Stage>> MakeStage(const std::string& name) {
  const auto found = Registry().find(name);
  if (found != Registry().end()) {
    std::unique_ptr<Stage> stage = found->second();
    if (stage == nullptr) return InvalidInput("stage: what registered \"%s\" makes no stage of it", name);
    return stage;
  }
  std::string known;
  for (const auto& [other, factory] : Registry()) absl::StrAppend(&known, known.empty() ? "" : ", ", other);
  return absl::NotFoundError(absl::StrCat("stage: there is no stage \"", name, "\"; known stages: ", known,
                                          "; one built outside the tree needs its shared object in plugins"));
}

}  // namespace tanren
