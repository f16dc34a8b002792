// Reinforcement learning on the model's own answers: PPO with a critic; GRPO, RLOO, DAPO and GSPO without.
//
// A step of the trainer is one optimizer step on a minibatch of the current rollout. When a rollout is used
// up the next step samples a new one: prompts are drawn, the policy answers with its training weights, all
// models score the answers on the very packing that is trained, rewards become advantages, and the columns
// stay with the rollout. The rollout is part of the saved state, so a run resumes inside an epoch.
#ifndef TANREN_STAGES_RL_RL_STAGE_H_
#define TANREN_STAGES_RL_RL_STAGE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/chat/chat_template.h"
#include "core/examples/example.h"
#include "core/trainer/stage.h"
#include "stages/common/documents.h"
#include "stages/reward_model/reward_model_stage.h"
#include "stages/rl/rewards.h"
#include "stages/rl/rl_options.h"
#include "stages/rl/rollout.h"
#include "stages/rl/rollout_scores.h"

namespace tanren {

class RlStage final : public Stage {
 public:
  absl::Status Declare(const config::Config& config, const Tokenizer& tokenizer,
                       EngineOptions* engine) override;
  absl::Status Open(const config::Config& config, const Tokenizer& tokenizer, const Mesh& mesh) override;
  absl::Status Begin(Engine& engine) override;
  absl::StatusOr<StageStep> Step(Engine& engine, int64_t step, double learning_rate) override;
  absl::StatusOr<StageValidation> Validate(Engine& engine) override;
  bool LossTells() const override { return false; }
  absl::Status SkipSteps(int64_t steps) override;
  std::map<std::string, std::string> SaveState() const override;
  absl::Status RestoreState(const std::map<std::string, std::string>& state) override;

 private:
  struct Prompt {
    std::vector<int32_t> ids;
    std::string text;    // the last message of the user
    std::string answer;  // "" without
  };
  // An answer that is sampled and rewarded, not yet scored by policy, reference and critic.
  struct Sampled {
    RolloutAnswer answer;
    AnswerReward reward;
    std::vector<float> sampling_logp;
    double model_score = 0;  // normalised; 0 without a reward model
    double total = 0;        // all rewards but the KL
  };

  // How many answers were checked, of how many the checker itself failed, and why it failed first.
  struct Checks {
    int64_t all = 0;
    int64_t failed = 0;
    std::string failure;
    void Add(const AnswerVerdict& verdict);
  };

  // Sums over all answers of a rollout, also of groups that are left out.
  struct Totals {
    double answers = 0, reward = 0, model_score = 0, right = 0, length = 0, cut_off = 0;
    double reward_seconds = 0;
    Checks checks;
    std::vector<double> aspect_scores;
    std::vector<Checks> aspect_checks;
  };

  // A frozen reward model that scores one aspect of an answer.
  struct AspectModel {
    size_t aspect = 0;  // its place in rewards.aspects
    std::string name;   // the engine's
    RewardScale scale;
  };

  // Adds the frozen model `name` and returns the scale that is stored with it. `key` named the path.
  absl::StatusOr<RewardScale> DeclareRewardModel(const std::string& key, const std::string& path,
                                                 const std::string& name, const config::Config& config,
                                                 const Tokenizer& tokenizer, EngineOptions* engine);
  absl::Status DeclareRewards(const config::Config& config, const Tokenizer& tokenizer,
                              EngineOptions* engine);
  absl::Status DeclareReference(const config::Config& config, const Tokenizer& tokenizer,
                                EngineOptions* engine);
  absl::Status DeclareCritic(const config::Config& config, const Tokenizer& tokenizer, EngineOptions* engine);
  absl::StatusOr<std::vector<Prompt>> ReadPrompts(bool validation, const Mesh& mesh) const;

