#include "stages/rl/rollout_scores.h"

#include <cstring>
#include <string>
#include <utility>

#include "core/base/status.h"
#include "core/data/source.h"

namespace tanren {
namespace {

enum Present { kPolicy = 1, kReference = 2, kCritic = 4, kReward = 8 };

void Append(const std::vector<float>& values, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

class FloatReader {
 public:
  explicit FloatReader(const std::string& bytes) : bytes_(bytes) {}
  std::vector<float> Take(size_t count) {
    TANREN_CHECK(at_ + count * sizeof(float) <= bytes_.size());
    std::vector<float> values(count);
    if (count > 0) std::memcpy(values.data(), bytes_.data() + at_, count * sizeof(float));
    at_ += count * sizeof(float);
    return values;
  }

 private:
  const std::string& bytes_;
  size_t at_ = 0;
};

// One micro-batch: logp, reference logp, values (per trained token), last values, rewards (per answer), in
// this order.
absl::Status ScoreMicroBatch(Engine& engine, const MicroBatch& batch, int present, float temperature,
                             const std::string& reward_model, std::string* bytes) {
  if (present & kPolicy) {
    TANREN_ASSIGN_OR_RETURN(const Statistics policy,
                            engine.Score("policy", batch, kLogp, false, temperature));
    Append(policy.logp, bytes);
  }
  if (present & kReference) {
    TANREN_ASSIGN_OR_RETURN(const Statistics reference,
                            engine.Score("reference", batch, kLogp, false, temperature));
    Append(reference.logp, bytes);
  }
  if (present & kCritic) {
    TANREN_ASSIGN_OR_RETURN(const Statistics critic, engine.Score("critic", batch, kValue, false, 1));
    Append(critic.value, bytes);
    Append(critic.segment_value, bytes);
  }
  if (present & kReward) {
    TANREN_ASSIGN_OR_RETURN(const Statistics ends, engine.Score(reward_model, batch, kValue, true, 1));
    Append(ends.segment_value, bytes);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<AnswerScores>> ScoreRollout(Engine& engine, const Rollout& rollout, ScoreWith with,
                                                       float temperature, const std::string& reward_model) {
  const int present = with == ScoreWith::kReward ? kReward
                                                 : kPolicy | (engine.HasModel("reference") ? kReference : 0) |
                                                       (engine.HasModel("critic") ? kCritic : 0);
  Comm& data = *engine.mesh().data;
  const int64_t count = static_cast<int64_t>(rollout.micro_batches.size());
  const DealtRange mine = DealMicroBatches(count, data.rank(), data.size());
  std::string bytes;
  absl::Status local;
  for (int64_t m = mine.begin; m < mine.end && local.ok(); ++m) {
    const absl::StatusOr<MicroBatch> batch =
        rollout.Make(static_cast<int32_t>(m), engine.options().micro_batch_tokens);
    local = batch.ok() ? ScoreMicroBatch(engine, *batch, present, temperature, reward_model, &bytes)
                       : batch.status();
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*engine.mesh().world, "score rollout", local));
  const std::vector<std::string> all = AllGatherStrings(data, "rollout scores", bytes);
  std::vector<AnswerScores> scores(rollout.answers.size());
  for (int r = 0; r < data.size(); ++r) {
    FloatReader reader(all[r]);
    const DealtRange range = DealMicroBatches(count, r, data.size());
    for (int64_t m = range.begin; m < range.end; ++m) {
      const std::vector<int32_t>& members = rollout.micro_batches[m];
      const auto per_token = [&](std::vector<float> AnswerScores::*field) {
        for (const int32_t i : members) scores[i].*field = reader.Take(rollout.answers[i].trained_tokens());
      };
      if (present & kPolicy) per_token(&AnswerScores::old_logp);
      if (present & kReference) per_token(&AnswerScores::reference_logp);
      if (present & kCritic) {
        per_token(&AnswerScores::values);
        for (const int32_t i : members) scores[i].last_value = reader.Take(1)[0];
      }
      if (present & kReward) {
        for (const int32_t i : members) scores[i].reward = reader.Take(1)[0];
      }
    }
  }
  return scores;
}

}  // namespace tanren
