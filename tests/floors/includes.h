// The floors of the project, read off the #include and import lines of its files:
//
//     launch
//     stages | parallel      neither includes the other
//     core
//     kernels
//
// A file includes its own floor and the floors below. Tests include what they like; nothing includes tests.
// MPI and NCCL are known to parallel and launch only.
#ifndef TANREN_TESTS_FLOORS_INCLUDES_H_
#define TANREN_TESTS_FLOORS_INCLUDES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tanren::floors {

// What is wrong with `file` (a path from the root, "core/base/status.h") including `included`; empty:
// nothing.
std::string ReasonAgainst(std::string_view file, std::string_view included);

// The path of an #include (of a C++ file) or import (of a .proto file) line; empty for any other line.
std::string IncludedPath(std::string_view line);

struct Report {
  int64_t files = 0;
  int64_t includes = 0;                 // lines that name a file
  std::vector<std::string> violations;  // "core/x.cc:12: core/x.cc includes launch/y.h: ..."
};

// Reads every source file of the floors below `root`.
Report CheckTree(const std::string& root);

}  // namespace tanren::floors

#endif  // TANREN_TESTS_FLOORS_INCLUDES_H_
