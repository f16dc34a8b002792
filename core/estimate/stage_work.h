// What one optimizer step of a stage computes, from its configuration alone.
#ifndef TANREN_CORE_ESTIMATE_STAGE_WORK_H_
#define TANREN_CORE_ESTIMATE_STAGE_WORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "core/proto/config.pb.h"

namespace tanren {

// Passes of one model over tokens, of a step on average.
struct ModelWork {
  std::string model;
  double trained_tokens = 0;  // forward and backward
  double scored_tokens = 0;   // forward only
};

struct StageWork {
  std::vector<ModelWork> models;  // of the engine's, in its order
  double decode_steps = 0;        // of a data rank with all its slots in use, of a step on average
  double prefill_tokens = 0;      // of all ranks
  double prompt_tokens = 0;       // of each
  double decode_context = 0;      // tokens in a slot's cache, on average
  double step_tokens = 0;         // that the first model trains on: what tokens a second are counted in
  std::string assumption;         // what the data would have to say; "" where nothing was assumed
};

// What only the data knows. 0: rollout.max_tokens.
struct AnswerLengths {
  int64_t prompt_tokens = 0;
  int64_t answer_tokens = 0;
};

// Micro-batches count as full: batch.micro_batches of batch.micro_batch_tokens. Stages of preferences and
// rewards score with their frozen models what they train on. Stage rl draws its answers, scores them with
// every model, and trains on all of them in rl.epochs times rl.minibatches steps. Other stages count as one
// that trains all its trainable models and scores with the others.
StageWork WorkOf(const config::Config& config, const EngineOptions& engine, int data_ranks,
                 const AnswerLengths& lengths);

// The models of a stage whose checkpoints are not there yet, each as large as the policy, which is the only
// one in `engine` before: frozen references and reward models, a critic. For the stages of this tree.
void AssumeModels(const config::Config& config, EngineOptions* engine);

}  // namespace tanren

#endif  // TANREN_CORE_ESTIMATE_STAGE_WORK_H_
