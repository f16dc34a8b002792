#include "stages/rl/rollout_scores.h"

#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "core/base/status.h"
#include "core/data/source.h"

namespace tanren {
namespace {

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

// Writes a micro-batch's scores, and reads those of the answers that are in it, in the same order.
using WriteScores = std::function<absl::Status(const MicroBatch& batch, std::string* bytes)>;
using ReadScores = std::function<void(const std::vector<int32_t>& members, FloatReader& reader)>;

absl::Status ForDealtMicroBatches(Engine& engine, const Rollout& rollout, const WriteScores& write,
                                  const ReadScores& read) {
  Comm& data = *engine.mesh().data;
  const int64_t count = static_cast<int64_t>(rollout.micro_batches.size());
  const DealtRange mine = DealMicroBatches(count, data.rank(), data.size());
  std::string bytes;
  absl::Status local;
  for (int64_t m = mine.begin; m < mine.end && local.ok(); ++m) {
    const absl::StatusOr<MicroBatch> batch =
        rollout.Make(static_cast<int32_t>(m), engine.options().micro_batch_tokens);
    local = batch.ok() ? write(*batch, &bytes) : batch.status();
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(*engine.mesh().world, "score rollout", local));
  const std::vector<std::string> all = AllGatherStrings(data, "rollout scores", bytes);
  for (int r = 0; r < data.size(); ++r) {
    FloatReader reader(all[r]);
    const DealtRange range = DealMicroBatches(count, r, data.size());
    for (int64_t m = range.begin; m < range.end; ++m) read(rollout.micro_batches[m], reader);
  }
  return absl::OkStatus();
}

// One micro-batch: logp, reference logp, values (per trained token), last values (per answer), in this order.
absl::Status WriteTokenScores(Engine& engine, const MicroBatch& batch, float temperature,
                              std::string* bytes) {
  for (const char* model : {"policy", "reference"}) {
    if (!engine.HasModel(model)) continue;
    TANREN_ASSIGN_OR_RETURN(const Statistics tokens, engine.Score(model, batch, kLogp, false, temperature));
    Append(tokens.logp, bytes);
  }
  if (!engine.HasModel("critic")) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(const Statistics critic, engine.Score("critic", batch, kValue, false, 1));
  Append(critic.value, bytes);
  Append(critic.segment_value, bytes);
  return absl::OkStatus();
}

// The segments' scores: made of sums as the losses see them.
std::vector<float> ScoresOf(const MicroBatch& batch, const Statistics& statistics,
                            const LikelihoodTerm& likelihood) {
  if (!likelihood.has_value()) return statistics.segment_value;
  const size_t segments = statistics.segment_value.size();
  std::vector<double> sums(segments, 0);
  std::vector<SegmentStats<float>> stats(segments);
  for (size_t i = 0; i < batch.trained.size(); ++i) {
    const int32_t segment = batch.trained_segment[i];
    sums[segment] += statistics.logp[i];
    stats[segment].trained_tokens += 1;
  }
  std::vector<float> scores(segments);
  for (size_t s = 0; s < segments; ++s) {
    stats[s].value = statistics.segment_value[s];
    stats[s].logp_sum = static_cast<float>(sums[s]);
    scores[s] = (*likelihood)(stats[s]);
  }
  return scores;
}

}  // namespace

absl::StatusOr<std::vector<AnswerScores>> ScoreRollout(Engine& engine, const Rollout& rollout,
                                                       float temperature) {
  std::vector<AnswerScores> scores(rollout.answers.size());
  const auto read = [&](const std::vector<int32_t>& members, FloatReader& reader) {
    const auto per_token = [&](std::vector<float> AnswerScores::*field) {
      for (const int32_t i : members) scores[i].*field = reader.Take(rollout.answers[i].trained_tokens());
    };
    per_token(&AnswerScores::old_logp);
    if (engine.HasModel("reference")) per_token(&AnswerScores::reference_logp);
    if (!engine.HasModel("critic")) return;
    per_token(&AnswerScores::values);
    for (const int32_t i : members) scores[i].last_value = reader.Take(1)[0];
  };
  const auto write = [&](const MicroBatch& batch, std::string* bytes) {
    return WriteTokenScores(engine, batch, temperature, bytes);
  };
  TANREN_RETURN_IF_ERROR(ForDealtMicroBatches(engine, rollout, write, read));
  return scores;
}

absl::StatusOr<std::vector<double>> AnswerLogp(Engine& engine, const Rollout& rollout,
                                               const std::string& name) {
  std::vector<double> sums(rollout.answers.size());
  const auto write = [&](const MicroBatch& batch, std::string* bytes) -> absl::Status {
    TANREN_ASSIGN_OR_RETURN(const Statistics tokens, engine.Score(name, batch, kLogp, false, 1));
    Append(tokens.logp, bytes);
    return absl::OkStatus();
  };
  const auto read = [&](const std::vector<int32_t>& members, FloatReader& reader) {
    for (const int32_t i : members) {
      const std::vector<float> logp = reader.Take(rollout.answers[i].trained_tokens());
      sums[i] = std::accumulate(logp.begin(), logp.end(), 0.0);
    }
  };
  TANREN_RETURN_IF_ERROR(ForDealtMicroBatches(engine, rollout, write, read));
  return sums;
}

absl::StatusOr<std::vector<float>> ScoreRewards(Engine& engine, const Rollout& rollout,
                                                const std::string& name, const LikelihoodTerm& likelihood) {
  const uint32_t statistics = kValue | (likelihood.has_value() ? uint32_t{kLogp} : 0);
  std::vector<float> scores(rollout.answers.size());
  const auto write = [&](const MicroBatch& batch, std::string* bytes) -> absl::Status {
    TANREN_ASSIGN_OR_RETURN(const Statistics ends, engine.Score(name, batch, statistics, true, 1));
    Append(ScoresOf(batch, ends, likelihood), bytes);
    return absl::OkStatus();
  };
  const auto read = [&](const std::vector<int32_t>& members, FloatReader& reader) {
    for (const int32_t i : members) scores[i] = reader.Take(1)[0];
  };
  TANREN_RETURN_IF_ERROR(ForDealtMicroBatches(engine, rollout, write, read));
  return scores;
}

}  // namespace tanren
