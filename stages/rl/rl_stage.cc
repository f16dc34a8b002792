#include "stages/rl/rl_stage.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "kernels/random.h"
#include "stages/common/checkpoint_model.h"
#include "stages/common/example_units.h"
#include "stages/losses/policy_losses.h"

namespace tanren {
namespace {

constexpr uint64_t kPromptStream = 0x70726f6d7074;
constexpr uint64_t kEpochStream = 0x65706f6368;
constexpr const char* kHeldOut = "answers to held-out prompts";

}  // namespace

absl::StatusOr<RewardScale> RlStage::DeclareRewardModel(const std::string& key, const std::string& path,
                                                        const std::string& name, const config::Config& config,
                                                        const Tokenizer& tokenizer, EngineOptions* engine) {
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source, DescribeCheckpoint(key, path, tokenizer));
  if (!source.shape.scalar_head) {
    return InvalidInput(
        "%s: %s was saved by stage %s and has no score head; name a checkpoint of stage reward_model", key,
        source.path, source.stage);
  }
  TANREN_RETURN_IF_ERROR(CheckTemplate(key, source, config));
  absl::StatusOr<RewardScale> scale = RewardScale::FromState(source.state);
  if (!scale.ok()) return At(absl::StrCat(key, ": ", source.path), scale.status());
  ModelOptions reward = engine->models[0];
  SetFrozen(source, name, &reward);
  engine->models.push_back(std::move(reward));
  return scale;
}

absl::Status RlStage::DeclareRewards(const config::Config& config, const Tokenizer& tokenizer,
                                     EngineOptions* engine) {
  const config::RewardConfig& rewards = config.rewards();
  TANREN_ASSIGN_OR_RETURN(const std::vector<Aspect> aspects, AspectsFromConfig(rewards));
  bool learns = rewards.step_weight() > 0 ||
                (rewards.checker() != config::RewardConfig::none && CheckerWeight(rewards) > 0);
  if (!config.init().reward().empty() && rewards.model_weight() > 0) {
    TANREN_ASSIGN_OR_RETURN(scale_, DeclareRewardModel("init.reward", config.init().reward(), "reward",
                                                       config, tokenizer, engine));
    model_weight_ = rewards.model_weight();
    learns = true;
  }
  for (size_t a = 0; a < aspects.size(); ++a) {
    learns |= aspects[a].weight != 0;
    if (aspects[a].model.empty()) continue;
    AspectModel model{a, absl::StrCat("reward_", aspects[a].name), {}};
    TANREN_ASSIGN_OR_RETURN(model.scale, DeclareRewardModel(aspects[a].key(), aspects[a].model, model.name,
                                                            config, tokenizer, engine));
    aspect_models_.push_back(std::move(model));
  }
  if (learns) return absl::OkStatus();
  return InvalidInput(
      "init.reward: stage rl needs something to learn from: name a reward model, set rewards.checker and "
      "rewards.checker_weight, or give rewards.aspects a weight");
}

absl::Status RlStage::DeclareReference(const config::Config& config, const Tokenizer& tokenizer,
                                       EngineOptions* engine) {
  if (options_.kl_coefficient == 0) return absl::OkStatus();
  const bool own = !config.init().reference().empty();
  const std::string key = own ? "init.reference" : "init.from";
  const std::string& path = own ? config.init().reference() : config.init().from();
  if (path.empty()) {
    return InvalidInput(
        "init.from: rl.kl_coefficient is %g, so stage rl needs a policy to start from and to stay near",
        options_.kl_coefficient);
  }
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source, DescribeCheckpoint(key, path, tokenizer));
  if (source.shape.scalar_head) {
    return InvalidInput("%s: %s is a reward model, and a reference needs a vocabulary head", key,
                        source.path);
  }
  starts_at_reference_ = !config.init().from().empty() && SameCheckpoint(source.path, config.init().from());
  ModelOptions reference = engine->models[0];
  SetFrozen(source, "reference", &reference);
  engine->models.push_back(std::move(reference));
  return absl::OkStatus();
}

