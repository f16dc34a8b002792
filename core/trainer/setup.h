// From a resolved config to the options of the engine, the schedule and the tokenizer.
#ifndef TANREN_CORE_TRAINER_SETUP_H_
#define TANREN_CORE_TRAINER_SETUP_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "core/optimizer/schedule.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

namespace config {
class Config;
}

// The tokenizer that `tokenizer:` names. NotFound or InvalidArgument name the path and what is wrong with it.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromConfig(const config::Config& config);

// The engine's options with one model, "policy", of the config's shape. `vocab_size` is the tokenizer's.
absl::StatusOr<EngineOptions> EngineOptionsFromConfig(const config::Config& config, int64_t vocab_size);

// The files that a checkpoint keeps of a tokenizer, by name.
absl::StatusOr<std::map<std::string, std::string>> TokenizerFilesOf(const Tokenizer& tokenizer);

// parallel.device.
Device DeviceOf(const config::Config& config);

// What a rank may allocate on its device: parallel.memory_limit_bytes or, where that is 0, its share of what
// the system and the container, or GPU `device`, have left, with `sharing` ranks on it.
int64_t MemoryLimit(const config::Config& config, int sharing, int device);
// The same of the memory of this machine, with `ranks` on it, whatever the device.
int64_t HostMemoryLimit(int ranks);

Schedule ScheduleFromConfig(const config::Config& config);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_SETUP_H_
