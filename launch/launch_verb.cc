#include "launch/launch_verb.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/checkpoint/file_system.h"
#include "launch/bind.h"
#include "launch/output_relay.h"

extern char** environ;

namespace tanren {
namespace {

constexpr int kWrongOptions = 2;
constexpr int kCannotStart = 127;
constexpr int kInterrupted = 128 + SIGINT;
constexpr int kRequeue = 75;
constexpr double kRepeatSeconds = 1;
// mpirun gives its ranks two seconds after SIGTERM.
constexpr double kKillAfterSeconds = 5;

double Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::string FindExecutable(const std::string& name) {
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0 ? name : "";
  const char* path = std::getenv("PATH");
  std::string rest = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string file = absl::StrCat(rest.substr(0, colon), "/", name);
    if (access(file.c_str(), X_OK) == 0) return file;
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return "";
}

// The environment of mpirun, which hands its own OMPI_* on, and the others through -x.
class Environment {
 public:
  Environment() {
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string_view text = *entry;
      const size_t equals = text.find('=');
      if (equals != std::string_view::npos)
        values_[std::string(text.substr(0, equals))] = text.substr(equals + 1);
    }
  }

  void Set(const std::string& name, const std::string& value) { values_[name] = value; }
  // For mpirun only.
  void SetDefault(const std::string& name, const std::string& value) { values_.emplace(name, value); }
  // For the ranks, on whatever node.
  void SetForRanks(const std::string& name, const std::string& value) {
    Set(name, value);
    exported_.push_back(name);
  }

  const std::vector<std::string>& exported() const { return exported_; }
  std::vector<std::string> Entries() const {
    std::vector<std::string> entries;
    for (const auto& [name, value] : values_) entries.push_back(absl::StrCat(name, "=", value));
    return entries;
  }

