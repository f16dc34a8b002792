// A trained model, loaded to generate: shared by the verbs that read a checkpoint.
#ifndef TANREN_LAUNCH_INFERENCE_H_
#define TANREN_LAUNCH_INFERENCE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/engine/engine.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/tokenizer.h"
#include "parallel/runtime/runtime.h"
#include "stages/reward_model/reward_scale.h"

namespace tanren {

struct InferenceOptions {
  std::string checkpoint;              // a step directory, or a run directory: its newest commit
  std::vector<std::string> overrides;  // on the checkpoint's config: parallel.tensor=2, train.precision=bf16
  int64_t generation_tokens = 0;       // longest prompt and answer; cut to the model's context length
  int64_t slots = 16;                  // sequences that are decoded at once, per data rank
  std::string reward;                  // checkpoint of a reward model, loaded as model "reward"; empty: none
  std::string versus;     // checkpoint of another model that generates, loaded as "versus"; empty: none
  std::string reference;  // checkpoint of another model that only scores, loaded as "reference"; empty: none
  bool generates = true;  // false: only scores; a reward model's checkpoint is then model "reward", alone
  // Where given, it says generation_tokens (0: nothing is generated) from what is known before any weight is
  // loaded. `context_tokens` is the least of the models' contexts. Its error is bad input.
  std::function<absl::StatusOr<int64_t>(const config::Config& config, const Tokenizer& tokenizer,
                                        int64_t context_tokens)>
      plan;
};

struct InferenceModel {
  std::string path;  // the step directory
  config::Config config;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Engine> engine;  // frozen: "policy", that generates, and the others that were asked for
  RewardScale scale;               // of the reward model
};

// Collective: builds the mesh, loads the weights at this job's layout.
absl::StatusOr<InferenceModel> LoadForInference(Runtime& runtime, const InferenceOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_INFERENCE_H_
