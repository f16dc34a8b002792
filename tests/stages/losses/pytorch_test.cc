// Losses and gradients against PyTorch's autograd in float64: golden/make_golden.py made the file.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "stages/losses/policy_losses.h"
#include "stages/losses/preference_losses.h"
#include "stages/losses/reward_losses.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr double kTolerance = 1e-9;  // both are float64

std::vector<double> Column(const json& matrix, size_t column) {
  std::vector<double> values;
  for (const json& row : matrix)
    values.push_back(row.is_array() ? row[column].get<double>() : row.get<double>());
  return values;
}

void ExpectClose(double got, double want, const char* what, size_t at) {
  EXPECT_NEAR(got, want, kTolerance * std::max(1.0, std::abs(want))) << what << " " << at;
}

// Runs a sequence functor over units and compares its loss and, per segment, the seed `field` with the
// gradient.
template <class Functor>
void CompareUnits(const json& golden, const Functor& functor,
                  std::vector<std::vector<SegmentStats<double>>> units, double SegmentSeed<double>::*field,
                  size_t input = 0) {
  Normalizers normalizers;
  normalizers.units = static_cast<double>(units.size());
  double loss = 0;
  const json& gradient = golden["gradients"][input];
  for (size_t u = 0; u < units.size(); ++u) {
    std::vector<SegmentSeed<double>> seeds(units[u].size());
    double metrics[kMaxLossMetrics] = {};
    loss +=
        functor(static_cast<int64_t>(units[u].size()), units[u].data(), normalizers, seeds.data(), metrics);
    for (size_t s = 0; s < seeds.size(); ++s) {
      const double want = gradient[u].is_array() ? gradient[u][s].get<double>() : gradient[u].get<double>();
      ExpectClose(seeds[s].*field, want, "gradient of unit", u);
    }
  }
  ExpectClose(loss, golden["value"], "loss", 0);
}

std::vector<std::vector<SegmentStats<double>>> Answers(const json& golden, const char* other) {
  std::vector<std::vector<SegmentStats<double>>> units(golden["policy"].size());
  for (size_t u = 0; u < units.size(); ++u) {
    const size_t segments = golden["policy"][u].is_array() ? golden["policy"][u].size() : 1;
    units[u].resize(segments);
    for (size_t s = 0; s < segments; ++s) {
      units[u][s].logp_sum = Column(golden["policy"], s)[u];
      units[u][s].column_sums[0] = Column(golden[other], s)[u];
      units[u][s].trained_tokens = Column(golden["tokens"], s)[u];
    }
  }
  return units;
}

template <bool kReference, bool kEntropyBonus>
void ComparePolicy(const json& golden, const PolicyFunctor<kReference, kEntropyBonus>& functor) {
  Normalizers normalizers;
  for (const double weight : Column(golden["weight"], 0)) normalizers.trained_weight += weight;
  double loss = 0;
  for (size_t i = 0; i < golden["logp"].size(); ++i) {
    TokenStats<double> stats, seed;
    stats.logp = golden["logp"][i];
    stats.entropy = golden["entropy"][i];
    const double columns[] = {golden["weight"][i], golden["old"][i], golden["advantage"][i],
                              golden["reference_logp"][i]};
    double metrics[kMaxLossMetrics] = {};
    loss += functor(stats, columns, normalizers, &seed, metrics);
    ExpectClose(seed.logp, golden["gradients"][0][i], "gradient by logp", i);
    ExpectClose(seed.entropy, golden["gradients"][1][i], "gradient by entropy", i);
  }
  ExpectClose(loss, golden["value"], "loss", 0);
}

void CompareValue(const json& golden) {
  Normalizers normalizers;
  for (const double weight : Column(golden["weight"], 0)) normalizers.trained_weight += weight;
  double loss = 0;
  for (size_t i = 0; i < golden["values"].size(); ++i) {
    TokenStats<double> stats, seed;
    stats.value = golden["values"][i];
    const double columns[] = {golden["weight"][i], golden["target"][i], golden["old"][i]};
    double metrics[kMaxLossMetrics] = {};
    loss += ValueFunctor{golden["options"][0].get<double>()}(stats, columns, normalizers, &seed, metrics);
    ExpectClose(seed.value, golden["gradients"][0][i], "gradient by value", i);
  }
  ExpectClose(loss, golden["value"], "loss", 0);
}