  GenerationRequest Request(const Prompt& prompt, const kernels::SamplingParams& sampling) const;
  absl::Status NewRollout(Engine& engine);
  // The answers to the next prompts; with drop_equal_groups those of groups that differ.
  absl::StatusOr<std::vector<Sampled>> Sample(Engine& engine, double* kept_share);
  absl::StatusOr<std::vector<Sampled>> SampleOnce(Engine& engine);
  absl::Status AddRewards(Engine& engine, const std::vector<AnswerToReward>& to_reward,
                          std::vector<Sampled>* sampled);
  absl::Status AddModelScores(Engine& engine, const std::vector<AnswerToReward>& to_reward,
                              std::vector<Sampled>* sampled);
  void ShuffleRewards(std::vector<Sampled>* sampled) const;
  void AddTotals(const std::vector<Sampled>& sampled);
  std::vector<double> TokenRewards(const Sampled& sampled, const AnswerScores& scores) const;
  void AddColumns(const std::vector<Sampled>& sampled, const std::vector<AnswerScores>& scores);
  void SetSamplingFigures();
  void AddTrainingFigures(const std::vector<Sampled>& sampled, const std::vector<AnswerScores>& scores);
  const Prompt& PromptAt(int64_t drawn) const;
  // Greedy answers to the held-out prompts: the share that is right.
  absl::StatusOr<double> MeasureAccuracy(Engine& engine, Checks* checks);
  void DivideEpochs();
  void Advance(bool leave_rollout);
  absl::StatusOr<std::vector<MicroBatch>> LoadMinibatch(const std::vector<int32_t>& minibatch,
                                                        const Mesh& mesh) const;
  absl::Status TrainCritic(Engine& engine, const std::vector<MicroBatch>& batches, double learning_rate,
                           StageStep* out);
  absl::Status CheckGuards() const;
  void JudgeRollout(StageStep* out) const;
  void WarnOfFailedChecks(std::vector<std::string>* warnings) const;  // of the rollout
  static void WarnOfChecks(const Checks& checks, const std::string& what, std::vector<std::string>* warnings);
  // Sampling that draws from another distribution than the one that is trained.
  void WarnOfOffPolicy(std::vector<std::string>* warnings) const;
  // The first rollout of a policy that begins as its reference: InvalidArgument where the two differ.
  absl::Status CheckStartsAtReference(const std::vector<AnswerScores>& scores) const;
  void JudgeHacking(double accuracy, StageValidation* out);

  const config::Config* config_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  RlOptions options_;
  std::optional<ChatTemplate> chat_;
  std::optional<AnswerRewards> rewards_;
  double model_weight_ = 0;           // of the reward model; 0 without one
  bool starts_at_reference_ = false;  // the policy and the reference are read from one checkpoint
  int64_t sequence_tokens_ = 0;       // a prompt with its answer: what every model of the stage can take
  RewardScale scale_;                 // stored with the reward model
  std::vector<AspectModel> aspect_models_;
  std::vector<Prompt> prompts_;
  std::vector<Prompt> held_out_;
  std::string prompts_hash_;
  std::unique_ptr<Loss> policy_loss_;
  std::unique_ptr<Loss> value_loss_;
  BaseLoss base_;

  // What is saved.
  int64_t prompts_drawn_ = 0;
  int64_t rollouts_ = 0;
  int64_t most_drawn_ = 0, most_rollouts_ = 0;  // by this process, also before it went back
  double kl_coefficient_ = 0;
  double first_reward_ = 0, first_length_ = 0, first_accuracy_ = -1;
  double last_reward_ = 0;
  Rollout rollout_;
  int64_t epoch_ = 0;            // of the current rollout
  int64_t next_minibatch_ = 0;   // of the current epoch
  std::vector<Metric> figures_;  // of the newest rollout

  std::vector<std::vector<int32_t>> minibatches_;  // of the current epoch: follows from what is saved
  std::vector<Metric> timings_;                    // of a rollout made in this step
  Totals totals_;                                  // likewise
  bool off_policy_was_said_ = false;               // by a warning of this process
};

void RegisterRlStage();

}  // namespace tanren

#endif  // TANREN_STAGES_RL_RL_STAGE_H_
