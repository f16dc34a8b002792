// Keys that do nothing beside the others are named, those that do something are not.
#include "core/config/ineffective.h"

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Of(const std::string& text) {
  return IneffectiveKeys(Resolve(MustLoad(kModel + text)));
}

TEST(IneffectiveKeys, OfReinforcement) {
  EXPECT_THAT(Of("stage: rl\nrl: {algorithm: ppo, gamma: 0.9, lambda: 0.9, whiten: false, value_clip: 0.1}"),
              IsEmpty());
  EXPECT_THAT(
      Of("stage: rl\nrl: {algorithm: grpo, scale_advantages: false, dual_clip: 3, aggregate: sequence_mean}"),
      IsEmpty());
  EXPECT_THAT(Of("stage: rl\nrl: {algorithm: grpo, lambda: 0.9}"),
              ElementsAre("rl.lambda: 0.9 has no effect with rl.algorithm grpo, which has no critic"));
  EXPECT_THAT(
      Of("stage: rl\nrl: {algorithm: rloo, gamma: 0.9, whiten: false, value_clip: 0.1, "
         "critic_learning_rate: 1e-4, critic_warmup_steps: 2, scale_advantages: false}\ninit: {critic: x}"),
      ElementsAre(HasSubstr("rl.gamma"), HasSubstr("rl.value_clip"), HasSubstr("rl.whiten"),
                  HasSubstr("rl.critic_learning_rate"), HasSubstr("rl.critic_warmup_steps"),
                  HasSubstr("init.critic"), HasSubstr("rl.scale_advantages")));
  EXPECT_THAT(Of("stage: rl\nrl: {algorithm: gspo, dual_clip: 3, aggregate: sequence_mean}"),
              ElementsAre(HasSubstr("rl.dual_clip"), HasSubstr("rl.aggregate")));
  EXPECT_THAT(
      Of("stage: rl\nbatch: {micro_batches: 4}"),
      ElementsAre("batch.micro_batches: 4 has no effect with stage rl, whose steps are rl.minibatches of a "
                  "rollout"));
}

TEST(IneffectiveKeys, OfPreferences) {
  const std::string all =
      ", label_smoothing: 0.1, reference_free: true, length_norm: sum, gamma: 1, lambda: 1, "
      "desirable_weight: 2, "
      "undesirable_weight: 2, beta: 0.3, pairs: all}";
  const auto effective = [&](const std::string& loss) {
    std::string left =
        "label_smoothing reference_free length_norm gamma lambda desirable_weight undesirable_weight "
        "beta pairs ";
    for (const std::string& key : Of("stage: preference\npreference: {loss: " + loss + all)) {
      const std::string name = key.substr(11, key.find(':') - 11) + " ";
      const size_t at = left.find(name);
      EXPECT_NE(at, std::string::npos) << key;
      if (at != std::string::npos) left.erase(at, name.size());
    }
    return left;
  };
  EXPECT_EQ(effective("dpo"), "label_smoothing reference_free beta pairs ");
  EXPECT_EQ(effective("robust"), "label_smoothing beta pairs ");
  EXPECT_EQ(effective("ipo"), "length_norm beta pairs ");
  EXPECT_EQ(effective("simpo"), "gamma beta pairs ");
  EXPECT_EQ(effective("orpo"), "lambda pairs ");
  EXPECT_EQ(effective("kto"), "desirable_weight undesirable_weight beta ");
}

TEST(IneffectiveKeys, OnlyOfTheStage) {
  EXPECT_THAT(Of("stage: sft\nrl: {algorithm: grpo, lambda: 0.9}\npreference: {loss: kto, gamma: 1}"),
              IsEmpty());
}

}  // namespace
}  // namespace tanren::config
