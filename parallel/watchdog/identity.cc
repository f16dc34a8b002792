#include "parallel/watchdog/identity.h"

#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace tanren {
namespace {

struct ProcessState {
  char letter = '\0';  // as ps shows it; '\0': no such process
  uint64_t started = 0;
};

// Fields 3 and 22 of /proc/PID/stat; the second, a name in parentheses, may hold anything.
ProcessState Look(int32_t pid) {
  ProcessState state;
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return state;
  std::istringstream rest(line.substr(name_end + 1));
  char letter = '\0';
  rest >> letter;
  std::string skipped;
  for (int field = 4; field < 22; ++field) rest >> skipped;
  if (rest >> state.started) state.letter = letter;
  return state;
}

bool IsHere(const ProcessIdentity& process, const ProcessState& state) {
  const ProcessIdentity own = ProcessIdentity::Own();
  return own.boot[0] != '\0' && std::strcmp(process.boot, own.boot) == 0 && state.letter != '\0' &&
         state.started == process.started;
}

}  // namespace

ProcessIdentity ProcessIdentity::Own() { return Of(getpid()); }

ProcessIdentity ProcessIdentity::Of(int32_t pid) {
  ProcessIdentity own;
  if (gethostname(own.host, sizeof(own.host) - 1) != 0) std::strcpy(own.host, "?");
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  std::getline(file, boot);
  char space[64] = {};
  const ssize_t length = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);  // pid:[4026531836]
  if (!boot.empty() && length > 0) {
    std::snprintf(own.boot, sizeof(own.boot), "%.18s %.20s", boot.c_str(), space + std::strlen("pid:"));
  }
  own.pid = pid;
  own.started = Look(pid).started;
  return own;
}

std::string WhyNotRunning(const ProcessIdentity& process) {
  const ProcessState state = Look(process.pid);
  if (!IsHere(process, state)) return "";
  if (state.letter == 'T') return "the process is stopped, by SIGSTOP or a frozen terminal";
  if (state.letter == 't') return "a debugger holds the process";
  if (state.letter == 'D') return "the process waits for a device or a file system";
  if (state.letter == 'Z') return "the process has ended";
  return "";
}

void KillIfHere(const ProcessIdentity& process) {
  if (process.pid != getpid() && IsHere(process, Look(process.pid))) kill(process.pid, SIGKILL);
}

}  // namespace tanren
