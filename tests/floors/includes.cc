#include "tests/floors/includes.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"

namespace tanren::floors {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kFloors = {"kernels", "core", "parallel", "stages", "launch"};
constexpr std::array<std::string_view, 9> kSuffixes = {".h",   ".hpp", ".cc",    ".cpp", ".cu",
                                                       ".cuh", ".inc", ".proto", ".c"};

// "core" of "core/base/status.h"; empty for a path without a folder.
std::string_view TopOf(std::string_view path) {
  const size_t slash = path.find('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

int HeightOf(std::string_view floor) {
  if (floor == "kernels") return 0;
  if (floor == "core") return 1;
  if (floor == "parallel" || floor == "stages") return 2;
  if (floor == "launch") return 3;
  return -1;
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// What stands between the opening quote or bracket at the front of `text` and its partner.
std::string Delimited(std::string_view text) {
  text = Trimmed(text);
  if (text.empty() || (text[0] != '"' && text[0] != '<')) return "";
  const size_t end = text.find(text[0] == '"' ? '"' : '>', 1);
  return end == std::string_view::npos ? "" : std::string(text.substr(1, end - 1));
}

bool ConsumeWord(std::string_view word, std::string_view* text) {
  if (text->substr(0, word.size()) != word) return false;
  *text = Trimmed(text->substr(word.size()));
  return true;
}

void CheckFile(const std::string& root, const std::string& file, Report* report) {
  std::ifstream in(root + "/" + file);
  std::string line;
  ++report->files;
  for (int number = 1; std::getline(in, line); ++number) {
    const std::string included = IncludedPath(line);
    if (included.empty()) continue;
    ++report->includes;
    const std::string reason = ReasonAgainst(file, included);
    if (!reason.empty()) report->violations.push_back(absl::StrCat(file, ":", number, ": ", reason));
  }
}

}  // namespace

std::string IncludedPath(std::string_view line) {
  std::string_view text = Trimmed(line);
  if (ConsumeWord("import", &text)) {
    ConsumeWord("public", &text);
    ConsumeWord("weak", &text);
    return !text.empty() && text[0] == '"' ? Delimited(text) : "";
  }
  if (!ConsumeWord("#", &text) || !ConsumeWord("include", &text)) return "";
  return Delimited(text);
}

std::string ReasonAgainst(std::string_view file, std::string_view included) {
  const std::string_view from = TopOf(file);
  const std::string_view to = TopOf(included);
  const std::string pair = absl::StrCat(View(file), " includes ", View(included));
  const bool knows_ranks = from == "parallel" || from == "launch";
  if (!knows_ranks && (included == "mpi.h" || included == "nccl.h")) {
    return absl::StrCat(pair, ": only parallel and launch know MPI and NCCL; use core/comm/comm.h");
  }
  if (to == "tests") return absl::StrCat(pair, ": the program does not know its tests");
  if (included.substr(0, 3) == "../" || included.find("/../") != std::string_view::npos) {
    return absl::StrCat(pair, ": includes start at the root of the project");
  }
  if (HeightOf(to) < 0 || from == to) return "";
  if (HeightOf(to) > HeightOf(from))
    return absl::StrCat(pair, ": the arrow runs up from ", View(from), " to ", View(to));
  if (HeightOf(to) == HeightOf(from)) {
    return absl::StrCat(pair, ": ", View(from), " and ", View(to), " do not know each other");
  }
  return "";
}

Report CheckTree(const std::string& root) {
  std::vector<std::string> files;
  for (const std::string_view floor : kFloors) {
    const fs::path folder = fs::path(root) / floor;
    if (!fs::exists(folder)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      const std::string suffix = entry.path().extension().string();
      if (entry.is_regular_file() &&
          std::find(kSuffixes.begin(), kSuffixes.end(), suffix) != kSuffixes.end()) {
        files.push_back(entry.path().lexically_relative(root).generic_string());
      }
    }
  }
  std::sort(files.begin(), files.end());
  Report report;
  for (const std::string& file : files) CheckFile(root, file, &report);
  return report;
}

}  // namespace tanren::floors
