#include "absl/strings/str_format.h"
#include "core/engine/engine.h"

namespace tanren {

std::string MemoryPlan::ToString() const {
  std::string text;
  std::string arena;
  for (const Entry& entry : entries) {
    if (entry.arena != arena) absl::StrAppendFormat(&text, "%s\n", entry.arena);
    arena = entry.arena;
    absl::StrAppendFormat(&text, "  %-36s %12.1f MiB\n", entry.label, entry.bytes / 1048576.0);
  }
  absl::StrAppendFormat(&text, "total %43.1f MiB\n", total_bytes / 1048576.0);
  return text;
}

}  // namespace tanren
