#include "launch/job.h"

#include <cstdio>

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/plugin/load.h"
#include "core/trainer/setup.h"

namespace tanren {

absl::Status PrepareJob(const std::string& path, const std::vector<std::string>& overrides, Job* job) {
  TANREN_ASSIGN_OR_RETURN(const config::Config config, LoadConfigWithPlugins(path, overrides));
  job->config = config::Resolve(config);
  TANREN_ASSIGN_OR_RETURN(job->stage, MakeStage(job->config.stage()));
  TANREN_ASSIGN_OR_RETURN(job->tokenizer, TokenizerFromConfig(job->config));
  TANREN_ASSIGN_OR_RETURN(job->engine, EngineOptionsFromConfig(job->config, job->tokenizer->vocab_size()));
  job->config.mutable_model()->set_vocab_size(job->engine.models[0].shape.vocab_size);
  return job->stage->Declare(job->config, *job->tokenizer, &job->engine);
}

MeshShape MeshShapeOf(const config::ParallelConfig& parallel) {
  MeshShape shape;
  shape.data = static_cast<int>(parallel.data());
  shape.tensor = static_cast<int>(parallel.tensor());
  shape.pipe = static_cast<int>(parallel.pipe());
  shape.context = static_cast<int>(parallel.context());
  return shape;
}

void PrintPlan(const Job& job, const MeshShape& shape, const MemoryPlan& plan) {
  const ModelShape& model = job.engine.models[0].shape;
  const int64_t parameters = ParameterSet(model, ParameterSet::Options()).global_count();
  const int64_t step_tokens = job.config.batch().micro_batch_tokens() * job.config.batch().micro_batches();
  std::printf("model       %s: %lld layers, width %lld, %.1f M parameters, vocabulary %lld\n",
              model.family.c_str(), static_cast<long long>(model.layers), static_cast<long long>(model.width),
              parameters / 1e6, static_cast<long long>(model.vocab_size));
  std::printf("layout      %s, %d ranks\n", shape.ToString().c_str(), shape.world());
  std::printf("step        %lld micro-batches of %lld tokens = %lld tokens\n",
              static_cast<long long>(job.config.batch().micro_batches()),
              static_cast<long long>(job.config.batch().micro_batch_tokens()),
              static_cast<long long>(step_tokens));
  std::printf("memory plan of the fullest rank\n%s", plan.ToString().c_str());
  std::fflush(stdout);
}

}  // namespace tanren
