// Which program this is.
#ifndef TANREN_CORE_REPORT_BUILD_INFO_H_
#define TANREN_CORE_REPORT_BUILD_INFO_H_

#include <string>
#include <utility>
#include <vector>

namespace tanren {

struct BuildInfo {
  std::string version;        // "0.1.0"
  std::string build_id;       // the linker's hash of this very binary, hexadecimal; empty when it wrote none
  std::string compiler;       // "GCC 12.2.0"
  std::string build_type;     // "Release"
  std::string compile_flags;  // "-O2 -DNDEBUG"
  // Libraries that core/report itself sees, with the versions compiled against.
  std::vector<std::pair<std::string, std::string>> libraries;
};

const BuildInfo& ThisBuild();

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_BUILD_INFO_H_
