#include "core/estimate/price.h"

#include <algorithm>
#include <cmath>

#include "core/base/status.h"

namespace tanren {
namespace {

double ParametersOf(const ModelOptions& model) {
  return static_cast<double>(ParameterSet(model.shape, ParameterSet::Options()).global_count());
}

class Pricer {
 public:
  Pricer(const config::Config& config, const EngineOptions& engine, const MeshShape& mesh,
         const Machine& machine)
      : config_(config), engine_(engine), mesh_(mesh), machine_(machine) {}

  Price Run(const AnswerLengths& lengths) {
    const StageWork work = WorkOf(config_, engine_, mesh_.data, lengths);
    price_.parameters = ParametersOf(engine_.models[0]);
    price_.step_tokens = work.step_tokens;
    price_.assumption = work.assumption;
    price_.steps = static_cast<double>(config_.train().steps());
    AxisPrice data{"data", mesh_.data}, tensor{"tensor", mesh_.tensor};
    // Ranks of a tensor group are neighbours.
    tensor.crosses_nodes = mesh_.tensor > machine_.ranks_per_node;
    data.crosses_nodes = mesh_.world() > machine_.ranks_per_node;
    price_.axes = {data, tensor};
    for (size_t m = 0; m < engine_.models.size(); ++m) AddModel(engine_.models[m], work.models[m]);
    AddSampling(engine_.models[0], work);
    price_.compute_seconds = rank_flops_ / (machine_.flops_per_second * machine_.utilization);
    price_.step_seconds = price_.compute_seconds + price_.optimizer_seconds + price_.sampling_seconds;
    for (AxisPrice& axis : price_.axes) {
      const double link =
          axis.crosses_nodes ? machine_.network_bytes_per_second : machine_.node_link_bytes_per_second;
      const double hops = std::ceil(std::log2(static_cast<double>(axis.size)));
      axis.seconds = axis.sent_bytes / link + axis.calls * hops * machine_.hop_seconds;
      price_.step_seconds += axis.seconds;
    }
    price_.tokens_per_second = price_.step_tokens / price_.step_seconds;
    AddCheckpoints();
    price_.run_seconds = price_.steps * price_.step_seconds + price_.saves * price_.save_seconds;
    price_.rank_hours = price_.run_seconds / 3600 * mesh_.world();
    AddFailures();
    return price_;
  }

 private:
  void AddModel(const ModelOptions& model, const ModelWork& work) {
    const double length = static_cast<double>(config_.data().sequence_length());
    const double forward = ForwardFlops(model.shape, MeanKeys(model.shape, length));
    const double again = model.recompute == Recompute::kFull ? 1 : 0;
    price_.flops += (3 + again) * forward * work.trained_tokens + forward * work.scored_tokens;
    rank_flops_ += ((3 + again) * RankTokens(work.trained_tokens) + RankTokens(work.scored_tokens)) *
                   forward / mesh_.tensor;
    if (work.trained_tokens > 0) {
      // AdamW reads gradients, and reads and writes weights and moments; a data rank owns its share of a
      // tensor rank's weights.
      const double owned = ParametersOf(model) / mesh_.world();
      const double bytes = 12.0 + 4.0 * static_cast<double>(SizeOf(model.optimizer.moments));
      price_.optimizer_seconds += bytes * owned / machine_.memory_bytes_per_second;
      Add(TrainTraffic(model, engine_, mesh_, ShapeOf(work.trained_tokens)));
    }
    if (work.scored_tokens > 0) Add(ScoreTraffic(model, engine_, mesh_, ShapeOf(work.scored_tokens)));
  }

