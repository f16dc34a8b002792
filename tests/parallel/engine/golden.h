// What tests/core/hugging_face/golden holds for one family, and engines with its weights.
#ifndef TANREN_TESTS_PARALLEL_ENGINE_GOLDEN_H_
#define TANREN_TESTS_PARALLEL_ENGINE_GOLDEN_H_

#include <memory>
#include <string>
#include <vector>

#include "core/comm/comm.h"
#include "core/data/batch.h"
#include "core/engine/engine.h"
#include "core/hugging_face/model.h"
#include "core/loss/next_token.h"

namespace tanren {

struct Golden {
  std::string directory;
  int64_t capacity = 0;
  double z_loss = 0;
  std::vector<std::vector<Unit>> units;  // by micro-batch; one segment each
  double loss = 0;
  double cross_entropy = 0;
  int64_t steps = 0;
  int64_t warmup = 0;
  double peak = 0;
  double final_fraction = 0;
  double decay = 0;
  double clip = 0;
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::vector<int32_t>> answers;
  std::vector<double> logits;  // of micro-batch 0: [its used tokens, vocabulary]

  std::vector<MicroBatch> Pack() const;
  NextTokenLoss loss_function() const { return NextTokenLoss({.z_loss = z_loss}); }
};

std::string GoldenDirectory(const std::string& family);
Golden ReadGolden(const std::string& family);

// An engine of one rank whose model "policy" has the weights of `model`.
struct SoloEngine {
  std::unique_ptr<Comm> world, data, tensor;
  std::unique_ptr<Engine> engine;
};
SoloEngine MakeSoloEngine(const HfModel& model, const Golden& golden, Recompute recompute = Recompute::kNone);

std::unique_ptr<HfModel> OpenModel(const std::string& directory);

}  // namespace tanren

#endif  // TANREN_TESTS_PARALLEL_ENGINE_GOLDEN_H_
