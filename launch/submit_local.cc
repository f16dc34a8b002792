#include "launch/submit_local.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/report/append_file.h"

namespace tanren {
namespace {

constexpr int kStopSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
constexpr int kCannotStart = 127;
constexpr useconds_t kPollMicroseconds = 20000;

volatile sig_atomic_t stop_count = 0;
volatile sig_atomic_t interrupt_count = 0;

void CountSignal(int number) {
  stop_count = stop_count + 1;
  if (number == SIGINT) interrupt_count = interrupt_count + 1;
}

[[noreturn]] void BecomeScript(pid_t parent, const char* script, int output) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kCannotStart);
  setpgid(0, 0);  // the terminal's Ctrl-C reaches this program only
  for (const int number : kStopSignals) signal(number, SIG_DFL);
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execlp("bash", "bash", script, static_cast<char*>(nullptr));
  _exit(kCannotStart);
}

// Shows what was written to a log since the last call.
class Follower {
 public:
  explicit Follower(const AppendFile& log) : log_(log), offset_(log.bytes()) {}

  void Show() {
    char text[4096];
    while (true) {
      const absl::StatusOr<int64_t> count = log_.ReadAt(offset_, text, sizeof(text));
      if (!count.ok() || *count == 0) break;
      std::fwrite(text, 1, static_cast<size_t>(*count), stdout);
      offset_ += *count;
    }
    std::fflush(stdout);
  }

 private:
  const AppendFile& log_;
  int64_t offset_;
};

// Passes requests on, each once.
class Messenger {
 public:
  explicit Messenger(pid_t script) : script_(script) {}

  void Tell() {
    if (StopRequests::interrupts() >= 2 && !abandoned_) {
      abandoned_ = true;
      kill(script_, SIGUSR2);
    } else if (StopRequests::count() > 0 && !stopped_) {
      stopped_ = true;
      std::fprintf(stderr, "\ntanren submit: saving and stopping; Ctrl-C again ends the stage at once\n");
      kill(script_, SIGUSR1);
    }
  }

 private:
  pid_t script_;
  bool stopped_ = false, abandoned_ = false;
};

std::optional<int> Reap(pid_t child) {
  int status = 0;
  const pid_t ended = waitpid(child, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return std::nullopt;
  if (ended < 0) return kCannotStart;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

StopRequests::StopRequests() {
  stop_count = 0;
  interrupt_count = 0;
  for (const int number : kStopSignals) {
    struct sigaction old = {}, action = {};
    sigaction(number, nullptr, &old);
    if (number == SIGHUP && old.sa_handler == SIG_IGN) continue;  // nohup
    action.sa_handler = CountSignal;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
  }
}

StopRequests::~StopRequests() {
  for (const int number : kStopSignals) signal(number, SIG_DFL);
}

int StopRequests::count() { return stop_count; }
int StopRequests::interrupts() { return interrupt_count; }

absl::StatusOr<int> RunScript(const std::string& script, const std::string& log, const StopRequests&) {
  TANREN_ASSIGN_OR_RETURN(const AppendFile kept, AppendFile::Open(log));
  // The stage writes its log itself. Through a pipe its launcher, its ranks and its last words would depend
  // on this process: bash and mpirun end by a write that nobody reads.
  const Descriptor output(open(log.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (output.get() < 0) return ErrnoStatus(errno, "write", log);
  Follower follower(kept);
  std::fflush(stdout);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return ErrnoStatus(errno, "start", script);
  if (child == 0) BecomeScript(parent, script.c_str(), output.get());
  setpgid(child, child);

  Messenger messenger(child);
  while (true) {
    messenger.Tell();
    const std::optional<int> code = Reap(child);
    follower.Show();
    if (code.has_value()) return *code;
    usleep(kPollMicroseconds);  // a signal ends it
  }
}

}  // namespace tanren
