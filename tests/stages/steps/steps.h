// What the tests of whole optimizer steps share: the golden sequences, what a stage would pack of them, and
// the comparison with PyTorch in float64, through a tiny GPT-2: from tokens over the engine's
// log-probabilities, values and scores, the reference, advantages and the loss to every gradient and three
// steps of AdamW. golden/make_golden.py made the files.
#ifndef TANREN_TESTS_STAGES_STEPS_STEPS_H_
#define TANREN_TESTS_STAGES_STEPS_STEPS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/comm/comm.h"
#include "core/hugging_face/model.h"
#include "parallel/engine/mesh_engine.h"
#include "stages/common/scoring.h"
#include "stages/rl/advantages.h"
#include "stages/rl/rl_options.h"
#include "stages/rl/rollout.h"
#include "tests/test_device.h"

namespace tanren {

using nlohmann::json;

inline constexpr int64_t kCapacity = 128;
// As in make_golden.py.
inline constexpr double kRate = 1e-2, kKl = 0.05, kLambda = 0.95;
inline constexpr float kTemperature = 0.8f;
inline constexpr int64_t kGroup = 4;

// Each loss and norm of fp32 against float64.
inline constexpr double kTolerance = 1e-5;

inline std::unique_ptr<HfModel> Open(const std::string& name) {
  absl::StatusOr<std::unique_ptr<HfModel>> model = HfModel::Open(TANREN_STEPS_GOLDEN "/" + name);
  TANREN_CHECK_MSG(model.ok(), model.status().ToString());
  return *std::move(model);
}

inline double Norm(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  return std::sqrt(squares);
}

class Steps : public testing::Test {
 protected:
  Steps() : golden_(json::parse(std::ifstream(TANREN_STEPS_GOLDEN "/golden.json"))) {
    mesh_.stream = TestDeviceStream();
    mesh_.world = world_.get();
    mesh_.data = data_.get();
    mesh_.tensor = tensor_.get();
    EngineOptions options;
    options.micro_batch_tokens = kCapacity;
    options.head_chunk_tokens = 128;
    ModelOptions model;
    model.shape = Open("policy")->shape();
    model.optimizer.clip_norm = 1;
    options.models = {model, model, model};
    options.models[1].name = "reference";
    options.models[1].trainable = false;
    // A critic, or a reward model.
    options.models[2].name = "scorer";
    options.models[2].shape.scalar_head = true;
    options.models[2].shape.vocabulary_head = false;
    absl::StatusOr<std::unique_ptr<Engine>> engine = MakeMeshEngine(options, mesh_, 0);
    TANREN_CHECK_MSG(engine.ok(), engine.status().ToString());
    engine_ = *std::move(engine);
    Fill("policy", "policy");
    Fill("reference", "reference");
    Fill("scorer", "reference");
  }

  void Fill(const std::string& name, const std::string& directory) {
    const std::unique_ptr<HfModel> model = Open(directory);
    const std::unique_ptr<StateAccess> state = engine_->State(name);
    std::vector<StatePiece> stored;
    for (const StatePiece& piece : state->pieces()) {
      if (piece.name != "score.weight") {
        stored.push_back(piece);
      } else if (piece.role == StatePiece::Role::kWeight) {
        const auto score = golden_["score"].get<std::vector<float>>();
        std::copy(score.begin() + piece.range_begin, score.begin() + piece.range_end, piece.data.as<float>());
      }
    }
    const absl::Status filled = FillPieces(*model, stored);
    TANREN_CHECK_MSG(filled.ok(), filled.ToString());
    state->Commit();
  }

  const json& Case(const std::string& name) const { return golden_["cases"][name]; }
  std::vector<int32_t> Ids(const json& sequence) const {
    return golden_["sequences"][sequence.get<size_t>()]["ids"];
  }
  int64_t PromptTokens(const json& sequence) const {
    return golden_["sequences"][sequence.get<size_t>()]["prompt"];
  }

