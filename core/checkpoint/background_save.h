// A save that is written while the run trains on.
//
// A thread of its own does what takes long: this rank's shards, then on rank 0 the manifest, the commit and
// the retention. It makes no collective call; between the parts the main threads agree, at a moment of their
// choice. So the run waits for the start of a save, for two agreements of some bytes, and for nothing else.
//
//   start ----> shards (every rank) ----> agree ----> publish (rank 0) ----> agree: ended
//
// What a failure at any moment leaves behind is that of CheckpointSave: the old commit or the new one.
#ifndef TANREN_CORE_CHECKPOINT_BACKGROUND_SAVE_H_
#define TANREN_CORE_CHECKPOINT_BACKGROUND_SAVE_H_

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/save.h"
#include "core/comm/comm.h"

namespace tanren {

class BackgroundSave {
 public:
  // Collective. Until the save has ended the memory of the pieces must neither change nor go, and
  // `request.produce` and `request.faults` are used from another thread. On an error, which the ranks agree
  // on, there is no save.
  static absl::StatusOr<std::unique_ptr<BackgroundSave>> Start(Comm& world, const SaveRequest& request);
  // Waits for the thread. A save that has not ended is never loaded and is swept at the next start.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // Local: nothing is left to do here before the ranks agree.
  bool Ready() const { return ready_.load(std::memory_order_acquire); }

  // Collective, to be called by all ranks once all of them are Ready(): agrees on the part that is done. The
  // result of the save when it has ended, which Advance() must not be called after; else none.
  std::optional<absl::StatusOr<SaveReport>> Advance(Comm& world);

  // Collective: waits for the end.
  absl::StatusOr<SaveReport> Finish(Comm& world);

 private:
  explicit BackgroundSave(CheckpointSave save) : save_(std::move(save)) {}
  void Run(absl::Status (CheckpointSave::*part)());

  CheckpointSave save_;
  std::thread thread_;
  std::atomic<bool> ready_{false};
  absl::Status done_;  // of the part, once ready
  bool publishing_ = false;
};

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_BACKGROUND_SAVE_H_
