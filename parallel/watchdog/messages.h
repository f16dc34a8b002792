// What the watchdogs of one job say to each other. Plain bytes: all ranks run the same program.
#ifndef TANREN_PARALLEL_WATCHDOG_MESSAGES_H_
#define TANREN_PARALLEL_WATCHDOG_MESSAGES_H_

#include <array>
#include <cstdint>
#include <type_traits>

#include "core/activity/activity.h"
#include "parallel/watchdog/identity.h"

namespace tanren {

// The first message of each side of a connection. The token, which only ranks of this job know, tells it from
// whatever else may answer or knock at that port.
struct Hello {
  uint64_t token[2] = {};
  int32_t rank = 0;
  int32_t unused = 0;
  ProcessIdentity identity;
};

// From a rank to rank 0, once a heartbeat.
struct Beat {
  enum Kind : uint32_t { kBeat, kGoodbye };
  uint32_t kind = kBeat;
  uint32_t unused = 0;
  ActivityRecord record = {};
};

// From rank 0: the answer to a beat, with its own record, or the end.
struct Order {
  enum Kind : uint32_t { kAnswer, kGoodbye, kEnd };
  uint32_t kind = kAnswer;
  uint32_t culprits = 0;
  ActivityRecord record = {};
  std::array<ProcessIdentity, 4> culprit = {};  // to be killed by whoever shares their machine
};

static_assert(std::is_trivially_copyable_v<Hello> && std::is_trivially_copyable_v<Beat> &&
              std::is_trivially_copyable_v<Order>);

}  // namespace tanren

#endif  // TANREN_PARALLEL_WATCHDOG_MESSAGES_H_
