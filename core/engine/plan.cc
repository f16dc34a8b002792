#include "absl/strings/str_format.h"
#include "core/engine/engine.h"

namespace tanren {

std::string MemoryPlan::ToString() const {
  std::string text;
  for (const Entry& arena : arenas) {
    if (arena.bytes == 0) continue;
    absl::StrAppendFormat(&text, "%-38s %12.1f MiB\n", arena.arena, arena.bytes / 1048576.0);
    for (const Entry& entry : entries) {
      if (entry.arena != arena.arena) continue;
      absl::StrAppendFormat(&text, "  %-36s %12.1f MiB\n", entry.label, entry.bytes / 1048576.0);
    }
  }
  absl::StrAppendFormat(&text, "total %43.1f MiB\n", total_bytes / 1048576.0);
  if (host_bytes > 0) absl::StrAppendFormat(&text, "host memory %37.1f MiB\n", host_bytes / 1048576.0);
  return text;
}

}  // namespace tanren
