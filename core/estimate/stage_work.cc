#include "core/estimate/stage_work.h"

#include <algorithm>

#include "core/base/status.h"

namespace tanren {
namespace {

StageWork RolloutWork(const config::Config& config, const EngineOptions& engine, int data_ranks,
                      const AnswerLengths& lengths) {
  const config::RolloutConfig& rollout = config.rollout();
  const bool ppo = config.rl().algorithm() == config::RlConfig::ppo;
  // 0 stands for the algorithm's usual number.
  const auto or_usual = [](int64_t value, int64_t usual) {
    return static_cast<double>(value > 0 ? value : usual);
  };
  const double answers = static_cast<double>(rollout.prompts()) * or_usual(rollout.samples(), ppo ? 1 : 8);
  const double minibatches = static_cast<double>(config.rl().minibatches());
  const double steps = or_usual(config.rl().epochs(), ppo ? 4 : 1) * minibatches;
  const double answer = or_usual(lengths.answer_tokens, rollout.max_tokens());
  const double prompt = or_usual(lengths.prompt_tokens, rollout.max_tokens());
  const double tokens = answers * (prompt + answer);
  StageWork work;
  work.step_tokens = tokens / minibatches;
  for (const ModelOptions& model : engine.models) {
    work.models.push_back({model.name, model.trainable ? work.step_tokens : 0, tokens / steps});
  }
  const double rounds = answers / static_cast<double>(engine.decode_slots) / data_ranks;
  work.decode_steps = std::max(rounds, 1.0) * answer / steps;
  work.prompt_tokens = prompt;
  work.prefill_tokens = answers * prompt / steps;
  work.decode_context = prompt + answer / 2;
  work.assumption =
      absl::StrFormat("answers of %.0f tokens to prompts of %.0f, all of them trained on", answer, prompt);
  return work;
}

}  // namespace

StageWork WorkOf(const config::Config& config, const EngineOptions& engine, int data_ranks,
                 const AnswerLengths& lengths) {
  if (config.stage() == "rl") return RolloutWork(config, engine, data_ranks, lengths);
  StageWork work;
  work.step_tokens =
      static_cast<double>(config.batch().micro_batches() * config.batch().micro_batch_tokens());
  for (const ModelOptions& model : engine.models) {
    work.models.push_back(
        {model.name, model.trainable ? work.step_tokens : 0, model.trainable ? 0 : work.step_tokens});
  }
  if (config.stage() != "pretrain") work.assumption = "every micro-batch is full";
  return work;
}

void AssumeModels(const config::Config& config, EngineOptions* engine) {
  const ModelOptions policy = engine->models[0];
  const auto add = [&](const char* name, bool trainable, bool scores) {
    ModelOptions& model = engine->models.emplace_back(policy);
    model.name = name;
    model.trainable = model.saved = trainable;
    model.generates = false;
    model.shape.scalar_head = scores;
    model.shape.vocabulary_head = !scores;
  };
  if (config.stage() == "reward_model") {
    engine->models[0].shape.scalar_head = true;
    engine->models[0].shape.vocabulary_head =
        config.reward_model().likelihood() != config::RewardModelConfig::none;
  }
  if (config.stage() == "preference") {
    const config::PreferenceConfig& options = config.preference();
    const bool alone = options.loss() == config::PreferenceConfig::simpo ||
                       options.loss() == config::PreferenceConfig::orpo ||
                       (options.loss() == config::PreferenceConfig::dpo && options.reference_free());
    if (!alone) add("reference", false, false);
  }
  if (config.stage() != "rl") return;
  const bool ppo = config.rl().algorithm() == config::RlConfig::ppo;
  engine->models[0].generates = true;
  engine->generation_tokens = std::min(policy.shape.context_length, engine->micro_batch_tokens);
  engine->decode_slots = config.rollout().decode_slots();
  const double kl = config.rl().kl_coefficient();
  if (kl > 0 || (kl < 0 && ppo)) add("reference", false, false);
  if (!config.init().reward().empty() && config.rewards().model_weight() > 0) add("reward", false, true);
  if (ppo) add("critic", true, true);
}

}  // namespace tanren
