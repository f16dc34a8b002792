// Whole optimizer steps of supervised fine-tuning, of the preference losses and of reward models against
// PyTorch.
#include "core/loss/next_token.h"
#include "stages/losses/preference_losses.h"
#include "stages/losses/reward_losses.h"
#include "tests/stages/steps/steps.h"

namespace tanren {
namespace {

// As in make_golden.py.
constexpr double kBeta = 0.5, kIpoBeta = 0.1, kSmoothing = 0.1, kSimpoBeta = 2, kSimpoGamma = 0.5,
                 kOrpoLambda = 0.1;

TEST_F(Steps, SupervisedFineTuning) {
  std::vector<Unit> units;
  for (const json& references : Case("sft")["units"]) {
    units.push_back(Joined(references));
    units.back().columns.Get("weight", units.back().tokens(), 1.0f / static_cast<float>(references.size()));
  }
  Compare("sft", "policy", WeightedNextTokenLoss(), Pack(units));
}

TEST_F(Steps, Dpo) {
  Compare("dpo", "policy", SequenceLossOf<DpoFunctor<false>>(DpoFunctor<false>{kBeta, 0}), Pairs("dpo"));
}

TEST_F(Steps, RobustDpo) {
  Compare("robust", "policy", SequenceLossOf<RobustDpoFunctor>(RobustDpoFunctor{kBeta, kSmoothing}),
          Pairs("robust"));
}

TEST_F(Steps, IpoOfMeans) {
  Compare("ipo_mean", "policy", SequenceLossOf<IpoFunctor>(IpoFunctor{kIpoBeta, true}), Pairs("ipo_mean"));
}

TEST_F(Steps, IpoOfSums) {
  Compare("ipo_sum", "policy", SequenceLossOf<IpoFunctor>(IpoFunctor{kIpoBeta, false}), Pairs("ipo_sum"));
}

TEST_F(Steps, Simpo) {
  Compare("simpo", "policy", SequenceLossOf<SimpoFunctor>(SimpoFunctor{kSimpoBeta, kSimpoGamma}),
          Pairs("simpo"));
}

TEST_F(Steps, Orpo) {
  Compare("orpo", "policy", SequenceLossOf<OrpoFunctor>(OrpoFunctor{kOrpoLambda}), Pairs("orpo"));
}

// The estimate of the KL moves with the policy, so it is made anew for each step.
TEST_F(Steps, Kto) {
  const json& data = Case("kto");
  std::vector<Unit> units, mismatched;
  const size_t count = data["units"].size();
  for (size_t i = 0; i < count; ++i) {
    units.push_back(Answer(data["units"][i]).unit);
    units.back().segment_columns.Get("label", 1, data["labels"][i].get<float>());
    const std::vector<int32_t> prompt = Ids(data["units"][i]);
    const json& next = data["units"][(i + 1) % count];
    const std::vector<int32_t> answer = Ids(next);
    mismatched.push_back(MakeAnswer({prompt.begin(), prompt.begin() + PromptTokens(data["units"][i])},
                                    {answer.begin() + PromptTokens(next), answer.end()}, true, 0)
                             .unit);
  }
  const auto prepare = [&] {
    double kl = 0;
    for (const Unit& unit : mismatched)
      kl += (SumLogp("policy", unit) - SumLogp("reference", unit)) / static_cast<double>(count);
    for (Unit& unit : units) unit.segment_columns.Get("z0", 1)[0] = static_cast<float>(std::max(0.0, kl));
    std::vector<MicroBatch> batches = Pack(units);
    AddReference(&batches);
    return batches;
  };
  Compare("kto", "policy", SequenceLossOf<KtoFunctor>(KtoFunctor{kBeta, 1, 1}), prepare(), prepare);
}

TEST_F(Steps, PairwiseRewardModel) {
  const double centering = Case("pairwise")["centering"];
  Compare("pairwise", "scorer", SequenceLossOf<PairwiseRewardFunctor<>>(PairwiseRewardFunctor{centering}),
          Pack(Rankings(Case("pairwise"))));
}

TEST_F(Steps, ListwiseRewardModelWithTies) {
  const double centering = Case("listwise")["centering"];
  Compare("listwise", "scorer", SequenceLossOf<ListwiseRewardFunctor<>>(ListwiseRewardFunctor{centering}),
          Pack(Rankings(Case("listwise"))));
}

}  // namespace
}  // namespace tanren
