// One process per answer: fork and exec rather than posix_spawn, which sets no resource limits.
#include "core/reward/command_checker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <map>
#include <thread>
#include <utility>

#include "core/activity/activity.h"
#include "core/base/status.h"
#include "core/reward/numeric.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxOutputBytes = 64 << 10;
constexpr rlim_t kMemoryBytes = rlim_t{2} << 30;
constexpr double kMaxSeconds = 86400;
constexpr int kMaxDescriptor = 65536;

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { Close(); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// A pipe beyond the standard descriptors, so that the child's dup2 never meets its own target.
bool MakePipe(Descriptor* read_end, Descriptor* write_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  for (int i = 0; i < 2; ++i) {
    Descriptor low(ends[i]);
    (i == 0 ? *read_end : *write_end) = Descriptor(fcntl(ends[i], F_DUPFD_CLOEXEC, 3));
  }
  return read_end->open() && write_end->open();
}

void SetLimit(int resource, rlim_t value) {
  rlimit limit;
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  limit.rlim_max = std::min(limit.rlim_max, value);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

struct ChildPlan {
  const char* program;
  char* const* arguments;
  int input, output, null, report;
  rlim_t cpu_seconds;
};

// Between fork and exec only calls that are safe in a signal handler: other threads' locks stay held forever.
[[noreturn]] void BecomeProgram(const ChildPlan& plan) {
  setpgid(0, 0);
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) sigaction(number, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(plan.input, STDIN_FILENO);
  dup2(plan.output, STDOUT_FILENO);
  dup2(plan.null, STDERR_FILENO);
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    for (int fd = 3; fd < kMaxDescriptor; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  SetLimit(RLIMIT_CPU, plan.cpu_seconds);
  SetLimit(RLIMIT_AS, kMemoryBytes);
  SetLimit(RLIMIT_CORE, 0);
  execve(plan.program, plan.arguments, environ);
  const int error = errno;
  const ssize_t ignored = write(plan.report, &error, sizeof(error));
  _exit(ignored == sizeof(error) ? 126 : 127);
}

// Writing to a program that reads no more raises SIGPIPE in this thread: held back, and taken off the pending
// ones.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutSigpipe() {
    const timespec now = {0, 0};
    while (!was_pending_ && sigtimedwait(&pipe_, nullptr, &now) == -1 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_, before_;
  bool was_pending_ = false;
};

struct Outcome {
  std::string failure;  // "": the program ended by itself, with `exit_code`
  int exit_code = 0;
  std::string output;
};

class Process {
 public:
  // The group is ended while its leader is not yet reaped: until then the kernel gives its number to no
  // other.
  ~Process() {
    if (pid_ > 0) EndAndReap(nullptr);
  }

  std::string Start(const std::string& program, const std::vector<std::string>& command, double seconds) {
    Descriptor child_in, child_out, report_in;
    const auto failed = [](const char* what) { return absl::StrCat("cannot ", what, ": ", strerror(errno)); };
    if (!MakePipe(&child_in, &input_) || !MakePipe(&output_, &child_out) || !MakePipe(&report_, &report_in)) {
      return failed("make a pipe");
    }
    Descriptor null(open("/dev/null", O_RDWR | O_CLOEXEC));
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const ChildPlan plan = {program.c_str(),
                            arguments.data(),
                            child_in.get(),
                            child_out.get(),
                            null.get(),
                            report_in.get(),
                            static_cast<rlim_t>(std::ceil(seconds)) + 1};
    // No handler of this program may run in the child before it has reset them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_ = fork();
    if (pid_ == 0) BecomeProgram(plan);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = error;
    if (pid_ < 0) return failed("start a process");
    setpgid(pid_, pid_);  // in both, whoever comes first
    report_in.Close();
    int exec_error = 0;
    ssize_t bytes;
    while ((bytes = read(report_.get(), &exec_error, sizeof(exec_error))) == -1 && errno == EINTR) {
    }
    if (bytes == sizeof(exec_error)) {
      errno = exec_error;
      return absl::StrCat("cannot run ", program, ": ", strerror(errno));
    }
    fcntl(input_.get(), F_SETFL, O_NONBLOCK);
    fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    return "";
  }

  // Feeds `input` and gathers the output until the program has ended and nobody holds its output open.
  Outcome Run(std::string_view input, double seconds) {
    Outcome outcome;
    const Clock::time_point end =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    const WithoutSigpipe without_sigpipe;
    auto nap = std::chrono::microseconds(200);
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      if (left <= 0) {
        outcome.failure = absl::StrFormat("no end within the limit of %g s", seconds);
        break;
      }
      if (!output_.open()) {
        siginfo_t info = {};
        if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid != 0) {
          break;
        }
        std::this_thread::sleep_for(nap);
        nap = std::min(nap * 2, std::chrono::microseconds(10000));
        continue;
      }
      pollfd polled[2] = {{output_.get(), POLLIN, 0}, {input_.get(), POLLOUT, 0}};
      if (poll(polled, input_.open() ? 2 : 1, static_cast<int>(left)) < 0) continue;
      if (input_.open() && polled[1].revents != 0) Feed(&input);
      if (polled[0].revents != 0) Gather(&outcome);
      if (!outcome.failure.empty()) break;
    }
    EndAndReap(&outcome);
    return outcome;
  }

 private:
  void Feed(std::string_view* input) {
    const ssize_t written = write(input_.get(), input->data(), input->size());
    if (written > 0) input->remove_prefix(static_cast<size_t>(written));
    const bool later = written < 0 && (errno == EAGAIN || errno == EINTR);
    if (input->empty() || (written < 0 && !later)) input_.Close();
  }

  void Gather(Outcome* outcome) {
    char buffer[4096];
    const ssize_t bytes = read(output_.get(), buffer, sizeof(buffer));
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (bytes <= 0) {
      output_.Close();
    } else if (outcome->output.size() + static_cast<size_t>(bytes) > kMaxOutputBytes) {
      outcome->failure = absl::StrCat("more than ", kMaxOutputBytes, " bytes of output");
    } else {
      outcome->output.append(buffer, static_cast<size_t>(bytes));
    }
  }

  void EndAndReap(Outcome* outcome) {
    kill(-pid_, SIGKILL);  // what it left behind, too
    if (outcome == nullptr || !outcome->failure.empty()) kill(pid_, SIGKILL);
    int status = 0;
    pid_t reaped;
    while ((reaped = waitpid(pid_, &status, 0)) == -1 && errno == EINTR) {
    }
    const pid_t pid = std::exchange(pid_, -1);
    if (outcome == nullptr || !outcome->failure.empty()) return;
    if (reaped != pid) {
      outcome->failure = absl::StrCat("its end is unknown: ", strerror(errno));
    } else if (WIFSIGNALED(status)) {
      outcome->failure = absl::StrCat("ended by signal ", WTERMSIG(status));
    } else {
      outcome->exit_code = WEXITSTATUS(status);
    }
  }

  pid_t pid_ = -1;
  Descriptor input_, output_, report_;
};

// A text that is nothing but a number: NaN and infinity too. What is beyond a double is infinite, with its
// sign; what is too small for one is 0.
bool ParseScore(std::string_view text, double* score) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *score);
  if (text.empty() || end != text.data() + text.size()) return false;
  if (error == std::errc::result_out_of_range) *score = std::strtod(std::string(text).c_str(), nullptr);
  return error == std::errc() || error == std::errc::result_out_of_range;
}

