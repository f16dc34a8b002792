// Between mpirun and a pipe that someone else reads. mpirun ends its ranks at the eleventh write that nobody
// reads (`tanren launch .. | head`), and switches the pipe it writes to, which others share, to not blocking.
#ifndef TANREN_LAUNCH_OUTPUT_RELAY_H_
#define TANREN_LAUNCH_OUTPUT_RELAY_H_

#include <poll.h>

#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"

namespace tanren {

// What comes out of a child goes to `target`, byte for byte, for as long as somebody reads there; then it is
// dropped. Does not block, as long as nobody else writes to `target`: the child waits where the reader does.
// SIGPIPE must be ignored. One thread.
class OutputRelay {
 public:
  // For a `target` that is a pipe. Not owned.
  explicit OutputRelay(int target);

  static bool Needs(int target);

  // What the child writes to, until ChildHasIt() closes this process's copy; -1: no pipe could be made.
  int write_end() const { return write_end_.get(); }
  void ChildHasIt() { write_end_ = Descriptor(); }

  // Appends what to poll for.
  void AddTo(std::vector<pollfd>* sources) const;

  // Moves what can be moved. True at the call that finds out that nobody reads.
  bool Move();

  // True while something that was read is not yet taken.
  bool waits() const { return !pending_.empty(); }

 private:
  bool Fill();

  int target_;
  Descriptor read_end_, write_end_;
  std::string pending_;  // read, and not yet taken by the target
  bool open_ = true;     // the child may write more
  bool unread_ = false;
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_OUTPUT_RELAY_H_