 private:
  std::map<std::string, std::string> values_;
  std::vector<std::string> exported_;
};

// In a SLURM allocation a node has the ranks of its slots: "2(x3),1" for four nodes.
int RanksOfNode(int ranks) {
  const char* text = std::getenv("SLURM_TASKS_PER_NODE");
  int most = 0;
  for (const absl::string_view part : absl::StrSplit(text == nullptr ? "" : text, ',')) {
    int slots = 0;
    if (absl::SimpleAtoi(part.substr(0, part.find('(')), &slots)) most = std::max(most, slots);
  }
  return most > 0 ? std::min(most, ranks) : ranks;
}

Environment MakeEnvironment(const LaunchOptions& options, const BindingPlan& plan) {
  Environment environment;
  if (geteuid() == 0) {
    // Containers run as root; Open MPI's refusal protects nobody there.
    environment.SetDefault("OMPI_ALLOW_RUN_AS_ROOT", "1");
    environment.SetDefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
  environment.Set("OMPI_MCA_hwloc_base_binding_policy", "none");
  // In an allocation the scheduler's slots decide; on a bare machine the person does.
  if (std::getenv("SLURM_JOB_ID") == nullptr) environment.Set("OMPI_MCA_rmaps_base_oversubscribe", "1");
  environment.SetForRanks("OMP_NUM_THREADS", absl::StrCat(plan.threads));
  environment.SetForRanks("TANREN_BIND", plan.bind ? "cores" : "none");
  environment.SetForRanks("TANREN_STDOUT", options.all_output ? "all" : "rank0");
  return environment;
}

std::vector<std::string> MakeCommand(const LaunchOptions& options, const std::string& mpirun,
                                     const std::string& program, const Environment& environment) {
  // Without --quiet mpirun explains at length that exit code 75 is not 0.
  std::vector<std::string> command = {mpirun, "--quiet", "-np", absl::StrCat(options.ranks)};
  for (const std::string& name : environment.exported()) {
    command.push_back("-x");
    command.push_back(name);
  }
  command.push_back(program);
  command.insert(command.end(), options.arguments.begin(), options.arguments.end());
  return command;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Blocks the signals that this verb waits for, and restores the mask at the end.
class SignalSet {
 public:
  SignalSet() {
    sigemptyset(&set_);
    for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD}) sigaddset(&set_, number);
    // nohup: a blocked signal would arrive although it is ignored.
    struct sigaction hangup = {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) sigaddset(&set_, SIGHUP);
    // Inherited as ignored, it would take mpirun's exit code away.
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &set_, &old_);
    arrived_ = Descriptor(signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~SignalSet() { sigprocmask(SIG_SETMASK, &old_, nullptr); }
  SignalSet(const SignalSet&) = delete;
  SignalSet& operator=(const SignalSet&) = delete;

  // The next signal, or 0 after `seconds`, or when output was moved. SIGPIPE: nobody reads it any more.
  int Wait(double seconds, std::vector<OutputRelay>* relays) const {
    std::vector<pollfd> sources = {{arrived_.get(), POLLIN, 0}};
    for (const OutputRelay& relay : *relays) relay.AddTo(&sources);
    if (poll(sources.data(), sources.size(), static_cast<int>(1000 * seconds)) <= 0) return 0;
    signalfd_siginfo signal = {};
    if (read(arrived_.get(), &signal, sizeof(signal)) == sizeof(signal)) {
      return static_cast<int>(signal.ssi_signo);
    }
    bool unread = false;
    for (OutputRelay& relay : *relays) unread |= relay.Move();
    return unread ? SIGPIPE : 0;
  }

 private:
  sigset_t set_;
  sigset_t old_;
  Descriptor arrived_;
};

// Where mpirun writes.
struct Outputs {
  int out = STDOUT_FILENO, error = STDERR_FILENO;
  std::vector<OutputRelay> relays;
};

bool SameFile(int one, int other) {
  struct stat a = {}, b = {};
  return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

Outputs MakeOutputs() {
  Outputs outputs;
  const auto add = [&](int target) {
    if (!OutputRelay::Needs(target)) return target;
    outputs.relays.emplace_back(target);
    const int end = outputs.relays.back().write_end();
    if (end >= 0) return end;
    outputs.relays.pop_back();
    return target;
  };
  outputs.out = add(STDOUT_FILENO);
  // One relay keeps the order of what goes to one pipe.
  const bool shared = OutputRelay::Needs(STDERR_FILENO) && SameFile(STDOUT_FILENO, STDERR_FILENO);
  outputs.error = shared ? outputs.out : add(STDERR_FILENO);
  return outputs;
}

// What the job said last, for as long as the reader wants it: a signal cuts it short.
void FinishOutput(const SignalSet& signals, std::vector<OutputRelay>* relays) {
  const auto waits = [](const OutputRelay& relay) { return relay.waits(); };
  while (std::any_of(relays->begin(), relays->end(), waits)) {
    const int number = signals.Wait(kRepeatSeconds, relays);
    if (number != 0 && number != SIGCHLD && number != SIGPIPE) return;
  }
}

// After fork, in the child. Only async-signal-safe calls.
[[noreturn]] void BecomeMpirun(pid_t launcher, const Outputs& outputs, char* const* command,
                               char* const* environment) {
  // When the launcher dies, mpirun must end its ranks, on other nodes too: SIGTERM lets it. Ranks of this
  // node die with mpirun (DieWithParent).
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != launcher) _exit(kCannotStart);
  // The terminal's Ctrl-C must reach the launcher only.
  setpgid(0, 0);
  // A background process group that reads the terminal is stopped.
  if (isatty(STDIN_FILENO)) {
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  }
  dup2(outputs.out, STDOUT_FILENO);
  dup2(outputs.error, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Until mpirun and the ranks have their handlers, a stop request must not kill them; it is repeated.
  signal(SIGUSR1, SIG_IGN);
  signal(SIGPIPE, SIG_DFL);
  execve(command[0], command, environment);
  _exit(kCannotStart);
}

// Says it, unless that would wait for a reader who has stopped reading: signals are blocked meanwhile.
void Say(const std::string& text) {
  pollfd target{STDERR_FILENO, POLLOUT, 0};
  if (poll(&target, 1, 0) > 0 && (target.revents & POLLOUT) != 0) std::fputs(text.c_str(), stderr);
}

// The job while it runs: what was asked of it so far, and its end.
class Job {
 public:
  // `saves`: the verb answers a stop by a save. Others would run on to their end.
  Job(pid_t mpirun, bool saves) : mpirun_(mpirun), saves_(saves) {}

  void On(int signal_number) {
    switch (signal_number) {
      case SIGINT:
        if (++interrupts_ >= 2) return Kill(kInterrupted);
        Stop();
        return Say("\ntanren launch: saving and stopping; Ctrl-C again ends the job at once\n");
      case SIGPIPE:
        if (!saves_) return Kill(128 + SIGPIPE);
        Stop();
        return Say("tanren launch: nobody reads the output any more: saving and stopping\n");
      case SIGTERM:
      case SIGUSR1:
        return Stop();
      case SIGHUP:
        return Kill(128 + SIGHUP);
      default:
        return;
    }
  }

  void Tick() {
    const double now = Now();
    if (kill_time_ > 0 && now >= kill_time_) {
      kill(-mpirun_, SIGKILL);
    } else if (kill_time_ == 0 && stop_time_ > 0 && now >= stop_time_ + kRepeatSeconds) {
      Stop();
    }
  }

  // The exit code, once mpirun has ended.
  std::optional<int> Reap() {
    int status = 0;
    const pid_t ended = waitpid(mpirun_, &status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR)) return std::nullopt;
    if (killed()) return kill_code_;
    if (ended < 0) return kCannotStart;
    const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    // A rank that had not come as far as handling the signal was ended by it: nothing was begun, nothing is
    // lost.
    if (stop_time_ > 0 && code == 128 + SIGUSR1) return kRequeue;
    return code;
  }

  bool killed() const { return kill_time_ > 0; }

 private:
  // Idempotent for the ranks, and repeated: one sent while mpirun starts is lost.
  void Stop() {
    if (kill_time_ > 0) return;
    stop_time_ = Now();
    kill(mpirun_, SIGUSR1);
  }

  void Kill(int code) {
    if (kill_time_ > 0) return;
    kill_code_ = code;
    kill_time_ = Now() + kKillAfterSeconds;
    kill(mpirun_, SIGTERM);
  }

  pid_t mpirun_;
  bool saves_;
  int interrupts_ = 0;
  double stop_time_ = 0;
  double kill_time_ = 0;
  int kill_code_ = 0;
};

void ExplainEnd(int code, const LaunchOptions& options) {
  if (code > 128 && code != kInterrupted) {
    Say(absl::StrCat("tanren launch: a rank was ended by signal ", code - 128, " (", strsignal(code - 128),
                     ")", code - 128 == SIGKILL ? "; out of memory?" : "", "\n"));
  } else if (code != 0 && options.verbose) {
    Say(absl::StrCat("tanren launch: exit code ", code, "\n"));
  }
}

}  // namespace

int Launch(const LaunchOptions& options) {
  if (options.ranks < 1 || options.arguments.empty()) {
    std::fprintf(stderr,
                 "error: tanren launch -n %d: expected a number of ranks of 1 or more, and a verb after it\n",
                 options.ranks);
    return kWrongOptions;
  }
  const std::string wanted = options.mpirun.empty() ? "mpirun" : options.mpirun;
  const std::string mpirun = FindExecutable(wanted);
  if (mpirun.empty()) {
    std::fprintf(
        stderr,
        "error: no executable %s%s; install Open MPI (Debian: openmpi-bin) or name it with --mpirun\n",
        wanted.c_str(), options.mpirun.empty() ? " in PATH" : "");
    return kCannotStart;
  }
  std::string program = options.program;
  if (program.empty()) {
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
    program.assign(path, length > 0 ? length : 0);
  }
  if (FindExecutable(program).empty()) {
    std::fprintf(stderr, "error: no executable %s for the ranks\n", program.c_str());
    return kWrongOptions;
  }

  const BindingPlan plan = PlanBinding(RanksOfNode(options.ranks), options.bind, options.threads);
  const Environment environment = MakeEnvironment(options, plan);
  std::vector<std::string> command = MakeCommand(options, mpirun, program, environment);
  std::vector<std::string> entries = environment.Entries();
  if (options.verbose) {
    for (const std::string& line : plan.lines) std::fprintf(stderr, "%s\n", line.c_str());
    std::fprintf(stderr, "%s\n", absl::StrJoin(command, " ").c_str());
  }
  const std::vector<char*> command_pointers = Pointers(command);
  const std::vector<char*> entry_pointers = Pointers(entries);

  // Nobody to tell is no reason to end: the exit code says what became of the job.
  signal(SIGPIPE, SIG_IGN);
  const SignalSet signals;
  Outputs outputs = MakeOutputs();
  const pid_t launcher = getpid();
  const pid_t child = fork();
  if (child < 0) {
    std::fprintf(stderr, "error: cannot start %s: %s\n", mpirun.c_str(), std::strerror(errno));
    return kCannotStart;
  }
  if (child == 0) BecomeMpirun(launcher, outputs, command_pointers.data(), entry_pointers.data());
  setpgid(child, child);  // both sides, so that neither depends on who runs first

  for (OutputRelay& relay : outputs.relays) relay.ChildHasIt();
  Job job(child, /*saves=*/options.arguments[0] == "train");
  while (true) {
    if (const std::optional<int> code = job.Reap()) {
      for (OutputRelay& relay : outputs.relays) relay.Move();
      if (!job.killed()) {
        FinishOutput(signals, &outputs.relays);
        ExplainEnd(*code, options);
      }
      return *code;
    }
    job.On(signals.Wait(kRepeatSeconds, &outputs.relays));
    job.Tick();
  }
}

}  // namespace tanren