// JSON in which the bare words and numbers that are no finite number of JSON (Python writes NaN and Infinity)
// are null: one of them shall not make the other scores unreadable.
std::string WithNullForNonFinite(std::string_view json) {
  std::string out;
  for (size_t at = 0; at < json.size();) {
    size_t end = at + 1;
    if (json[at] == '"') {
      while (end < json.size() && json[end] != '"') end += json[end] == '\\' ? 2 : 1;
      end = std::min(end + 1, json.size());
      out.append(json.substr(at, end - at));
    } else if (std::string_view("{}[],: \t\r").find(json[at]) != std::string_view::npos) {
      out += json[at];
    } else {
      end = std::min(json.find_first_of("{}[],:\" \t\r", at), json.size());
      const std::string_view word = json.substr(at, end - at);
      double number = 0;
      const bool non_finite = ParseScore(word, &number) && !std::isfinite(number);
      out.append(non_finite || word == "NaN" || word == "Infinity" || word == "-Infinity" ? "null" : word);
    }
    at = end;
  }
  return out;
}

// A number; null stands for NaN.
bool ParseNumber(const nlohmann::json& json, double* number) {
  if (!json.is_number() && !json.is_null()) return false;
  *number = json.is_null() ? std::numeric_limits<double>::quiet_NaN() : json.get<double>();
  return true;
}

