#include "core/trainer/setup.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/base/status.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "core/trainer/requests.h"
#include "kernels/device.h"

namespace tanren {
namespace {

Recompute RecomputeOf(config::TrainConfig::Recompute recompute) {
  switch (recompute) {
    case config::TrainConfig::none:
      return Recompute::kNone;
    case config::TrainConfig::selective:
      return Recompute::kSelective;
    case config::TrainConfig::full:
      return Recompute::kFull;
  }
  return Recompute::kNone;
}

Schedule::Kind KindOf(config::ScheduleConfig::Kind kind) {
  switch (kind) {
    case config::ScheduleConfig::constant:
      return Schedule::Kind::kConstant;
    case config::ScheduleConfig::linear:
      return Schedule::Kind::kLinear;
    case config::ScheduleConfig::cosine:
      return Schedule::Kind::kCosine;
    case config::ScheduleConfig::warmup_stable_decay:
      return Schedule::Kind::kWarmupStableDecay;
  }
  return Schedule::Kind::kCosine;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromConfig(const config::Config& config) {
  const config::TokenizerConfig& options = config.tokenizer();
  if (options.path().empty()) {
    if (options.kind() == config::TokenizerConfig::bytes) return MakeByteTokenizer();
    return InvalidInput("tokenizer.path: kind %s needs the directory or file of a tokenizer",
                        config::TokenizerConfig::Kind_Name(options.kind()));
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(options.path());
  if (!tokenizer.ok()) return At("tokenizer.path", tokenizer.status());
  const std::string& wanted = config::TokenizerConfig::Kind_Name(options.kind());
  if (options.has_kind() && (*tokenizer)->kind() != wanted) {
    return InvalidInput("tokenizer.kind: %s is asked for, and %s holds a tokenizer of kind %s", wanted,
                        options.path(), std::string((*tokenizer)->kind()));
  }
  return tokenizer;
}

absl::StatusOr<EngineOptions> EngineOptionsFromConfig(const config::Config& config, int64_t vocab_size) {
  EngineOptions options;
  ModelOptions policy;
  TANREN_ASSIGN_OR_RETURN(policy.shape, ShapeFromConfig(config.model(), vocab_size));
  policy.dtype = config.train().precision() == config::TrainConfig::bf16 ? DType::kBF16 : DType::kF32;
  policy.recompute = RecomputeOf(config.train().recompute());
  policy.optimizer.beta1 = config.optimizer().beta1();
  policy.optimizer.beta2 = config.optimizer().beta2();
  policy.optimizer.epsilon = config.optimizer().epsilon();
  policy.optimizer.weight_decay = config.optimizer().weight_decay();
  policy.optimizer.clip_norm = config.optimizer().clip_norm();
  policy.optimizer.moments =
      config.optimizer().moments() == config::OptimizerConfig::bf16 ? DType::kBF16 : DType::kF32;
  policy.optimizer.rounding_seed = static_cast<uint64_t>(config.seed());
  policy.optimizer.elastic = config.train().determinism() == config::TrainConfig::elastic;
  policy.init_seed = static_cast<uint64_t>(config.seed());
  policy.init_from = config.init().from();
  policy.generates = config.samples().interval_steps() > 0 && config.samples().prompts_size() > 0;
  if (policy.generates) {
    for (const std::string& prompt : config.samples().prompts()) {
      options.generation_tokens = std::max(
          options.generation_tokens,
          std::min(policy.shape.context_length, GenerationTokens(prompt, config.samples().max_tokens())));
    }
  }
  options.decode_slots = std::clamp<int64_t>(config.samples().prompts_size(), 1, 16);
  options.micro_batch_tokens = config.batch().micro_batch_tokens();
  options.head_chunk_tokens = config.train().head_chunk_tokens();
  options.offload_frozen = config.init().offload();
  options.snapshots = config.checkpoint().async() && config.checkpoint().interval_steps() > 0;
  options.bucket_bytes = config.parallel().bucket_bytes();
  options.models.push_back(std::move(policy));
  return options;
}

absl::StatusOr<std::map<std::string, std::string>> TokenizerFilesOf(const Tokenizer& tokenizer) {
  std::error_code error;
  std::string place = (std::filesystem::temp_directory_path(error) / "tanren-tokenizer-XXXXXX").string();
  if (error || mkdtemp(place.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("no temporary directory can be made at ", place));
  }
  absl::Status saved = tokenizer.Save(place);
  std::map<std::string, std::string> files;
  if (saved.ok()) {
    for (const auto& entry : std::filesystem::directory_iterator(place, error)) {
      std::ifstream in(entry.path(), std::ios::binary);
      files[entry.path().filename().string()] = std::string(std::istreambuf_iterator<char>(in), {});
      if (!in) saved = absl::InternalError(absl::StrCat("cannot read ", entry.path().string()));
    }
  }
  std::filesystem::remove_all(place, error);
  TANREN_RETURN_IF_ERROR(saved);
  return files;
}

Device DeviceOf(const config::Config& config) {
  return config.parallel().device() == config::ParallelConfig::cuda ? Device::kCuda : Device::kCpu;
}

int64_t MemoryLimit(const config::Config& config, int sharing, int device) {
  if (config.parallel().memory_limit_bytes() > 0) return config.parallel().memory_limit_bytes();
  if (DeviceOf(config) == Device::kCpu) return HostMemoryLimit(sharing);
  // What libraries and scratch memory take beside the arenas.
  constexpr int64_t kReserve = int64_t{512} << 20;
  return std::max<int64_t>(kernels::PropertiesOf(device).free_bytes / sharing - kReserve, 1);
}

int64_t HostMemoryLimit(int ranks) {
  int64_t available = 0;
  std::ifstream in("/proc/meminfo");
  std::string key, rest;
  for (int64_t kibibytes = 0; in >> key >> kibibytes && std::getline(in, rest);) {
    if (key == "MemAvailable:") available = kibibytes * 1024;
  }
  // A container's own limit (cgroup 2); "max" and absent files do not parse.
  int64_t limit = 0, current = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit &&
      std::ifstream("/sys/fs/cgroup/memory.current") >> current) {
    // Files that were read count as used, and are given up when memory is asked for.
    int64_t reclaimable = 0;
    std::ifstream stat("/sys/fs/cgroup/memory.stat");
    for (int64_t bytes = 0; stat >> key >> bytes;) {
      if (key == "inactive_file" || key == "active_file") reclaimable += bytes;
    }
    available = std::min(available, std::max<int64_t>(limit - current + reclaimable, 1));
  }
  return available / ranks;
}

Schedule ScheduleFromConfig(const config::Config& config) {
  Schedule schedule;
  schedule.kind = KindOf(config.schedule().kind());
  schedule.peak = config.optimizer().learning_rate();
  schedule.warmup_steps = config.schedule().warmup_steps();
  schedule.final_fraction = config.schedule().final_fraction();
  schedule.decay_steps = config.schedule().decay_steps();
  const bool stable = schedule.kind == Schedule::Kind::kWarmupStableDecay;
  schedule.total_steps = stable || schedule.decay_steps == 0 ? config.train().steps() : schedule.decay_steps;
  return schedule;
}

}  // namespace tanren
