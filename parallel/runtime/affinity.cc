#include "parallel/runtime/affinity.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "core/base/status.h"

namespace tanren {
namespace {

// Machines with more processors than a cpu_set_t holds (1,024) exist.
constexpr int kMaxCpus = 8192;

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<int> AffinityMask() {
  std::vector<int> cpus;
  cpu_set_t* set = CPU_ALLOC(kMaxCpus);
  const size_t bytes = CPU_ALLOC_SIZE(kMaxCpus);
  CPU_ZERO_S(bytes, set);
  if (sched_getaffinity(0, bytes, set) == 0) {
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  return cpus;
}

std::map<int, int> NumaNodeOfCpu() {
  std::map<int, int> node_of;
  for (const int node : ParseCpuList(FirstLine("/sys/devices/system/node/online"))) {
    const std::string list = FirstLine(absl::StrCat("/sys/devices/system/node/node", node, "/cpulist"));
    for (const int cpu : ParseCpuList(list)) node_of[cpu] = node;
  }
  return node_of;
}

// The group of this process in a cgroup hierarchy, from lines like "0::/a/b" or "4:cpu,cpuacct:/a/b".
std::string CgroupPath(bool version_2) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (version_2 ? controllers == ",," : controllers.find(",cpu,") != std::string::npos) {
      return line.substr(second + 1);
    }
  }
  return "/";
}

// The tightest limit on the way from the process's group to the root. Inside a container the path of
// /proc/self/cgroup may be the host's and absent here: then the root is what is visible.
template <class QuotaAt>
double TightestQuota(std::string path, const QuotaAt& quota_at) {
  double tightest = 0;
  while (true) {
    const double quota = quota_at(path);
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
    if (path.empty() || path == "/") return tightest;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

double QuotaV2(const std::string& path) {
  std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::atof(quota.c_str()) / period;
}

double QuotaV1(const std::string& path) {
  const std::string group = "/sys/fs/cgroup/cpu" + path;
  const double quota = std::atof(FirstLine(group + "/cpu.cfs_quota_us").c_str());
  const double period = std::atof(FirstLine(group + "/cpu.cfs_period_us").c_str());
  return quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace

std::vector<int> ParseCpuList(const std::string& text) {
  std::vector<int> cpus;
  const char* at = text.c_str();
  while (*at >= '0' && *at <= '9') {
    char* end = nullptr;
    const long first = std::strtol(at, &end, 10);
    long last = first;
    if (*end == '-') last = std::strtol(end + 1, &end, 10);
    for (long cpu = first; cpu <= last && cpu < kMaxCpus; ++cpu) cpus.push_back(static_cast<int>(cpu));
    if (*end != ',') break;
    at = end + 1;
  }
  return cpus;
}

std::string FormatCpuList(std::vector<int> cpus) {
  std::sort(cpus.begin(), cpus.end());
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    absl::StrAppend(&text, text.empty() ? "" : ",", cpus[i]);
    if (last > i) absl::StrAppend(&text, "-", cpus[last]);
    i = last + 1;
  }
  return text;
}

std::vector<Core> AllowedCores() {
  const std::map<int, int> node_of = NumaNodeOfCpu();
  std::map<int, Core> cores;  // by the lowest hardware thread, allowed or not
  for (const int cpu : AffinityMask()) {
    const std::string siblings =
        FirstLine(absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"));
    const std::vector<int> threads = ParseCpuList(siblings);
    Core& core = cores[threads.empty() ? cpu : *std::min_element(threads.begin(), threads.end())];
    core.cpus.push_back(cpu);
    const auto node = node_of.find(cpu);
    core.numa_node = node == node_of.end() ? 0 : node->second;
  }
  std::vector<Core> sorted;
  for (auto& [cpu, core] : cores) sorted.push_back(std::move(core));
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Core& a, const Core& b) { return a.numa_node < b.numa_node; });
  return sorted;
}

double CpuQuotaCores() {
  const double v2 = TightestQuota(CgroupPath(true), QuotaV2);
  const double v1 = TightestQuota(CgroupPath(false), QuotaV1);
  if (v1 > 0 && v2 > 0) return std::min(v1, v2);
  return std::max(v1, v2);
}

int UsableCores() {
  int cores = static_cast<int>(AllowedCores().size());
  const double quota = CpuQuotaCores();
  if (quota > 0) cores = std::min(cores, static_cast<int>(std::ceil(quota)));
  return std::max(cores, 1);
}

std::vector<std::vector<Core>> DivideCores(const std::vector<Core>& cores, int ranks) {
  std::vector<std::vector<Core>> parts(ranks);
  const int each = static_cast<int>(cores.size()) / ranks;
  if (each == 0) return parts;

  std::map<int, std::vector<Core>> nodes;
  for (const Core& core : cores) nodes[core.numa_node].push_back(core);

  // Ranks are dealt to nodes as long as a node has room for one that does not straddle.
  int rank = 0;
  std::vector<Core> rest;
  for (auto& [node, own] : nodes) {
    size_t used = 0;
    for (; rank < ranks && used + each <= own.size(); used += each, ++rank) {
      parts[rank].assign(own.begin() + used, own.begin() + used + each);
    }
    rest.insert(rest.end(), own.begin() + used, own.end());
  }
  for (size_t used = 0; rank < ranks; used += each, ++rank) {
    parts[rank].assign(rest.begin() + used, rest.begin() + used + each);
  }
  return parts;
}

absl::Status BindToCores(const std::vector<Core>& cores) {
  cpu_set_t* set = CPU_ALLOC(kMaxCpus);
  const size_t bytes = CPU_ALLOC_SIZE(kMaxCpus);
  CPU_ZERO_S(bytes, set);
  for (const Core& core : cores) {
    for (const int cpu : core.cpus) CPU_SET_S(cpu, bytes, set);
  }
  const int failed = sched_setaffinity(0, bytes, set);
  const int error = errno;
  CPU_FREE(set);
  if (failed == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot bind to ", Describe(cores), ": ", std::strerror(error)));
}

std::string Describe(const std::vector<Core>& cores) {
  std::vector<int> cpus;
  std::set<int> nodes;
  for (const Core& core : cores) {
    cpus.insert(cpus.end(), core.cpus.begin(), core.cpus.end());
    nodes.insert(core.numa_node);
  }
  return absl::StrCat(cpus.size() == 1 ? "cpu " : "cpus ", FormatCpuList(cpus),
                      nodes.size() == 1 ? " (NUMA node " : " (NUMA nodes ",
                      FormatCpuList(std::vector<int>(nodes.begin(), nodes.end())), ")");
}

}  // namespace tanren
