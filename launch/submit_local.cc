#include "launch/submit_local.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/report/append_file.h"

namespace tanren {
namespace {

constexpr int kStopSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
constexpr int kCannotStart = 127;
constexpr int kPollMilliseconds = 200;

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

// What the script said, up to now; false at the end of it.
bool Copy(int from, AppendFile* log) {
  char text[4096];
  const ssize_t count = read(from, text, sizeof(text));
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  std::fwrite(text, 1, static_cast<size_t>(count), stdout);
  std::fflush(stdout);
  // A full disk must not end the stage for want of a log.
  (void)log->Append(std::string_view(text, static_cast<size_t>(count)));
  return true;
}

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
  TANREN_ASSIGN_OR_RETURN(AppendFile kept, AppendFile::Open(log));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe for", script);
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  std::fflush(stdout);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return ErrnoStatus(errno, "start", script);
  if (child == 0) BecomeScript(parent, script.c_str(), writer.get());
  setpgid(child, child);
  writer = Descriptor();
  fcntl(reader.get(), F_SETFL, O_NONBLOCK);

  Messenger messenger(child);
  bool open = true;
  while (true) {
    messenger.Tell();
    // A process that outlives the script may keep the pipe open: the script's end is what counts.
    const std::optional<int> code = Reap(child);
    pollfd wait{reader.get(), POLLIN, 0};
    while (open && poll(&wait, 1, code.has_value() ? 0 : kPollMilliseconds) > 0) {
      open = Copy(reader.get(), &kept);
      messenger.Tell();
    }
    if (code.has_value()) return *code;
    if (!open) usleep(1000 * kPollMilliseconds / 10);
  }
}

}  // namespace tanren
