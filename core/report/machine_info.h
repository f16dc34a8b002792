// Where this process runs.
#ifndef TANREN_CORE_REPORT_MACHINE_INFO_H_
#define TANREN_CORE_REPORT_MACHINE_INFO_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

struct MachineInfo {
  std::string hostname;
  std::string system;  // "Debian GNU/Linux 12 (bookworm), Linux 6.1.0"
  std::string cpu;     // "AMD EPYC 9575F 64-Core Processor"
  std::vector<std::string>
      instructions;          // of those that the kernels and oneDNN use: "avx2", "avx512_bf16", ...
  int cores_online = 0;      // logical cores of the machine
  int cores_usable = 0;      // those that this process may run on
  int64_t memory_bytes = 0;  // of the machine
};

// What cannot be found out is left empty or 0.
MachineInfo ThisMachine();

std::string HostName();

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_MACHINE_INFO_H_
