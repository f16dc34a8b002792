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

// Runs `bash script` to its end and returns its exit code (128 + N: ended by signal N). Its output goes to
// standard output and, appended, to `log`. A stop request is passed on as USR1, a second interrupt as USR2,
// which ends the work at once. When this process dies, the script is asked to stop.
absl::StatusOr<int> RunScript(const std::string& script, const std::string& log,
                              const StopRequests& requests);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SUBMIT_LOCAL_H_