  // Prompt and answer as stage rl makes them.
  RolloutAnswer Answer(const json& sequence) const {
    const std::vector<int32_t> ids = Ids(sequence);
    const auto answer = ids.begin() + PromptTokens(sequence);
    return MakeAnswer({ids.begin(), answer}, {answer, ids.end()}, true, 0);
  }
  // One unit of several sequences, one behind the other.
  Unit Joined(const json& sequences) const {
    Unit unit;
    for (const json& sequence : sequences) {
      const Unit one = Answer(sequence).unit;
      unit.ids.insert(unit.ids.end(), one.ids.begin(), one.ids.end());
      unit.targets.insert(unit.targets.end(), one.targets.begin(), one.targets.end());
      unit.mask.insert(unit.mask.end(), one.mask.begin(), one.mask.end());
      unit.segment_lengths.push_back(one.segment_lengths[0]);
    }
    return unit;
  }
  // Two micro-batches, so that sums over micro-batches are part of the step.
  std::vector<MicroBatch> Pack(const std::vector<Unit>& units) const {
    std::vector<MicroBatch> batches(2);
    const auto middle = units.begin() + static_cast<int64_t>(units.size() / 2);
    const absl::Status first = PackMicroBatch({units.begin(), middle}, kCapacity, &batches[0]);
    const absl::Status second = PackMicroBatch({middle, units.end()}, kCapacity, &batches[1]);
    TANREN_CHECK_MSG(first.ok() && second.ok(), first.ToString(), second.ToString());
    return batches;
  }
  void AddReference(std::vector<MicroBatch>* batches, float temperature = 1) {
    const absl::Status added =
        AddLogProbabilities(*engine_, "reference", "reference_logp", temperature, batches);
    ASSERT_TRUE(added.ok()) << added;
  }
  // Of the trained tokens of one unit.
  std::vector<float> Logp(const std::string& model, const Unit& unit) {
    MicroBatch batch;
    const absl::Status packed = PackMicroBatch({unit}, kCapacity, &batch);
    TANREN_CHECK_MSG(packed.ok(), packed.ToString());
    const absl::StatusOr<Statistics> statistics = engine_->Score(model, batch, kLogp, false, 1);
    TANREN_CHECK_MSG(statistics.ok(), statistics.status().ToString());
    return statistics->logp;
  }
  double SumLogp(const std::string& model, const Unit& unit) {
    const std::vector<float> logp = Logp(model, unit);
    return std::accumulate(logp.begin(), logp.end(), 0.0);
  }

  static void FillAnswer(Unit* unit, const char* name, int64_t prompt_tokens,
                         const std::vector<double>& values) {
    std::vector<float>& column = unit->columns.Get(name, unit->tokens());
    for (size_t t = 0; t < values.size(); ++t) column[prompt_tokens - 1 + t] = static_cast<float>(values[t]);
  }

  std::vector<Unit> Rankings(const json& data) const {
    std::vector<Unit> units;
    for (size_t u = 0; u < data["units"].size(); ++u) {
      const int64_t answers = static_cast<int64_t>(data["units"][u].size());
      units.push_back(Joined(data["units"][u]));
      units.back().segment_columns.Get("rank", answers) = data["ranks"][u].get<std::vector<float>>();
      units.back().segment_columns.Get("margin", answers, data["margins"][u].get<float>());
    }
    return units;
  }

  // What a PPO rollout holds: the columns of policy and critic.
  std::vector<Unit> PpoUnits(const json& data) {
    std::vector<std::vector<double>> advantages, returns;
    std::vector<double> all;
    for (size_t i = 0; i < data["units"].size(); ++i) {
      const auto old_logp = data["old_logp"][i].get<std::vector<double>>();
      auto values = data["old_values"][i].get<std::vector<double>>();
      const std::vector<float> reference = Logp("reference", Answer(data["units"][i]).unit);
      std::vector<double> rewards;
      for (size_t t = 0; t < old_logp.size(); ++t) rewards.push_back(-kKl * (old_logp[t] - reference[t]));
      rewards.back() += data["rewards"][i].get<double>();
      if (data["ended"][i] == 1) values.back() = 0;
      advantages.push_back(GeneralizedAdvantages(rewards, values, 1, kLambda));
      returns.emplace_back();
      for (size_t t = 0; t < rewards.size(); ++t) returns.back().push_back(advantages.back()[t] + values[t]);
      all.insert(all.end(), advantages.back().begin(), advantages.back().end());
    }
    Whiten(all, /*shift_mean=*/true, 1e-8);
    std::vector<Unit> units;
    auto next = all.begin();
    for (size_t i = 0; i < advantages.size(); ++i) {
      Unit unit = Answer(data["units"][i]).unit;
      const int64_t prompt = PromptTokens(data["units"][i]);
      const size_t tokens = advantages[i].size();
      auto old_values = data["old_values"][i].get<std::vector<double>>();
      old_values.pop_back();
      FillAnswer(&unit, "weight", prompt, std::vector<double>(tokens, 1));
      FillAnswer(&unit, "old_logp", prompt, data["old_logp"][i]);
      FillAnswer(&unit, "advantage", prompt, {next, next + static_cast<int64_t>(tokens)});
      FillAnswer(&unit, "return", prompt, returns[i]);
      FillAnswer(&unit, "old_value", prompt, old_values);
      next += static_cast<int64_t>(tokens);
      units.push_back(unit);
    }
    return units;
  }

  // Pairs of sequences, chosen first, with the reference's log-probabilities.
  std::vector<MicroBatch> Pairs(const std::string& name) {
    std::vector<Unit> units;
    for (const json& pair : Case(name)["units"]) units.push_back(Joined(pair));
    std::vector<MicroBatch> batches = Pack(units);
    AddReference(&batches);
    return batches;
  }

