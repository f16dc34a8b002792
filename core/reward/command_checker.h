// The checker that asks an external program. Internal to core/reward; made by MakeChecker.
#ifndef TANREN_CORE_REWARD_COMMAND_CHECKER_H_
#define TANREN_CORE_REWARD_COMMAND_CHECKER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/reward/checker.h"

namespace tanren {

absl::StatusOr<std::unique_ptr<Checker>> MakeCommandChecker(const CheckerOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_COMMAND_CHECKER_H_
