#include "core/report/environment.h"

#include <ctime>
#include <string_view>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/config/text.h"
#include "core/report/append_file.h"
#include "core/report/build_info.h"
#include "core/report/machine_info.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxFileBytes = 16 << 20;
constexpr size_t kMaxEarlierStarts = 100;
constexpr size_t kMaxArgumentBytes = 4096;

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts));
}

Json BuildJson(const BuildInfo& build) {
  return Json{{"version", build.version},
              {"build_id", build.build_id},
              {"compiler", build.compiler},
              {"build_type", build.build_type},
              {"compile_flags", build.compile_flags}};
}

Json MachineJson(const MachineInfo& machine) {
  return Json{{"hostname", machine.hostname},
              {"system", machine.system},
              {"cpu", machine.cpu},
              {"instructions", machine.instructions},
              {"cores_online", machine.cores_online},
              {"cores_usable", machine.cores_usable},
              {"memory_bytes", machine.memory_bytes}};
}

// The former start and those before it, oldest first.
Json EarlierStarts(const std::string& run_directory) {
  const absl::StatusOr<Directory> directory = Directory::Open(run_directory);
  if (!directory.ok()) return Json::array();
  const absl::StatusOr<std::string> text = ReadSmallFile(*directory, "env.json", kMaxFileBytes);
  if (!text.ok()) return Json::array();
  Json former = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!former.is_object()) return Json::array();
  Json starts = Json::array();
  if (const auto found = former.find("earlier"); found != former.end()) {
    if (found->is_array()) starts = std::move(*found);
    former.erase("earlier");
  }
  starts.push_back(std::move(former));
  if (starts.size() > kMaxEarlierStarts) {
    starts.erase(starts.begin(), starts.begin() + static_cast<int64_t>(starts.size() - kMaxEarlierStarts));
  }
  return starts;
}

}  // namespace

absl::Status WriteEnvironment(const std::string& run_directory, const EnvironmentFacts& facts) {
  const BuildInfo& build = ThisBuild();
  Json command = Json::array();
  for (const std::string& argument : facts.command) {
    command.push_back(config::Printable(argument, kMaxArgumentBytes));
  }
  Json libraries = Json::object();
  for (const auto& [name, version] : build.libraries) libraries[name] = version;
  for (const auto& [name, version] : facts.libraries) libraries[name] = version;

  Json document;
  document["start_time"] = UtcNow();
  document["resumed_step"] = facts.resumed_step;
  document["command"] = std::move(command);
  document["ranks"] = facts.ranks;
  document["threads"] = facts.threads;
  document["build"] = BuildJson(build);
  document["machine"] = MachineJson(ThisMachine());
  document["libraries"] = std::move(libraries);
  document["earlier"] = EarlierStarts(run_directory);
  const std::string text = document.dump(2, ' ', false, Json::error_handler_t::replace);
  return ReplaceSmallFile(run_directory + "/env.json", text + "\n");
}

}  // namespace tanren