  // Decoding reads the weights and the cache once a step of all slots.
  void AddSampling(const ModelOptions& model, const StageWork& work) {
    if (work.decode_steps == 0) return;
    const double size = static_cast<double>(SizeOf(model.dtype));
    const double weights = static_cast<double>(MatmulParameters(model.shape)) * size / mesh_.tensor;
    const double cache =
        2.0 * static_cast<double>(model.shape.layers * model.shape.kv_heads * model.shape.head_dim) * size *
        work.decode_context * static_cast<double>(engine_.decode_slots) / mesh_.tensor;
    const double rate = machine_.flops_per_second * machine_.utilization;
    const double flops = ForwardFlops(model.shape, work.decode_context) *
                         static_cast<double>(engine_.decode_slots) / mesh_.tensor;
    const double of_step = std::max((weights + cache) / machine_.memory_bytes_per_second, flops / rate);
    const double prefill =
        ForwardFlops(model.shape, MeanKeys(model.shape, work.prompt_tokens)) * work.prefill_tokens;
    price_.sampling_seconds = work.decode_steps * of_step + prefill / mesh_.world() / rate;
  }

  double RankTokens(double tokens) const {
    return static_cast<double>(ShapeOf(tokens).micro_batches * engine_.micro_batch_tokens);
  }

  // The fullest rank's part of so many tokens of all ranks.
  StepShape ShapeOf(double tokens) const {
    StepShape shape;
    shape.tokens = engine_.micro_batch_tokens;
    shape.trained_tokens = engine_.micro_batch_tokens;
    const double micro_batches = std::ceil(tokens / static_cast<double>(engine_.micro_batch_tokens));
    shape.micro_batches = static_cast<int64_t>(std::ceil(micro_batches / mesh_.data));
    return shape;
  }

  void Add(const std::vector<Traffic>& traffic) {
    for (const Traffic& one : traffic) {
      AxisPrice& axis = price_.axes[one.axis == "data" ? 0 : 1];
      axis.sent_bytes += one.SentBytes(axis.size);
      axis.calls += static_cast<double>(one.calls);
    }
  }

  // A run saves at its end too.
  void AddCheckpoints() {
    price_.checkpoint_bytes = CheckpointBytes(engine_);
    price_.save_seconds = price_.checkpoint_bytes / machine_.storage_bytes_per_second;
    price_.saves = std::ceil(price_.steps / IntervalSteps());
  }

  double IntervalSteps() const {
    const double interval = static_cast<double>(config_.checkpoint().interval_steps());
    return interval > 0 ? std::min(interval, price_.steps) : price_.steps;
  }

  void AddFailures() {
    const double day = 86400;
    price_.failures_per_day = machine_.failures_per_rank_day * mesh_.world();
    const double between = IntervalSteps() * price_.step_seconds;
    const double of_failure = between / 2 + machine_.restart_seconds + price_.save_seconds;
    const double saves = day / (between + price_.save_seconds) * price_.save_seconds;
    price_.lost_hours_per_day = std::min(day, price_.failures_per_day * of_failure + saves) / 3600;
    if (price_.failures_per_day == 0) return;
    const double best = std::sqrt(2 * price_.save_seconds * day / price_.failures_per_day);
    price_.best_interval_steps = std::max(1.0, std::round(best / price_.step_seconds));
  }

  const config::Config& config_;
  const EngineOptions& engine_;
  const MeshShape& mesh_;
  const Machine& machine_;
  double rank_flops_ = 0;  // of the fullest rank, in a step
  Price price_;
};

}  // namespace

double CheckpointBytes(const EngineOptions& engine) {
  double bytes = 0;
  for (const ModelOptions& model : engine.models) {
    if (!model.saved) continue;
    const int64_t moments = model.trainable ? 2 * SizeOf(model.optimizer.moments) : 0;
    bytes += ParametersOf(model) * static_cast<double>(4 + moments);
  }
  return bytes;
}

Price PriceRun(const config::Config& config, const EngineOptions& engine, const MeshShape& mesh,
               const Machine& machine, const AnswerLengths& lengths) {
  return Pricer(config, engine, mesh, machine).Run(lengths);
}

}  // namespace tanren