  // Answers as stage rl packs them where it has no critic: a weight of 1 for each token, or 1 / tokens.
  std::vector<MicroBatch> GroupedAnswers(const json& data, const std::vector<double>& advantages,
                                         bool sequence_mean) const {
    std::vector<Unit> units;
    for (size_t i = 0; i < advantages.size(); ++i) {
      const RolloutAnswer answer = Answer(data["units"][i]);
      const size_t tokens = static_cast<size_t>(answer.trained_tokens());
      const double weight = sequence_mean ? 1 / static_cast<double>(tokens) : 1;
      units.push_back(answer.unit);
      FillAnswer(&units.back(), "weight", answer.prompt_tokens, std::vector<double>(tokens, weight));
      FillAnswer(&units.back(), "old_logp", answer.prompt_tokens, data["old_logp"][i]);
      FillAnswer(&units.back(), "advantage", answer.prompt_tokens,
                 std::vector<double>(tokens, advantages[i]));
      units.back().segment_columns.Get("advantage", 1, static_cast<float>(advantages[i]));
    }
    return Pack(units);
  }
  static std::vector<double> AdvantagesOf(const json& data) {
    return GroupAdvantages(data["rewards"].get<std::vector<double>>(), kGroup, true);
  }

  // The loss of a token, clipped as by default, without KL or entropy bonus.
  static RlOptions TokenOptions(RlAlgorithm algorithm, float temperature) {
    RlOptions options;
    options.algorithm = algorithm;
    options.clip_low = options.clip_high = 0.2;
    options.dual_clip = options.entropy = options.kl_coefficient = 0;
    options.sampling.temperature = temperature;
    return options;
  }

  static RlOptions GrpoWithKlInTheLoss(KlEstimator estimator) {
    RlOptions options = TokenOptions(RlAlgorithm::kGrpo, kTemperature);
    options.kl_in_reward = false;
    options.kl_estimator = estimator;
    options.kl_coefficient = kKl;
    return options;
  }

  // The first step's loss and gradient of every parameter, then the losses and norms of all steps. `prepare`,
  // where given, makes the batches of a step anew.
  void Compare(const std::string& name, const std::string& model, const Loss& loss,
               std::vector<MicroBatch> batches,
               const std::function<std::vector<MicroBatch>()>& prepare = {}) {
    const json& want = Case(name);
    std::vector<float> gradients;
    const auto first = engine_->GradientsForTest(model, batches, loss, &gradients);
    ASSERT_TRUE(first.ok()) << first.status();
    const double first_loss = want["losses"][0];
    EXPECT_NEAR(first->loss, first_loss, kTolerance * std::max(1.0, std::abs(first_loss)));
    CompareGradients(name, model, gradients);
    double worst = 0;
    for (size_t step = 0; step < want["losses"].size(); ++step) {
      if (prepare) batches = prepare();
      const auto result = engine_->Train(model, batches, loss, kRate);
      ASSERT_TRUE(result.ok()) << result.status();
      const double truth = want["losses"][step];
      EXPECT_NEAR(result->loss, truth, kTolerance * std::max(1.0, std::abs(truth))) << "step " << step;
      EXPECT_NEAR(result->gradient_norm / want["norms"][step].get<double>(), 1, kTolerance)
          << "step " << step;
      worst = std::max(worst, std::abs(result->loss - truth));
    }
    std::printf("%s: largest loss error in %zu steps %.2g\n", name.c_str(), want["losses"].size(), worst);
  }

  // ||dg|| <= 2e-5 max(||g||, 1e-3 of the global norm): of tiny sequences some gradients nearly cancel. That
  // by a key bias is zero in mathematics; what rounding leaves of it is a sum of terms as large as those of
  // the query bias.
  void CompareGradients(const std::string& name, const std::string& model,
                        const std::vector<float>& gradients) {
    const std::unique_ptr<HfModel> truth = Open(name);
    const double global = Case(name)["norms"][0];
    std::string worst_name;
    double query_bias = 0, worst = 0;
    for (const Parameter& parameter : engine_->parameters(model).all()) {
      std::vector<float> want(static_cast<size_t>(parameter.valid_count()));
      if (parameter.name == "score.weight") {
        want = Case(name)["score_gradient"].get<std::vector<float>>();
      } else {
        ASSERT_TRUE(truth->Read(parameter.name, Region::Whole(parameter.shape), want.data()).ok());
      }
      ASSERT_EQ(want.size(), static_cast<size_t>(parameter.valid_count()));
      std::vector<float> error(want.size());
      for (size_t i = 0; i < want.size(); ++i) error[i] = gradients[parameter.offset + i] - want[i];
      double scale = std::max(Norm(want), 1e-3 * global);
      if (parameter.name.find("query.bias") != std::string::npos) query_bias = Norm(want);
      if (parameter.name.find("key.bias") != std::string::npos) scale = std::max(scale, query_bias);
      EXPECT_LE(Norm(error), 2e-5 * scale) << parameter.name << " of " << name;
      if (Norm(error) / scale <= worst) continue;
      worst = Norm(error) / scale;
      worst_name = parameter.name;
    }
    std::printf("%s: largest relative gradient error %.2g (%s)\n", name.c_str(), worst, worst_name.c_str());
  }

  json golden_;
  std::unique_ptr<Comm> world_ = MakeSoloComm("world"), data_ = MakeSoloComm("data"),
                        tensor_ = MakeSoloComm("tensor");
  Mesh mesh_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace tanren

#endif  // TANREN_TESTS_STAGES_STEPS_STEPS_H_