absl::Status RlStage::DeclareCritic(const config::Config& config, const Tokenizer& tokenizer,
                                    EngineOptions* engine) {
  if (!options_.has_critic()) return absl::OkStatus();
  const config::InitConfig& init = config.init();
  const auto [key, path] = !init.critic().empty()   ? std::pair("init.critic", init.critic())
                           : !init.reward().empty() ? std::pair("init.reward", init.reward())
                                                    : std::pair("init.from", init.from());
  ModelOptions critic = engine->models[0];
  critic.name = "critic";
  critic.init_from.clear();
  bool has_score = true;  // of random weights there is nothing to be new beside
  if (!path.empty()) {
    TANREN_ASSIGN_OR_RETURN(const CheckpointModel source, DescribeCheckpoint(key, path, tokenizer));
    critic.shape = source.shape;
    critic.init_from = source.path;
    critic.init_model = "policy";
    has_score = source.shape.scalar_head;
  }
  SetScalarHead(has_score, &critic);
  engine->models.push_back(std::move(critic));
  return absl::OkStatus();
}

absl::Status RlStage::Declare(const config::Config& config, const Tokenizer& tokenizer,
                              EngineOptions* engine) {
  TANREN_ASSIGN_OR_RETURN(options_, RlOptions::FromConfig(config));
  ModelOptions& policy = engine->models[0];
  policy.generates = true;
  engine->generation_tokens = std::min(policy.shape.context_length, config.batch().micro_batch_tokens());
  engine->decode_slots = config.rollout().decode_slots();
  if (!config.init().from().empty()) {
    TANREN_ASSIGN_OR_RETURN(const CheckpointModel start,
                            DescribeCheckpoint("init.from", config.init().from(), tokenizer));
    TANREN_RETURN_IF_ERROR(CheckTemplate("init.from", start, config));
  }
  TANREN_RETURN_IF_ERROR(DeclareRewards(config, tokenizer, engine));
  TANREN_RETURN_IF_ERROR(DeclareReference(config, tokenizer, engine));
  TANREN_RETURN_IF_ERROR(DeclareCritic(config, tokenizer, engine));
  // What is sampled must fit every model that scores it.
  for (const ModelOptions& model : engine->models) {
    engine->generation_tokens = std::min(engine->generation_tokens, model.shape.context_length);
  }
  sequence_tokens_ = engine->generation_tokens;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RlStage::Prompt>> RlStage::ReadPrompts(bool validation, const Mesh& mesh) const {
  // A prompt is a unit without an answer; its texts are kept beside it, in the same order.
  std::vector<std::vector<Prompt>> files;
  std::vector<Prompt> prompts;
  const MakeUnit make = [&](const Example& example, Unit* unit) -> absl::Status {
    Prompt prompt;
    const std::vector<Message> messages = PromptMessages(*config_, example);
    if (messages.empty()) return InvalidInput("no prompt");
    TANREN_ASSIGN_OR_RETURN(prompt.ids, chat_->Render(messages, /*generation_prompt=*/true));
    if (static_cast<int64_t>(prompt.ids.size()) + options_.max_tokens > sequence_tokens_) {
      return InvalidInput(
          "prompt and rollout.max_tokens are longer than the micro-batch or the shortest of the "
          "models' contexts");
    }
    prompt.text = messages.back().content;
    prompt.answer = example.answer;
    if (rewards_->needs_reference() && prompt.answer.empty())
      return InvalidInput("no answer to check against");
    unit->ids = prompt.ids;
    unit->segment_lengths = {static_cast<int32_t>(prompt.ids.size())};
    prompts.push_back(std::move(prompt));
    return absl::OkStatus();
  };
  std::vector<UnitReport> reports;
  TANREN_RETURN_IF_ERROR(ReadUnits(*config_, validation, make, &reports).status());
  if (mesh.world->rank() == 0) {
    for (const UnitReport& report : reports) std::printf("prompts: %s\n", report.ToString().c_str());
    std::fflush(stdout);
  }
  return prompts;
}

absl::Status RlStage::Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) {
  config_ = &config;
  tokenizer_ = &tokenizer;
  if (config.data().examples().empty())
    return InvalidInput("data.examples: stage rl needs at least one file of prompts");
  TANREN_ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplateFromConfig(config, tokenizer));
  chat_ = std::move(chat);
  TANREN_ASSIGN_OR_RETURN(AnswerRewards rewards,
                          AnswerRewards::Make(config.rewards(), tokenizer, options_.max_tokens));
  rewards_ = std::move(rewards);
  TANREN_ASSIGN_OR_RETURN(prompts_, ReadPrompts(false, mesh));
  TANREN_ASSIGN_OR_RETURN(held_out_, ReadPrompts(true, mesh));
  const int64_t most = config.validation().examples();
  if (most > 0 && static_cast<int64_t>(held_out_.size()) > most) held_out_.resize(most);
  Sha256 hash;
  for (const Prompt& prompt : prompts_) {
    hash.UpdateField(prompt.text);
    hash.UpdateField(prompt.answer);
    hash.UpdateNumber(static_cast<int64_t>(prompt.ids.size()));
  }
  prompts_hash_ = hash.HexDigest();
  policy_loss_ = MakePolicyLoss(options_);
  if (options_.has_critic()) {
    value_loss_ = std::make_unique<TokenLossOf<ValueFunctor>>(ValueFunctor{options_.value_clip});
  }
  kl_coefficient_ = options_.kl_coefficient;
  TANREN_RETURN_IF_ERROR(CheckGuards());
  return base_.Open(config, tokenizer);
}