void CompareRewards(const json& golden, bool pairwise) {
  std::vector<std::vector<SegmentStats<double>>> units(golden["score"].size());
  for (size_t u = 0; u < units.size(); ++u) {
    units[u].resize(golden["score"][u].size());
    for (size_t s = 0; s < units[u].size(); ++s) {
      units[u][s].value = golden["score"][u][s];
      units[u][s].logp_sum = golden["logp"][u][s];
      units[u][s].trained_tokens = golden["tokens"][u][s];
      units[u][s].segment_columns[0] = golden["rank"][u][s];
      units[u][s].segment_columns[1] = golden["margin"][u][s];
    }
  }
  const double centering = golden["options"][0];
  const HeadAndLikelihoodScore likelihood{golden["options"][1], golden["options"][2]};
  const auto compare = [&](double SegmentSeed<double>::*field, size_t input, const auto& score) {
    if (pairwise) CompareUnits(golden, PairwiseRewardFunctor{centering, score}, units, field, input);
    if (!pairwise) CompareUnits(golden, ListwiseRewardFunctor{centering, score}, units, field, input);
  };
  if (likelihood.weight == 0) return compare(&SegmentSeed<double>::value, 0, HeadScore{});
  compare(&SegmentSeed<double>::value, 0, likelihood);
  compare(&SegmentSeed<double>::logp_sum, 1, likelihood);
}

void Compare(const json& golden) {
  const std::string name = golden["loss"];
  const json& o = golden["options"];
  const auto number = [&](size_t i) {
    return o[i].is_boolean() ? (o[i].get<bool>() ? 1.0 : 0.0) : o[i].get<double>();
  };
  constexpr auto kSum = &SegmentSeed<double>::logp_sum;
  if (name == "dpo") {
    CompareUnits(golden, DpoFunctor<false>{number(0), number(1)}, Answers(golden, "reference"), kSum);
  } else if (name == "robust") {
    CompareUnits(golden, RobustDpoFunctor{number(0), number(1)}, Answers(golden, "reference"), kSum);
  } else if (name == "ipo") {
    CompareUnits(golden, IpoFunctor{number(0), number(1) == 1}, Answers(golden, "reference"), kSum);
  } else if (name == "simpo") {
    CompareUnits(golden, SimpoFunctor{number(0), number(1)}, Answers(golden, "reference"), kSum);
  } else if (name == "orpo") {
    CompareUnits(golden, OrpoFunctor{number(0)}, Answers(golden, "reference"), kSum);
  } else if (name == "kto") {
    auto units = Answers(golden, "reference");
    for (size_t u = 0; u < units.size(); ++u) {
      units[u][0].segment_columns[0] = golden["label"][u];
      units[u][0].segment_columns[1] = number(3);
    }
    CompareUnits(golden, KtoFunctor{number(0), number(1), number(2)}, units, kSum);
  } else if (name == "gspo") {
    auto units = Answers(golden, "old");
    for (size_t u = 0; u < units.size(); ++u) units[u][0].segment_columns[0] = golden["advantage"][u];
    CompareUnits(golden, GspoFunctor{number(0), number(1)}, units, kSum);
  } else if (name == "policy") {
    PolicyFunctor<true, true> functor;
    functor.clip_low = number(0);
    functor.clip_high = number(1);
    functor.dual_clip = number(2);
    functor.kl_coefficient = number(3);
    functor.entropy_coefficient = number(4);
    functor.kl_estimator = number(5) == 1 ? KlEstimator::kK3 : KlEstimator::kK2;
    ComparePolicy(golden, functor);
  } else if (name == "value") {
    CompareValue(golden);
  } else {
    ASSERT_TRUE(name == "pairwise" || name == "listwise") << name;
    CompareRewards(golden, name == "pairwise");
  }
}

TEST(PyTorch, LossesAndGradientsOfFixedRollouts) {
  std::ifstream in(TANREN_LOSS_GOLDEN);
  ASSERT_TRUE(in) << TANREN_LOSS_GOLDEN;
  const json golden = json::parse(in, nullptr, false);
  ASSERT_EQ(golden["cases"].size(), 19);
  for (const json& one : golden["cases"]) {
    SCOPED_TRACE(one["loss"].get<std::string>() + " " + one["options"].dump());
    Compare(one);
  }
}

}  // namespace
}  // namespace tanren