// {"scores": {"name": number, ...}, "steps": [number, ...]}, or one of the two. False for anything else.
bool ParseScores(std::string_view line, CheckResult* result) {
  const auto json = nlohmann::json::parse(WithNullForNonFinite(line), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return false;
  const auto scores = json.find("scores"), steps = json.find("steps");
  if (scores == json.end() && steps == json.end()) return false;
  if (scores != json.end()) {
    if (!scores->is_object()) return false;
    for (const auto& [name, score] : scores->items()) {
      if (!ParseNumber(score, &result->scores[name])) return false;
    }
  }
  if (steps != json.end()) {
    if (!steps->is_array()) return false;
    result->steps.emplace();
    for (const nlohmann::json& step : *steps) {
      if (!ParseNumber(step, &result->steps->emplace_back())) return false;
    }
  }
  return true;
}

class CommandChecker : public Checker {
 public:
  CommandChecker(const CheckerOptions& options, std::string program)
      : options_(options), program_(std::move(program)) {}

  CheckResult Check(std::string_view prompt, std::string_view response, std::string_view reference) override {
    const Doing running(Work::kCommand);
    CheckResult result;
    result.answer = ExtractAnswer(response, options_.marker);
    nlohmann::ordered_json request;
    request["prompt"] = std::string(prompt);
    request["response"] = std::string(response);
    request["answer"] = std::string(reference);
    // Bytes that are not UTF-8 become U+FFFD; the strict handler would throw.
    const std::string line =
        request.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    Process process;
    Outcome outcome;
    outcome.failure = process.Start(program_, options_.command, options_.time_limit_seconds);
    if (outcome.failure.empty()) outcome = process.Run(line, options_.time_limit_seconds);
    if (outcome.failure.empty() && outcome.exit_code > 1) {
      outcome.failure = absl::StrCat("exit code ", outcome.exit_code);
    }
    const auto failure = [&](std::string_view why) {
      CheckResult failed;
      failed.answer = result.answer;
      failed.failed = true;
      failed.failure = absl::StrCat(options_.command[0], ": ", View(why));
      return failed;
    };
    if (!outcome.failure.empty()) return failure(outcome.failure);
    const std::string_view first =
        Trimmed(std::string_view(outcome.output).substr(0, outcome.output.find('\n')));
    if (first.starts_with('{') && !ParseScores(first, &result)) {
      return failure(
          "its first line begins as JSON and is not {\"scores\": {\"name\": number}, \"steps\": [number]} or "
          "one "
          "of the two");
    }
    if (const size_t lines = LineEnds(response).size();
        result.steps.has_value() && result.steps->size() > lines) {
      return failure(
          absl::StrCat("it gave ", result.steps->size(), " steps to a response of ", lines, " lines"));
    }
    if (!ParseScore(first, &result.score)) result.score = outcome.exit_code == 0 ? 1 : 0;
    result.right = result.score >= 0.5;
    return result;
  }

 private:
  CheckerOptions options_;
  std::string program_;
};

bool IsProgram(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(path.c_str(), X_OK) == 0;
}

absl::StatusOr<std::string> FindProgram(const std::string& name) {
  if (name.find('/') != std::string::npos) {
    if (IsProgram(name)) return name;
    return InvalidInput(
        "checker: command: %s is no program that can be run; check the path and `chmod +x` it", name);
  }
  const char* given = std::getenv("PATH");
  std::string_view path = given != nullptr ? given : "/usr/local/bin:/usr/bin:/bin";
  while (true) {
    const size_t colon = path.find(':');
    const std::string_view folder = path.substr(0, colon);
    const std::string candidate = absl::StrCat(folder.empty() ? "." : View(folder), "/", name);
    if (IsProgram(candidate)) return candidate;
    if (colon == std::string_view::npos) break;
    path.remove_prefix(colon + 1);
  }
  return InvalidInput("checker: command: no program \"%s\" in PATH; install it or give its path", name);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checker>> MakeCommandChecker(const CheckerOptions& options) {
  if (options.command.empty() || options.command[0].empty()) {
    return InvalidInput("checker: command is empty; give the program and its arguments");
  }
  for (const std::string& argument : options.command) {
    if (argument.find('\0') != std::string::npos) {
      return InvalidInput("checker: command: an argument holds a NUL byte, which no program can be given");
    }
  }
  if (!(options.time_limit_seconds > 0) || options.time_limit_seconds > kMaxSeconds) {
    return InvalidInput("checker: time_limit_seconds is %g; it must be above 0 and at most %g",
                        options.time_limit_seconds, kMaxSeconds);
  }
  TANREN_ASSIGN_OR_RETURN(std::string program, FindProgram(options.command[0]));
  return std::make_unique<CommandChecker>(options, std::move(program));
}

}  // namespace tanren
