// Runs a stage's script as a child: output is shown and kept, signals become "save and stop".
#ifndef TANREN_LAUNCH_SUBMIT_LOCAL_H_
#define TANREN_LAUNCH_SUBMIT_LOCAL_H_

#include <string>

#include "absl/status/statusor.h"

namespace tanren {

// While it lives, INT, TERM, USR1 and HUP are counted instead of ending the process. One at a time.
class StopRequests {
 public:
  StopRequests();
  ~StopRequests();
  StopRequests(const StopRequests&) = delete;
  StopRequests& operator=(const StopRequests&) = delete;

  static int count();
  static int interrupts();  // of them, INT
};

// Runs `bash script` to its end and returns its exit code (128 + N: ended by signal N). It appends its output
// to `log`, a regular file, and standard output shows it. A stop request is passed on as USR1, a second
// interrupt as USR2, which ends the work at once. When this process dies, however it does, the script is
// asked to stop, and what it says on the way is in `log`.
absl::StatusOr<int> RunScript(const std::string& script, const std::string& log,
                              const StopRequests& requests);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SUBMIT_LOCAL_H_
