// Whole optimizer steps of the policy losses and of the critic against PyTorch.
#include "stages/losses/policy_losses.h"
#include "tests/stages/steps/steps.h"

namespace tanren {
namespace {

// As in make_golden.py.
constexpr double kEntropy = 0.02, kDualClip = 3;

TEST_F(Steps, PpoPolicyAndCritic) {
  const std::vector<Unit> units = PpoUnits(Case("ppo"));
  PolicyFunctor<false, true> functor;
  functor.entropy_coefficient = kEntropy;
  Compare("ppo", "policy", TokenLossOf<PolicyFunctor<false, true>>(functor), Pack(units));
  Compare("value", "scorer", TokenLossOf<ValueFunctor>(ValueFunctor{0.2}), Pack(units));
}

// One pass of the critic gives the value before each token and that of the answer's end.
TEST_F(Steps, ScoringGivesTokenAndSegmentValuesTogether) {
  const std::vector<MicroBatch> batches = Pack(PpoUnits(Case("ppo")));
  for (const MicroBatch& batch : batches) {
    const auto both = engine_->Score("scorer", batch, kValue, /*per_segment=*/false, 1);
    const auto ends = engine_->Score("scorer", batch, kValue, /*per_segment=*/true, 1);
    ASSERT_TRUE(both.ok() && ends.ok()) << both.status() << ends.status();
    EXPECT_EQ(both->value.size(), batch.trained.size());
    EXPECT_EQ(both->segment_value.size(), static_cast<size_t>(batch.segments()));
    EXPECT_EQ(both->segment_value, ends->segment_value);
    EXPECT_TRUE(ends->value.empty());
  }
}

TEST_F(Steps, GrpoWithTheKlInTheLoss) {
  const json& data = Case("grpo");
  std::vector<MicroBatch> batches = GroupedAnswers(data, AdvantagesOf(data), /*sequence_mean=*/true);
  AddReference(&batches, kTemperature);
  const RlOptions options = GrpoWithKlInTheLoss(KlEstimator::kK3);
  Compare("grpo", "policy", *MakePolicyLoss(options), batches);
}

TEST_F(Steps, GrpoWithK2InTheLossAndEntropyBonus) {
  const json& data = Case("grpo_k2_entropy");
  std::vector<MicroBatch> batches = GroupedAnswers(data, AdvantagesOf(data), /*sequence_mean=*/false);
  AddReference(&batches, kTemperature);
  RlOptions options = GrpoWithKlInTheLoss(KlEstimator::kK2);
  options.entropy = kEntropy;
  Compare("grpo_k2_entropy", "policy", *MakePolicyLoss(options), batches);
}

TEST_F(Steps, Gspo) {
  const json& data = Case("gspo");
  RlOptions options = TokenOptions(RlAlgorithm::kGspo, kTemperature);
  options.clip_low = 3e-4;
  options.clip_high = 4e-4;
  Compare("gspo", "policy", *MakePolicyLoss(options), GroupedAnswers(data, AdvantagesOf(data), false));
}

// The KL stands in the reward, before the others' mean is taken off.
TEST_F(Steps, Rloo) {
  const json& data = Case("rloo");
  std::vector<double> totals = data["rewards"];
  for (size_t i = 0; i < totals.size(); ++i) {
    const std::vector<float> reference = Logp("reference", Answer(data["units"][i]).unit);
    const auto old_logp = data["old_logp"][i].get<std::vector<double>>();
    for (size_t t = 0; t < old_logp.size(); ++t) totals[i] -= kKl * (old_logp[t] - reference[t]);
  }
  std::vector<double> advantages = LeaveOneOutBaselines(totals, kGroup);
  for (size_t i = 0; i < totals.size(); ++i) advantages[i] = totals[i] - advantages[i];
  Compare("rloo", "policy", *MakePolicyLoss(TokenOptions(RlAlgorithm::kRloo, 1)),
          GroupedAnswers(data, advantages, /*sequence_mean=*/false));
}

TEST_F(Steps, Dapo) {
  const json& data = Case("dapo");
  RlOptions options = TokenOptions(RlAlgorithm::kDapo, kTemperature);
  options.clip_high = 0.28;
  Compare("dapo", "policy", *MakePolicyLoss(options), GroupedAnswers(data, AdvantagesOf(data), false));
}

// Five tokens of negative advantage have a ratio beyond the dual clip in the first step.
TEST_F(Steps, DualClip) {
  const json& data = Case("dual_clip");
  RlOptions options = TokenOptions(RlAlgorithm::kGrpo, 1);
  options.dual_clip = kDualClip;
  Compare("dual_clip", "policy", *MakePolicyLoss(options), GroupedAnswers(data, AdvantagesOf(data), false));
}

}  // namespace
}  // namespace tanren