absl::Status RlStage::Begin(Engine& engine) {
  TANREN_RETURN_IF_ERROR(base_.Begin(engine));
  if (held_out_.empty() || !rewards_->checks()) return absl::OkStatus();
  Checks checks;
  TANREN_ASSIGN_OR_RETURN(first_accuracy_, MeasureAccuracy(engine, &checks));
  if (engine.mesh().world->rank() == 0) {
    std::vector<std::string> warnings;
    WarnOfChecks(checks, kHeldOut, &warnings);
    for (const std::string& warning : warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
    std::printf("before the first step: accuracy %.4f on %zu held-out prompts\n", first_accuracy_,
                held_out_.size());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

const RlStage::Prompt& RlStage::PromptAt(int64_t drawn) const {
  const uint64_t size = prompts_.size();
  const uint64_t epoch = static_cast<uint64_t>(drawn) / size;
  uint64_t place = static_cast<uint64_t>(drawn) % size;
  if (config_->data().shuffle()) {
    place = kernels::PermuteIndex(options_.sampling.seed, kPromptStream ^ (epoch << 8), size, place);
  }
  return prompts_[place];
}

void RlStage::DivideEpochs() {
  const uint64_t stream =
      kEpochStream ^ (static_cast<uint64_t>(rollouts_) << 16) ^ static_cast<uint64_t>(epoch_);
  minibatches_ = DivideEpoch(static_cast<int64_t>(rollout_.micro_batches.size()), options_.minibatches,
                             options_.sampling.seed, stream);
}

absl::StatusOr<std::vector<MicroBatch>> RlStage::LoadMinibatch(const std::vector<int32_t>& minibatch,
                                                               const Mesh& mesh) const {
  const DealtRange mine =
      DealMicroBatches(static_cast<int64_t>(minibatch.size()), mesh.data->rank(), mesh.data->size());
  std::vector<MicroBatch> batches;
  for (int64_t m = mine.begin; m < mine.end; ++m) {
    TANREN_ASSIGN_OR_RETURN(MicroBatch batch,
                            rollout_.Make(minibatch[m], config_->batch().micro_batch_tokens()));
    batches.push_back(std::move(batch));
  }
  return batches;
}

absl::Status RlStage::TrainCritic(Engine& engine, const std::vector<MicroBatch>& batches,
                                  double learning_rate, StageStep* out) {
  TANREN_ASSIGN_OR_RETURN(const StepResult result, engine.Train("critic", batches, *value_loss_,
                                                                learning_rate * options_.critic_rate_ratio));
  out->metrics.push_back({"value_loss", result.loss});
  out->metrics.push_back({"critic_gradient_norm", result.gradient_norm});
  out->metrics.push_back(
      {"value_clip_fraction", MetricOf(*value_loss_, result.metrics, "value_clip_fraction")});
  out->skipped |= result.skipped;
  return absl::OkStatus();
}

void RlStage::Advance(bool leave_rollout) {
  if (!leave_rollout && ++next_minibatch_ < static_cast<int64_t>(minibatches_.size())) return;
  next_minibatch_ = 0;
  if (leave_rollout || ++epoch_ == options_.epochs) {
    epoch_ = 0;
    rollout_ = Rollout();
    return;
  }
  DivideEpochs();
}

absl::StatusOr<StageStep> RlStage::Step(Engine& engine, int64_t step, double learning_rate) {
  StageStep out;
  timings_.clear();
  if (rollout_.answers.empty()) {
    TANREN_RETURN_IF_ERROR(NewRollout(engine));
    JudgeRollout(&out);
    if (!off_policy_was_said_) {
      off_policy_was_said_ = true;
      WarnOfOffPolicy(&out.warnings);
    }
  }
  const bool on_policy = epoch_ == 0 && next_minibatch_ == 0;
  absl::StatusOr<std::vector<MicroBatch>> batches =
      LoadMinibatch(minibatches_[next_minibatch_], engine.mesh());
  TANREN_RETURN_IF_ERROR(AgreeStatus(*engine.mesh().world, "load minibatch", batches.status()));
  for (const int32_t m : minibatches_[next_minibatch_]) {
    for (const int32_t i : rollout_.micro_batches[m])
      out.tokens += static_cast<double>(rollout_.answers[i].unit.tokens());
  }
  bool leave = false;
  if (!options_.has_critic() || step >= options_.critic_warmup_steps) {
    TANREN_ASSIGN_OR_RETURN(const StepResult result,
                            engine.Train("policy", *batches, *policy_loss_, learning_rate));
    out.loss = result.loss;
    out.gradient_norm = result.gradient_norm;
    out.skipped = result.skipped;
    for (size_t m = 0; m < result.metrics.size(); ++m) {
      out.metrics.push_back({policy_loss_->metrics()[m], result.metrics[m]});
    }
    const double kl = MetricOf(*policy_loss_, result.metrics, "approx_kl");
    if (on_policy && !result.skipped && kl != 0) {
      return absl::InternalError(absl::StrFormat(
          "step %d: the first minibatch of a rollout has a ratio that is not exactly 1 (its KL to the policy "
          "that sampled it is %g): the policy that is trained is not the one that was scored. Weights were "
          "changed outside the trainer, or a kernel does not repeat its results; run again to go on from the "
          "newest checkpoint",
          step + 1, kl));
    }
    leave = options_.stop_kl > 0 && kl > options_.stop_kl;
  }
  if (value_loss_) TANREN_RETURN_IF_ERROR(TrainCritic(engine, *batches, learning_rate, &out));
  out.metrics.insert(out.metrics.end(), figures_.begin(), figures_.end());
  out.metrics.insert(out.metrics.end(), timings_.begin(), timings_.end());
  if (leave) out.metrics.push_back({"stopped_by_kl", 1});
  Advance(leave);
  return out;
}

absl::StatusOr<StageValidation> RlStage::Validate(Engine& engine) {
  StageValidation validation;
  TANREN_RETURN_IF_ERROR(base_.Measure(engine, &validation));
  if (held_out_.empty() || !rewards_->checks()) return validation;
  Checks checks;
  TANREN_ASSIGN_OR_RETURN(const double accuracy, MeasureAccuracy(engine, &checks));
  WarnOfChecks(checks, kHeldOut, &validation.warnings);
  validation.metrics.push_back({"accuracy", accuracy});
  JudgeHacking(accuracy, &validation);
  return validation;
}

void RegisterRlStage() {
  RegisterStage("rl", [] { return std::make_unique<RlStage>(); });
}

}  // namespace tanren
