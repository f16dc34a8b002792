// RUN/env.json: what a run ran with, so that a result can be traced to a build, a machine and a command.
//
//   {"start_time": "2026-11-22T04:54:06Z", "resumed_step": 0, "command": ["tanren", "train", ...],
//    "ranks": 2, "threads": 1, "build": {...}, "machine": {...}, "libraries": {"Open MPI": "4.1.4", ...},
//    "earlier": [...]}
//
// "machine" is that of rank 0. "earlier" holds the same objects of the run's former starts, oldest first, of
// which the newest 100 are kept. Environment variables are not recorded: they hold secrets.
#ifndef TANREN_CORE_REPORT_ENVIRONMENT_H_
#define TANREN_CORE_REPORT_ENVIRONMENT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace tanren {

struct EnvironmentFacts {
  std::vector<std::string> command;  // argv; escaped by the writer
  int64_t resumed_step = 0;
  int ranks = 1;
  int threads = 1;  // compute threads of a rank
  // Libraries of the floors above and below, name and version, beside those of ThisBuild().
  std::vector<std::pair<std::string, std::string>> libraries;
};

// Replaces the file as a whole. A former env.json that cannot be read is dropped: it must not stop a run.
absl::Status WriteEnvironment(const std::string& run_directory, const EnvironmentFacts& facts);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_ENVIRONMENT_H_
