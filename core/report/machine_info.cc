#include "core/report/machine_info.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tanren {
namespace {

// The value behind `key` in lines of "key<separator>value", without quotes; empty when there is none.
std::string ValueOf(const char* path, std::string_view key, char separator) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(separator, 1));
    if (parts.size() != 2) continue;
    const absl::string_view name = absl::StripAsciiWhitespace(parts[0]);
    if (std::string_view(name.data(), name.size()) != key) continue;
    absl::string_view value = absl::StripAsciiWhitespace(parts[1]);
    if (absl::ConsumePrefix(&value, "\"")) absl::ConsumeSuffix(&value, "\"");
    return std::string(value);
  }
  return "";
}

std::vector<std::string> KnownInstructions(const std::string& flags) {
  constexpr std::array<std::string_view, 11> kUsed = {"sse4_2",      "avx2",     "fma",         "f16c",
                                                      "avx512f",     "avx512bw", "avx512_vnni", "avx512_bf16",
                                                      "avx512_fp16", "amx_bf16", "sve"};
  const std::vector<std::string> present = absl::StrSplit(flags, ' ');
  std::vector<std::string> out;
  for (const std::string_view name : kUsed) {
    if (std::find(present.begin(), present.end(), name) != present.end()) out.emplace_back(name);
  }
  return out;
}

std::string SystemName() {
  std::string out = ValueOf("/etc/os-release", "PRETTY_NAME", '=');
  utsname names;
  if (uname(&names) == 0) absl::StrAppend(&out, out.empty() ? "" : ", ", names.sysname, " ", names.release);
  return out;
}

}  // namespace

std::string HostName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "unknown";
  return name.data();
}

MachineInfo ThisMachine() {
  MachineInfo info;
  info.hostname = HostName();
  info.system = SystemName();
  info.cpu = ValueOf("/proc/cpuinfo", "model name", ':');
  std::string flags = ValueOf("/proc/cpuinfo", "flags", ':');
  if (flags.empty()) flags = ValueOf("/proc/cpuinfo", "Features", ':');  // the same on Arm
  info.instructions = KnownInstructions(flags);
  info.cores_online = static_cast<int>(std::max(0L, sysconf(_SC_NPROCESSORS_ONLN)));
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) info.cores_usable = CPU_COUNT(&cores);
  const int64_t pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) info.memory_bytes = pages * page_bytes;
  return info;
}

}  // namespace tanren
