#include "core/report/html_curves.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "core/base/status.h"

namespace tanren {
namespace {

enum Shape : uint8_t { kPlain = 0, kFromZero = 1, kMayBeLog = 2 };

// A chart of known figures; validation_ of each of them is in it too.
struct KnownChart {
  const char* group;
  const char* title;
  Unit unit;
  uint8_t shape;
  std::vector<std::string_view> names;
};

constexpr char kLearning[] = "Learning";
constexpr char kStage[] = "What the stage learns";
constexpr char kKept[] = "What it keeps of pre-training";
constexpr char kSpeed[] = "Throughput and memory";
constexpr char kHealth[] = "Sampling and health";

const std::vector<KnownChart>& KnownCharts() {
  static const auto& charts = *new std::vector<KnownChart>{
      {kLearning, "Loss", Unit::kNumber, kMayBeLog, {"loss", "cross_entropy"}},
      {kLearning, "Bits a byte", Unit::kNumber, kPlain, {"bits_per_byte"}},
      {kLearning, "Policy loss", Unit::kNumber, kPlain, {"policy_loss"}},
      {kLearning, "Value loss", Unit::kNumber, kMayBeLog, {"value_loss"}},
      {kLearning, "Gradient norm", Unit::kNumber, kMayBeLog, {"grad_norm", "critic_gradient_norm"}},
      {kLearning, "Learning rate", Unit::kNumber, kFromZero, {"lr"}},
      {kStage, "Accuracy", Unit::kShare, kPlain, {"accuracy"}},
      {kStage, "Reward", Unit::kNumber, kPlain, {"reward", "model_score"}},
      {kStage, "Rewards of the pairs", Unit::kNumber, kPlain, {"reward_chosen", "reward_rejected"}},
      {kStage, "Margin", Unit::kNumber, kPlain, {"margin"}},
      {kStage, "Log-probability of a token", Unit::kNumber, kPlain, {"logp_chosen", "logp_rejected"}},
      {kStage, "KL to the reference, nats an answer", Unit::kNumber, kPlain, {"reference_kl"}},
      {kStage, "KL of a token", Unit::kNumber, kMayBeLog, {"kl", "approx_kl"}},
      {kStage, "Entropy", Unit::kNumber, kPlain, {"entropy"}},
      {kStage, "Answer length, tokens", Unit::kNumber, kPlain, {"length"}},
      {kStage, "Distinct right answers", Unit::kShare, kPlain, {"distinct_right"}},
      {kKept, "Loss on pre-training data", Unit::kNumber, kPlain, {"base_loss"}},
      {kKept, "Rise of that loss", Unit::kNumber, kPlain, {"forgetting"}},
      {kSpeed, "Tokens a second", Unit::kCount, kFromZero, {"tokens_per_second"}},
      {kSpeed, "Model FLOP a second", Unit::kCount, kFromZero, {"flops_per_second"}},
      {kSpeed, "Model FLOP utilisation", Unit::kShare, kFromZero, {"mfu"}},
      {kSpeed,
       "Time of a step",
       Unit::kSeconds,
       kFromZero,
       {"step_seconds", "sampling_seconds", "reward_seconds", "scoring_seconds"}},
      {kSpeed, "Waited for saves", Unit::kSeconds, kFromZero, {"save_wait_seconds"}},
      {kHealth, "A slow rank's work, times the median's", Unit::kNumber, kFromZero, {"slow_rank_ratio"}},
      {kSpeed, "Memory of a rank, high-water mark", Unit::kBytes, kFromZero, {"memory_bytes"}},
      {kHealth, "Trained tokens of a step", Unit::kCount, kPlain, {"trained_tokens"}},
      {kHealth, "Ratio to the sampling policy", Unit::kNumber, kPlain, {"ratio"}},
      {kHealth, "Clipped", Unit::kShare, kPlain, {"clip_fraction", "value_clip_fraction"}},
      {kHealth, "Cut off", Unit::kShare, kPlain, {"cut_off"}},
      {kHealth, "Kept of the samples", Unit::kShare, kPlain, {"kept_share"}},
      {kHealth,
       "Steps without an update, spikes, rollbacks so far",
       Unit::kCount,
       kPlain,
       {"skipped_steps", "loss_spikes", "rollbacks"}},
      {kHealth, "KL coefficient", Unit::kNumber, kPlain, {"kl_coefficient"}},
      {kHealth,
       "Trainer and sampler differ by",
       Unit::kNumber,
       kMayBeLog,
       {"sampling_mismatch", "sampling_mismatch_worst"}},
  };
  return charts;
}

constexpr std::string_view kValidation = "validation_";

// The name without validation_.
std::string_view BaseOf(std::string_view name) {
  if (name.starts_with(kValidation)) name.remove_prefix(kValidation.size());
  return name;
}

// Adds the figures of that base that the run has, those of training first.
void AddCurves(const RunMetrics& metrics, std::string_view base, Chart* chart,
               std::set<std::string>* placed) {
  for (const std::string& name : {std::string(base), std::string(kValidation).append(base)}) {
    const MetricSeries* series = metrics.Find(name);
    if (series != nullptr && placed->insert(name).second) chart->curves.push_back({name, series});
  }
}

Chart& NewChart(const char* group, const std::string& title, std::vector<ChartGroup>* groups) {
  const auto found = std::ranges::find(*groups, group, &ChartGroup::title);
  TANREN_CHECK(found != groups->end());
  Chart& chart = found->charts.emplace_back();
  chart.title = title;
  return chart;
}

}  // namespace

std::vector<ChartGroup> ChartsOf(const RunMetrics& metrics) {
  std::vector<ChartGroup> groups;
  for (const char* title : {kLearning, kStage, kKept, kSpeed, kHealth}) groups.push_back({title, {}});
  std::set<std::string> placed = {"tokens"};
  for (const KnownChart& known : KnownCharts()) {
    Chart& chart = NewChart(known.group, known.title, &groups);
    chart.unit = known.unit;
    chart.from_zero = (known.shape & kFromZero) != 0;
    chart.may_be_logarithmic = (known.shape & kMayBeLog) != 0;
    for (const std::string_view name : known.names) AddCurves(metrics, name, &chart, &placed);
  }
  for (const RunMetrics::Named& figure : metrics.figures) {
    if (placed.contains(figure.name)) continue;
    const std::string_view base = BaseOf(figure.name);
    // What only a validation measures of pre-training data belongs with its loss.
    const char* group = base.starts_with("base_") ? kKept : kStage;
    AddCurves(metrics, base, &NewChart(group, std::string(base), &groups), &placed);
  }
  for (ChartGroup& group : groups) {
    std::erase_if(group.charts, [](const Chart& chart) { return chart.curves.empty(); });
  }
  std::erase_if(groups, [](const ChartGroup& group) { return group.charts.empty(); });
  return groups;
}

}  // namespace tanren
