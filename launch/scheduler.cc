#include "launch/scheduler.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/config/text.h"

namespace tanren {
namespace {

constexpr int kCannotStart = 127;
constexpr size_t kMaxOutputBytes = 1 << 20;

struct Ended {
  int code = 0;
  std::string output;  // standard output and errors
};

[[noreturn]] void Become(const std::vector<char*>& words, int output) {
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execvp(words[0], words.data());
  _exit(kCannotStart);
}

absl::StatusOr<Ended> Execute(std::vector<std::string> words) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make a pipe for", words[0]);
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) return ErrnoStatus(errno, "start", words[0]);
  if (child == 0) Become(pointers, writer.get());
  writer = Descriptor();
  Ended ended;
  char text[4096];
  while (true) {
    const ssize_t count = read(reader.get(), text, sizeof(text));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (ended.output.size() < kMaxOutputBytes) ended.output.append(text, static_cast<size_t>(count));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  ended.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  while (!ended.output.empty() && ended.output.back() == '\n') ended.output.pop_back();
  return ended;
}

bool IsJobId(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace

bool IsInPath(const std::string& name) {
  const char* path = std::getenv("PATH");
  for (const absl::string_view folder : absl::StrSplit(path == nullptr ? "" : path, ':')) {
    if (access(absl::StrCat(folder, "/", name).c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::vector<std::string> SbatchCommand(const std::string& script, const std::vector<std::string>& after) {
  std::vector<std::string> words = {"sbatch", "--parsable"};
  if (!after.empty()) {
    words.push_back(absl::StrCat("--dependency=afterok:", absl::StrJoin(after, ":")));
    // Else the jobs behind a failed one would wait for ever.
    words.push_back("--kill-on-invalid-dep=yes");
  }
  words.push_back(script);
  return words;
}

absl::StatusOr<std::string> SubmitJob(const std::string& script, const std::vector<std::string>& after) {
  if (!IsInPath("sbatch")) {
    return absl::NotFoundError(
        "there is no sbatch in PATH; --local runs the stages here, --print shows the scripts");
  }
  TANREN_ASSIGN_OR_RETURN(const Ended ended, Execute(SbatchCommand(script, after)));
  if (ended.code != 0) {
    return absl::UnavailableError(absl::StrCat("sbatch ", script, " failed with exit code ", ended.code, ": ",
                                               config::Printable(ended.output, 400)));
  }
  // "job" or "job;cluster", perhaps behind lines of a site's plugin.
  const std::string last = ended.output.substr(ended.output.find_last_of('\n') + 1);
  const std::string job = last.substr(0, last.find(';'));
  if (!IsJobId(job)) {
    return absl::UnavailableError(
        absl::StrCat("sbatch ", script, " named no job: ", config::Printable(ended.output, 400)));
  }
  return job;
}

std::string JobState(const std::string& job) {
  if (!IsJobId(job) || !IsInPath("squeue")) return "";
  const absl::StatusOr<Ended> ended = Execute({"squeue", "-h", "-j", job, "-o", "%T"});
  if (!ended.ok() || ended->code != 0) return "";
  const std::string state = ended->output.substr(0, ended->output.find('\n'));
  const bool word = std::ranges::all_of(state, [](char c) { return (c >= 'A' && c <= 'Z') || c == '_'; });
  return word ? state : "";
}

}  // namespace tanren
