#include "core/checkpoint/fault.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"

namespace tanren {
namespace {

constexpr std::string_view kSavePoints[] = {"open",   "write",  "fsync",  "manifest", "commit",
                                            "rename", "parent", "latest", "prune"};

constexpr std::string_view kWorkPoints[] = {"forward", "backward", "optimizer", "rollout", "collective"};

bool IsPoint(std::string_view area, std::string_view point) {
  const auto among = [&](const auto& points) {
    return std::find(std::begin(points), std::end(points), point) != std::end(points);
  };
  return area == "step" ? point == "replica" || among(kWorkPoints) : among(kSavePoints);
}

// Weights are damaged behind a step; inside of one, as in a save, a process can be ended.
bool Fits(std::string_view area, std::string_view point, FaultAction action) {
  const bool damages = action == FaultAction::kFlip || action == FaultAction::kNaN;
  if (area != "step") return !damages;
  return point == "replica" ? damages : action == FaultAction::kKill;
}

FaultAction ActionOf(std::string_view name) {
  if (name == "kill") return FaultAction::kKill;
  if (name == "eio" || name == "fsync") return FaultAction::kEio;
  if (name == "enospc") return FaultAction::kEnospc;
  if (name == "short") return FaultAction::kShort;
  if (name == "partial") return FaultAction::kPartial;
  if (name == "delay") return FaultAction::kDelay;
  if (name == "flip") return FaultAction::kFlip;
  if (name == "nan") return FaultAction::kNaN;
  return FaultAction::kNone;
}

}  // namespace

absl::StatusOr<FaultPlan> FaultPlan::Parse(std::string_view text) {
  FaultPlan plan;
  if (text.empty()) return plan;
  for (absl::string_view entry : absl::StrSplit(View(text), ',')) {
    const std::vector<std::string> parts = absl::StrSplit(entry, ':');
    const std::string shown(entry);
    if (parts.size() < 3 || (parts[0] != "save" && parts[0] != "step")) {
      return InvalidInput("TANREN_FAULT \"%s\": expected save:POINT:ACTION[:rank=R][:hit=N] or step:...",
                          shown);
    }
    Fault fault;
    fault.point = parts[1];
    fault.action = ActionOf(parts[2]);
    if (!IsPoint(parts[0], fault.point)) {
      return InvalidInput("TANREN_FAULT \"%s\": unknown point \"%s\"", shown, fault.point);
    }
    if (fault.action == FaultAction::kNone || !Fits(parts[0], fault.point, fault.action)) {
      return InvalidInput("TANREN_FAULT \"%s\": unknown action \"%s\"", shown, parts[2]);
    }
    for (size_t i = 3; i < parts.size(); ++i) {
      const std::vector<std::string> pair = absl::StrSplit(parts[i], '=');
      int* target = pair[0] == "rank" ? &fault.rank : pair[0] == "hit" ? &fault.hit : nullptr;
      if (pair.size() != 2 || target == nullptr || !absl::SimpleAtoi(pair[1], target) || *target < 0) {
        return InvalidInput("TANREN_FAULT \"%s\": bad option \"%s\"", shown, parts[i]);
      }
    }
    plan.faults_.push_back(std::move(fault));
  }
  return plan;
}

FaultPlan FaultPlan::FromEnvironment() {
  const char* text = std::getenv("TANREN_FAULT");
  absl::StatusOr<FaultPlan> plan = Parse(text == nullptr ? "" : text);
  if (!plan.ok()) {
    std::fprintf(stderr, "%s\n", plan.status().ToString().c_str());
    std::_Exit(2);
  }
  return *std::move(plan);
}

FaultAction FaultPlan::Hit(std::string_view point) {
  FaultAction action = FaultAction::kNone;
  for (Fault& fault : faults_) {
    if (fault.point != point || (fault.rank >= 0 && fault.rank != rank_)) continue;
    ++fault.seen;
    if (fault.hit == 0 || fault.hit == fault.seen) action = fault.action;
  }
  if (action == FaultAction::kKill) {
    kill(getpid(), SIGKILL);
    for (;;) pause();  // the signal is on its way
  }
  if (action == FaultAction::kDelay) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  return action;
}

}  // namespace tanren
