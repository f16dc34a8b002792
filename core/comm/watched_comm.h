// The one place where collectives are reported to Activity.
#ifndef TANREN_CORE_COMM_WATCHED_COMM_H_
#define TANREN_CORE_COMM_WATCHED_COMM_H_

#include <memory>

#include "core/comm/comm.h"

namespace tanren {

// A communicator that hands every call to `comm`, and says to Activity::Own() when it is entered and left.
// Ranks with the same axis and `group` are the members. A group of one is returned as it is: nobody waits.
// At most kMaxAxes in a process.
std::unique_ptr<Comm> MakeWatchedComm(std::unique_ptr<Comm> comm, int group);

}  // namespace tanren

#endif  // TANREN_CORE_COMM_WATCHED_COMM_H_
