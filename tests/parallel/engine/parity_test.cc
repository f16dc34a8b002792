// The engine against PyTorch in float64, family by family, on tiny random models of transformers'.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "core/optimizer/schedule.h"
#include "tests/parallel/engine/golden.h"
#include "tests/test_device.h"

namespace tanren {
namespace {

class Parity : public testing::TestWithParam<const char*> {
 protected:
  Parity()
      : golden_(ReadGolden(GetParam())), model_(OpenModel(golden_.directory)), batches_(golden_.Pack()) {}

  std::vector<float> Gradients(Recompute recompute) {
    const SoloEngine solo = MakeSoloEngine(*model_, golden_, recompute);
    std::vector<float> gradients;
    const auto result =
        solo.engine->GradientsForTest("policy", batches_, golden_.loss_function(), &gradients);
    EXPECT_TRUE(result.ok()) << result.status();
    return gradients;
  }

  Golden golden_;
  std::unique_ptr<HfModel> model_;
  std::vector<MicroBatch> batches_;
};

std::vector<float> Logp(Engine& engine, const MicroBatch& batch, Statistics* all = nullptr) {
  const absl::StatusOr<Statistics> statistics =
      engine.Score("policy", batch, kLogp | kLse | kEntropy, false, 1);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  if (all != nullptr) *all = *statistics;
  return statistics->logp;
}

double Norm(const std::vector<double>& values) {
  double squares = 0;
  for (double value : values) squares += value * value;
  return std::sqrt(squares);
}

// Every logit, by scoring each token of the vocabulary as the target of every position.
TEST_P(Parity, LogitsEqualPyTorch) {
  const SoloEngine solo = MakeSoloEngine(*model_, golden_);
  const int64_t vocab = model_->shape().vocab_size;
  std::vector<Unit> units = golden_.units[0];
  int64_t tokens = 0;
  for (Unit& unit : units) {
    unit.mask.assign(unit.ids.size(), 1);
    tokens += unit.tokens();
  }
  ASSERT_EQ(golden_.logits.size(), static_cast<size_t>(tokens * vocab));
  double worst = 0, worst_entropy = 0;
  for (int64_t target = 0; target < vocab; ++target) {
    for (Unit& unit : units) unit.targets.assign(unit.ids.size(), static_cast<int32_t>(target));
    MicroBatch batch;
    ASSERT_TRUE(PackMicroBatch(units, golden_.capacity, &batch).ok());
    Statistics statistics;
    const std::vector<float> logp = Logp(*solo.engine, batch, &statistics);
    ASSERT_EQ(logp.size(), static_cast<size_t>(tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      const double* row = golden_.logits.data() + t * vocab;
      double sum = 0, mean = 0;
      for (int64_t v = 0; v < vocab; ++v) sum += std::exp(row[v]);
      for (int64_t v = 0; v < vocab; ++v) mean += row[v] * std::exp(row[v]) / sum;
      worst = std::max(worst, std::abs(double{logp[t]} + statistics.lse[t] - row[target]));
      worst = std::max(worst, std::abs(logp[t] - (row[target] - std::log(sum))));
      worst_entropy = std::max(worst_entropy, std::abs(statistics.entropy[t] - (std::log(sum) - mean)));
    }
  }
  std::printf("%s: largest logit and logp error %.2g, entropy %.2g\n", GetParam(), worst, worst_entropy);
  EXPECT_LT(worst, 2e-5);
  EXPECT_LT(worst_entropy, 2e-5);
}

TEST_P(Parity, LossAndEveryGradientEqualPyTorch) {
  const SoloEngine solo = MakeSoloEngine(*model_, golden_);
  std::vector<float> gradients;
  const auto result = solo.engine->GradientsForTest("policy", batches_, golden_.loss_function(), &gradients);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->loss, golden_.loss, 2e-6);
  EXPECT_NEAR(result->metrics[0], golden_.cross_entropy, 2e-6);

  // Float64 gradients under transformers' names, read by the same map; rounding them to fp32 costs 6e-8.
  const std::unique_ptr<HfModel> truth = OpenModel(golden_.directory + "/gradients");
  const std::vector<Parameter>& parameters = solo.engine->parameters("policy").all();
  std::vector<std::vector<float>> expected(parameters.size());
  double squares = 0;
  for (size_t p = 0; p < parameters.size(); ++p) {
    expected[p].resize(static_cast<size_t>(parameters[p].valid_count()));
    ASSERT_TRUE(truth->Read(parameters[p].name, Region::Whole(parameters[p].shape), expected[p].data()).ok());
    for (float value : expected[p]) squares += double{value} * value;
  }
  const double global = std::sqrt(squares);
  double worst = 0;
  std::string worst_name;
  for (size_t p = 0; p < parameters.size(); ++p) {
    std::vector<double> error, size;
    for (size_t i = 0; i < expected[p].size(); ++i) {
      error.push_back(double{gradients[parameters[p].offset + i]} - expected[p][i]);
      size.push_back(expected[p][i]);
    }
    double scale = std::max(Norm(size), 1e-4 * global);
    // Softmax ignores what all keys share, so without rotary position the key bias has no gradient. What
    // rounding leaves of it is a sum of terms as large as those of the query bias, the parameter before it.
    if (model_->shape().learned_positions && parameters[p].name.find("key.bias") != std::string::npos) {
      EXPECT_LT(Norm(size), 1e-12 * global);
      scale = std::max(scale, Norm({expected[p - 1].begin(), expected[p - 1].end()}));
    }
    const double relative = Norm(error) / scale;
    EXPECT_LE(relative, 1e-5) << parameters[p].name << ": |g| " << Norm(size) << " of " << global;
    if (relative > worst) {
      worst = relative;
      worst_name = parameters[p].name;
    }
    // Rows of padding learn nothing.
    for (int64_t i = parameters[p].valid_count(); i < parameters[p].count; ++i) {
      ASSERT_EQ(gradients[parameters[p].offset + i], 0.0f) << parameters[p].name;
    }
  }
  std::printf("%s: loss error %.2g, largest relative gradient error %.2g (%s)\n", GetParam(),
              std::abs(result->loss - golden_.loss), worst, worst_name.c_str());
}

TEST_P(Parity, TwentyStepsOfAdamWEqualPyTorch) {
  const SoloEngine solo = MakeSoloEngine(*model_, golden_);
  const Schedule schedule{Schedule::Kind::kCosine, golden_.peak, golden_.warmup, golden_.steps, 0,
                          golden_.final_fraction};
  double worst = 0, worst_norm = 0;
  for (int64_t step = 0; step < golden_.steps; ++step) {
    const auto result =
        solo.engine->Train("policy", batches_, golden_.loss_function(), LearningRate(schedule, step));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_NEAR(result->loss, golden_.losses[step], 1e-5) << "step " << step;
    worst = std::max(worst, std::abs(result->loss - golden_.losses[step]));
    worst_norm = std::max(worst_norm, std::abs(result->gradient_norm / golden_.norms[step] - 1));
  }
  EXPECT_LT(worst_norm, 1e-4);
  EXPECT_EQ(solo.engine->updates("policy"), golden_.steps);
  std::printf("%s: largest loss error in %d steps %.2g, of the norm %.2g relative\n", GetParam(),
              static_cast<int>(golden_.steps), worst, worst_norm);
}

// Three prompts in two slots, prefilled in pieces of 8.
TEST_P(Parity, GreedyTextEqualsPyTorch) {
  const SoloEngine solo = MakeSoloEngine(*model_, golden_);
  std::vector<GenerationRequest> requests;
  for (const std::vector<int32_t>& prompt : golden_.prompts) {
    GenerationRequest request;
    request.prompt = prompt;
    request.max_tokens = static_cast<int64_t>(golden_.answers[0].size());
    request.sampling.temperature = 0;
    requests.push_back(request);
  }
  const auto answers = solo.engine->Generate("policy", requests);
  ASSERT_TRUE(answers.ok()) << answers.status();
  for (size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ((*answers)[i].tokens, golden_.answers[i]) << "prompt " << i;
}

// What is computed again is computed by the same calls: not one bit may differ.
TEST_P(Parity, RecomputationChangesNoBitOfAnyGradient) {
  const std::vector<float> kept = Gradients(Recompute::kNone);
  for (Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    const std::vector<float> again = Gradients(recompute);
    ASSERT_EQ(kept.size(), again.size());
    EXPECT_EQ(std::memcmp(kept.data(), again.data(), kept.size() * sizeof(float)), 0)
        << "recompute " << static_cast<int>(recompute);
  }
}

// A segment's log-probabilities are the same bits wherever it stands in a row and whoever stands beside it,
// however many chunks of the head the row fills.
TEST_P(Parity, PackingChangesNoBitOfLogp) {
  golden_.capacity = 384;
  const SoloEngine solo = MakeSoloEngine(*model_, golden_);
  std::vector<Unit> units;
  for (int copy = 0; copy < 5; ++copy) {
    for (const std::vector<Unit>& some : golden_.units) units.insert(units.end(), some.begin(), some.end());
  }
  const auto score = [&](const std::vector<Unit>& row) {
    MicroBatch batch;
    EXPECT_TRUE(PackMicroBatch(row, golden_.capacity, &batch).ok());
    return Logp(*solo.engine, batch);
  };
  const std::vector<float> forwards = score(units), backwards = score({units.rbegin(), units.rend()});
  size_t begin = 0;
  for (const Unit& unit : units) {
    const size_t trained = static_cast<size_t>(std::count(unit.mask.begin(), unit.mask.end(), 1));
    const std::vector<float> alone = score({unit});
    ASSERT_EQ(alone.size(), trained);
    const size_t mirrored = backwards.size() - begin - trained;
    for (size_t i = 0; i < trained; ++i) {
      ASSERT_EQ(forwards[begin + i], alone[i]) << "alone, from trained token " << begin;
      ASSERT_EQ(backwards[mirrored + i], alone[i]) << "in reverse order, from trained token " << begin;
    }
    begin += trained;
  }
}

// Only the rows in use are computed: a larger capacity changes no bit of a gradient.
TEST_P(Parity, UnusedCapacityChangesNoGradient) {
  golden_.capacity = 512;
  batches_ = golden_.Pack();
  const std::vector<float> small = Gradients(Recompute::kNone);
  golden_.capacity = 2048;
  batches_ = golden_.Pack();
  const std::vector<float> large = Gradients(Recompute::kNone);
  ASSERT_EQ(small.size(), large.size());
  double squares = 0, error = 0;
  for (size_t i = 0; i < small.size(); ++i) {
    squares += double{small[i]} * small[i];
    error += (double{large[i]} - small[i]) * (double{large[i]} - small[i]);
  }
  // On a GPU the whole capacity is computed, and sums over more zero rows may be cut otherwise.
  EXPECT_LE(std::sqrt(error), (TestDevice() == Device::kCpu ? 0 : 1e-6) * std::sqrt(squares));
}

// What no table of the model holds is refused before anything is computed with it.
TEST_P(Parity, BatchesThatDoNotFitTheModelAreErrors) {
  const SoloEngine solo = MakeSoloEngine(*model_, golden_);
  const auto refusal = [&](const MicroBatch& batch) {
    const auto scored = solo.engine->Score("policy", batch, kLogp, false, 1).status();
    const auto trained = solo.engine->Train("policy", {&batch, 1}, golden_.loss_function(), 1e-3).status();
    EXPECT_TRUE(absl::IsInvalidArgument(scored) && absl::IsInvalidArgument(trained)) << scored << trained;
    return std::string(scored.message());
  };
  MicroBatch batch = batches_[0];
  batch.ids[3] = 61;
  EXPECT_NE(refusal(batch).find("vocabulary has 61"), std::string::npos);
  batch = batches_[0];
  batch.targets[3] = 61;
  EXPECT_NE(refusal(batch).find("target 61"), std::string::npos);
  batch = batches_[0];
  batch.positions[3] = static_cast<int32_t>(model_->shape().context_length);
  EXPECT_NE(refusal(batch).find("context_length"), std::string::npos);
  batch = batches_[0];
  batch.capacity = 64;
  EXPECT_NE(refusal(batch).find("64"), std::string::npos);
  const auto values = solo.engine->Score("policy", batches_[0], kValue, false, 1).status();
  EXPECT_NE(std::string(values.message()).find("no scalar head"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, Parity, testing::Values("gpt2", "llama", "mistral", "qwen2", "qwen3"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tanren
