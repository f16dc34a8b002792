// Programs that a test starts and watches.
#ifndef TANREN_TESTS_PARALLEL_COMM_CHILD_PROCESS_H_
#define TANREN_TESTS_PARALLEL_COMM_CHILD_PROCESS_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tanren {

// A program with its output, stdout and stderr together, in a file. Ended with -9 if the test forgets it.
class ChildProcess {
 public:
  ChildProcess(const std::vector<std::string>& command,
               const std::map<std::string, std::string>& environment);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal_number) const;
  // The exit code, or 128 + signal; nothing when it still runs after `seconds`.
  std::optional<int> Wait(double seconds);
  std::string Output() const;

 private:
  std::string output_path_;
  pid_t pid_ = -1;
  std::optional<int> code_;
};

// A fresh directory under the test's temporary one, removed at the end.
class PidDirectory {
 public:
  PidDirectory();
  ~PidDirectory();
  PidDirectory(const PidDirectory&) = delete;
  PidDirectory& operator=(const PidDirectory&) = delete;

  const std::string& path() const { return path_; }
  // The process ids of all ranks, once all have left theirs; empty after `seconds`.
  std::vector<pid_t> WaitForRanks(int ranks, double seconds) const;

 private:
  std::string path_;
};

// False for processes that ended, also where nobody has collected them.
bool IsAlive(pid_t pid);

// True when all have ended within `seconds`.
bool WaitForEnd(const std::vector<pid_t>& pids, double seconds);

}  // namespace tanren

#endif  // TANREN_TESTS_PARALLEL_COMM_CHILD_PROCESS_H_
