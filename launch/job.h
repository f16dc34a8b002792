// A training run as its configuration describes it, before anything large exists.
#ifndef TANREN_LAUNCH_JOB_H_
#define TANREN_LAUNCH_JOB_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/engine/engine.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/tokenizer.h"
#include "core/trainer/stage.h"

namespace tanren {

struct Job {
  config::Config config;  // resolved
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Stage> stage;
  EngineOptions engine;
};

// Everything that can be wrong with a run's input, found before any memory is allocated.
absl::Status PrepareJob(const std::string& path, const std::vector<std::string>& overrides, Job* job);

// As the config says; data may be 0.
MeshShape MeshShapeOf(const config::ParallelConfig& parallel);

// Model, layout, step and the memory of the fullest rank, to standard output.
void PrintPlan(const Job& job, const MeshShape& shape, const MemoryPlan& plan);

}  // namespace tanren

#endif  // TANREN_LAUNCH_JOB_H_
