#include "core/checkpoint/background_save.h"

#include <sys/resource.h>

#include "absl/memory/memory.h"
#include "core/activity/activity.h"
#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int kNiceness = 10;

}  // namespace

absl::StatusOr<std::unique_ptr<BackgroundSave>> BackgroundSave::Start(Comm& world,
                                                                      const SaveRequest& request) {
  TANREN_ASSIGN_OR_RETURN(CheckpointSave save, CheckpointSave::Begin(world, request));
  auto background = absl::WrapUnique(new BackgroundSave(std::move(save)));
  background->Run(&CheckpointSave::WriteShards);
  return background;
}

BackgroundSave::~BackgroundSave() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundSave::Run(absl::Status (CheckpointSave::*part)()) {
  if (thread_.joinable()) thread_.join();
  ready_.store(false, std::memory_order_relaxed);
  thread_ = std::thread([this, part] {
    Activity::MarkBackgroundThread();
    // Compute threads come first: a team of them waits for the one whose core is taken. On Linux this is of the
    // calling thread alone; where it is refused, the thread is as the others.
    setpriority(PRIO_PROCESS, 0, kNiceness);
    done_ = (save_.*part)();
    ready_.store(true, std::memory_order_release);
  });
}

std::optional<absl::StatusOr<SaveReport>> BackgroundSave::Advance(Comm& world) {
  if (thread_.joinable()) thread_.join();
  if (publishing_) return save_.End(world, done_);
  publishing_ = true;
  const absl::Status gathered = save_.Gather(world, done_);
  if (!gathered.ok()) return gathered;
  Run(&CheckpointSave::Publish);
  return std::nullopt;
}

absl::StatusOr<SaveReport> BackgroundSave::Finish(Comm& world) {
  std::optional<absl::StatusOr<SaveReport>> ended;
  while (!ended.has_value()) ended = Advance(world);
  return *std::move(ended);
}

}  // namespace tanren
