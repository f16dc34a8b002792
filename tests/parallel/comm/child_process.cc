#include "tests/parallel/comm/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

namespace tanren {
namespace {

bool Poll(double seconds, const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

std::string MakeTemporary(const char* name, bool directory) {
  std::string path = ::testing::TempDir() + "/" + name + "-XXXXXX";
  if (directory) return mkdtemp(path.data());
  close(mkstemp(path.data()));
  return path;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command,
                           const std::map<std::string, std::string>& environment)
    : output_path_(MakeTemporary("tanren-child", false)) {
  std::vector<std::string> texts = command;
  std::vector<char*> arguments;
  for (std::string& text : texts) arguments.push_back(text.data());
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  const int output = open(output_path_.c_str(), O_WRONLY | O_TRUNC | O_APPEND);
  const int input = open("/dev/null", O_RDONLY);
  dup2(input, 0);
  dup2(output, 1);
  dup2(output, 2);
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

ChildProcess::~ChildProcess() {
  if (!code_.has_value() && pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::filesystem::remove(output_path_);
}

void ChildProcess::Signal(int signal_number) const { kill(pid_, signal_number); }

std::optional<int> ChildProcess::Wait(double seconds) {
  Poll(seconds, [&] {
    int status = 0;
    if (code_.has_value() || waitpid(pid_, &status, WNOHANG) != pid_) return code_.has_value();
    code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
  });
  return code_;
}

std::string ChildProcess::Output() const {
  std::ifstream file(output_path_);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

PidDirectory::PidDirectory() : path_(MakeTemporary("tanren-pids", true)) {}
PidDirectory::~PidDirectory() { std::filesystem::remove_all(path_); }

std::vector<pid_t> PidDirectory::WaitForRanks(int ranks, double seconds) const {
  std::vector<pid_t> pids;
  const bool all = Poll(seconds, [&] {
    pids.clear();
    for (int rank = 0; rank < ranks; ++rank) {
      pid_t pid = 0;
      if (std::ifstream(path_ + "/" + std::to_string(rank)) >> pid) pids.push_back(pid);
    }
    return static_cast<int>(pids.size()) == ranks;
  });
  return all ? pids : std::vector<pid_t>();
}

bool IsAlive(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return false;
  // The state follows the name, which may hold anything but ends at the last parenthesis.
  const size_t name_end = line.rfind(')');
  return name_end != std::string::npos && line.compare(name_end, 3, ") Z") != 0;
}

bool WaitForEnd(const std::vector<pid_t>& pids, double seconds) {
  return Poll(seconds, [&] {
    for (const pid_t pid : pids) {
      if (IsAlive(pid)) return false;
    }
    return true;
  });
}

}  // namespace tanren
