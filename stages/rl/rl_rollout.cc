// The part of stage rl that makes rollouts: sampling, rewards, advantages and figures.
#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "kernels/random.h"
#include "stages/rl/advantages.h"
#include "stages/rl/rl_stage.h"

namespace tanren {
namespace {

constexpr double kWhitenEpsilon = 1e-8;
constexpr uint64_t kShuffleStream = uint64_t{0x73687566} << 32;

double Sum(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

}  // namespace

GenerationRequest RlStage::Request(const Prompt& prompt, const kernels::SamplingParams& sampling) const {
  GenerationRequest request;
  request.prompt = prompt.ids;
  request.max_tokens = options_.max_tokens;
  request.sampling = sampling;
  request.stop = {chat_->end_of_turn()};
  return request;
}

void RlStage::Checks::Add(const AnswerVerdict& verdict) {
  ++all;
  if (!verdict.failed) return;
  if (failed++ == 0) failure = verdict.failure;
}

absl::StatusOr<double> RlStage::MeasureAccuracy(Engine& engine, Checks* checks) {
  kernels::SamplingParams greedy;
  greedy.temperature = 0;
  std::vector<GenerationRequest> requests;
  for (const Prompt& prompt : held_out_) requests.push_back(Request(prompt, greedy));
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results, engine.Generate("policy", requests));
  std::vector<AnswerToReward> answers;
  for (size_t i = 0; i < results.size(); ++i) {
    answers.push_back({held_out_[i].text, held_out_[i].answer, results[i].tokens, results[i].stop_tokens,
                       results[i].finish == FinishReason::kStop});
  }
  TANREN_ASSIGN_OR_RETURN(const std::vector<AnswerReward> rewards,
                          rewards_->Reward(*engine.mesh().world, answers, /*with_aspects=*/false));
  for (const AnswerReward& reward : rewards) checks->Add(reward.check);
  const auto right =
      std::count_if(rewards.begin(), rewards.end(), [](const AnswerReward& r) { return r.check.right; });
  return static_cast<double>(right) / static_cast<double>(rewards.size());
}

// One model after the other: each scores all answers before the next begins.
absl::Status RlStage::AddModelScores(Engine& engine, const std::vector<AnswerToReward>& to_reward,
                                     std::vector<Sampled>* sampled) {
  if (model_weight_ == 0 && aspect_models_.empty()) return absl::OkStatus();
  Rollout rollout;
  for (const Sampled& one : *sampled) rollout.answers.push_back(one.answer);
  TANREN_RETURN_IF_ERROR(rollout.Pack(engine.options().micro_batch_tokens));
  const auto score = [&](const std::string& place, const std::string& path, const std::string& model,
                         const RewardScale& scale, const auto& take) -> absl::Status {
    TANREN_ASSIGN_OR_RETURN(const std::vector<float> scores,
                            ScoreRewards(engine, rollout, model, scale.likelihood));
    for (size_t i = 0; i < scores.size(); ++i) {
      const double normalised = scale.normalizer.Normalised(scores[i]);
      if (!std::isfinite(scores[i]) || !std::isfinite(normalised)) {
        return InvalidInput(
            "%s: the score of an answer to \"%s\" is %g, normalised %g; the weights or the score "
            "normalisation of %s overflow or are damaged, so name another checkpoint",
            place, to_reward[i].prompt, scores[i], normalised, path);
      }
      take((*sampled)[i], normalised);
    }
    return absl::OkStatus();
  };
  if (model_weight_ > 0) {
    TANREN_RETURN_IF_ERROR(score("init.reward", config_->init().reward(), "reward", scale_,
                                 [](Sampled& one, double value) { one.model_score = value; }));
  }
  for (const AspectModel& model : aspect_models_) {
    const Aspect& aspect = rewards_->aspects()[model.aspect];
    TANREN_RETURN_IF_ERROR(
        score(aspect.key(), aspect.model, model.name, model.scale, [&](Sampled& one, double value) {
          one.reward.aspects[model.aspect].score = value;
          one.reward.total += aspect.weight * value;
        }));
  }
  return absl::OkStatus();
}

absl::Status RlStage::AddRewards(Engine& engine, const std::vector<AnswerToReward>& to_reward,
                                 std::vector<Sampled>* sampled) {
  TANREN_ASSIGN_OR_RETURN(std::vector<AnswerReward> rewards,
                          rewards_->Reward(*engine.mesh().world, to_reward));
  for (size_t i = 0; i < sampled->size(); ++i) (*sampled)[i].reward = std::move(rewards[i]);
  TANREN_RETURN_IF_ERROR(AddModelScores(engine, to_reward, sampled));
  for (Sampled& one : *sampled) {
    one.total = one.reward.total + model_weight_ * one.model_score;
    for (const float inside : one.reward.per_token) one.total += inside;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RlStage::Sampled>> RlStage::SampleOnce(Engine& engine) {
  std::vector<GenerationRequest> requests;
  for (int64_t p = 0; p < options_.prompts; ++p) {
    const Prompt& prompt = PromptAt(prompts_drawn_ + p);
    for (int64_t s = 0; s < options_.samples; ++s) {
      kernels::SamplingParams sampling = options_.sampling;
      sampling.stream_id = static_cast<uint64_t>((prompts_drawn_ + p) * options_.samples + s);
      requests.push_back(Request(prompt, sampling));
      requests.back().repetition = options_.repetition;
    }
  }
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results, engine.Generate("policy", requests));
  std::vector<Sampled> sampled(results.size());
  std::vector<AnswerToReward> to_reward;
  for (size_t i = 0; i < results.size(); ++i) {
    const int64_t group = prompts_drawn_ + static_cast<int64_t>(i) / options_.samples;
    const Prompt& prompt = PromptAt(group);
    const bool ended = results[i].finish == FinishReason::kStop;
    sampled[i].answer = MakeAnswer(prompt.ids, results[i].tokens, ended, group);
    sampled[i].sampling_logp = results[i].logp;
    to_reward.push_back({prompt.text, prompt.answer, results[i].tokens, results[i].stop_tokens, ended});
  }
  const double begin = SteadySeconds();
  TANREN_RETURN_IF_ERROR(AddRewards(engine, to_reward, &sampled));
  totals_.reward_seconds += SteadySeconds() - begin;
  if (config_->rewards().shuffle()) ShuffleRewards(&sampled);
  prompts_drawn_ += options_.prompts;
  most_drawn_ = std::max(most_drawn_, prompts_drawn_);
  AddTotals(sampled);
  return sampled;
}

// The verdicts stay with their answers: accuracy is still measured.
void RlStage::ShuffleRewards(std::vector<Sampled>* sampled) const {
  const std::vector<Sampled> before = *sampled;
  for (size_t i = 0; i < before.size(); ++i) {
    const Sampled& from = before[kernels::PermuteIndex(static_cast<uint64_t>(config_->seed()),
                                                       kShuffleStream + prompts_drawn_, before.size(), i)];
    (*sampled)[i].reward.total = from.reward.total;
    (*sampled)[i].model_score = from.model_score;
    (*sampled)[i].total = from.total;
  }
}

void RlStage::AddTotals(const std::vector<Sampled>& sampled) {
  totals_.aspect_scores.resize(rewards_->aspects().size(), 0);
  totals_.aspect_checks.resize(rewards_->aspects().size());
  for (const Sampled& one : sampled) {
    ++totals_.answers;
    totals_.reward += one.total;
    totals_.model_score += one.model_score;
    totals_.right += one.reward.check.right;
    totals_.length += static_cast<double>(one.answer.trained_tokens());
    totals_.cut_off += !one.answer.ended;
    totals_.checks.Add(one.reward.check);
    for (size_t a = 0; a < one.reward.aspects.size(); ++a) {
      totals_.aspect_scores[a] += one.reward.aspects[a].score;
      totals_.aspect_checks[a].Add(one.reward.aspects[a]);
    }
  }
}

absl::StatusOr<std::vector<RlStage::Sampled>> RlStage::Sample(Engine& engine, double* kept_share) {
  *kept_share = 1;
  totals_ = Totals();
  if (!options_.drop_equal_groups) return SampleOnce(engine);
  std::vector<Sampled> kept;
  const size_t wanted = static_cast<size_t>(options_.prompts * options_.samples);
  double examined = 0;
  for (int64_t round = 0; round < options_.sampling_rounds && kept.size() < wanted; ++round) {
    TANREN_ASSIGN_OR_RETURN(std::vector<Sampled> more, SampleOnce(engine));
    for (size_t begin = 0; begin < more.size() && kept.size() < wanted; begin += options_.samples) {
      const auto first = more.begin() + begin, last = first + options_.samples;
      examined += static_cast<double>(options_.samples);
      if (std::all_of(first, last, [&](const Sampled& one) { return one.total == first->total; })) continue;
      std::move(first, last, std::back_inserter(kept));
    }
  }
  if (kept.empty()) {
    std::vector<std::string> why = {
        absl::StrFormat("none of %d prompts had answers of different reward: the task is too easy or too "
                        "hard for this policy; "
                        "set rl.drop_equal_groups: no, or choose other prompts",
                        options_.sampling_rounds * options_.prompts)};
    WarnOfFailedChecks(&why);
    return InvalidInput("%s", absl::StrJoin(why, "; "));
  }
  *kept_share = static_cast<double>(kept.size()) / examined;
  return kept;
}

std::vector<double> RlStage::TokenRewards(const Sampled& sampled, const AnswerScores& scores) const {
  std::vector<double> rewards(sampled.reward.per_token.begin(), sampled.reward.per_token.end());
  rewards.back() += sampled.reward.total + model_weight_ * sampled.model_score;
  if (!options_.kl_in_reward || scores.reference_logp.empty()) return rewards;
  for (size_t t = 0; t < rewards.size(); ++t) {
    const double d = static_cast<double>(scores.old_logp[t]) - scores.reference_logp[t];
    rewards[t] -= kl_coefficient_ * KlEstimate(options_.kl_estimator, d);
  }
  return rewards;
}

void RlStage::AddColumns(const std::vector<Sampled>& sampled, const std::vector<AnswerScores>& scores) {
  std::vector<std::vector<double>> advantages(sampled.size()), returns(sampled.size());
  std::vector<double> totals;
  for (size_t i = 0; i < sampled.size(); ++i) {
    const std::vector<double> rewards = TokenRewards(sampled[i], scores[i]);
    totals.push_back(Sum(rewards));
    if (!options_.has_critic()) continue;
    std::vector<double> values(scores[i].values.begin(), scores[i].values.end());
    values.push_back(sampled[i].answer.ended ? 0 : scores[i].last_value);
    advantages[i] = GeneralizedAdvantages(rewards, values, options_.gamma, options_.lambda);
    for (size_t t = 0; t < rewards.size(); ++t) returns[i].push_back(advantages[i][t] + values[t]);
  }
  if (!options_.has_critic()) {
    std::vector<double> of_answers =
        options_.algorithm == RlAlgorithm::kRloo
            ? LeaveOneOutBaselines(totals, options_.samples)
            : GroupAdvantages(totals, options_.samples, options_.scale_advantages);
    for (size_t i = 0; i < totals.size(); ++i) {
      const double advantage =
          options_.algorithm == RlAlgorithm::kRloo ? totals[i] - of_answers[i] : of_answers[i];
      advantages[i].assign(sampled[i].answer.trained_tokens(), advantage);
    }
  } else if (options_.whiten) {
    std::vector<double> all;
    for (const std::vector<double>& one : advantages) all.insert(all.end(), one.begin(), one.end());
    Whiten(all, /*shift_mean=*/true, kWhitenEpsilon);
    auto next = all.begin();
    for (std::vector<double>& one : advantages) {
      for (double& advantage : one) advantage = *next++;
    }
  }
  for (size_t i = 0; i < sampled.size(); ++i) {
    Unit& unit = rollout_.answers[i].unit;
    const int64_t first = sampled[i].answer.prompt_tokens - 1;
    const auto fill = [&](const char* name, const auto& values) {
      std::vector<float>& column = unit.columns.Get(name, unit.tokens());
      for (size_t t = 0; t < values.size(); ++t) column[first + t] = static_cast<float>(values[t]);
    };
    const double tokens = static_cast<double>(sampled[i].answer.trained_tokens());
    fill("weight",
         std::vector<double>(sampled[i].answer.trained_tokens(), options_.sequence_mean ? 1 / tokens : 1));
    fill("old_logp", scores[i].old_logp);
    fill("advantage", advantages[i]);
    if (!scores[i].reference_logp.empty()) fill("reference_logp", scores[i].reference_logp);
    if (options_.has_critic()) {
      fill("return", returns[i]);
      fill("old_value", scores[i].values);
    }
    unit.segment_columns.Get("advantage", 1, static_cast<float>(advantages[i][0]));
  }
}

// Of all that was sampled, also of groups that are left out.
void RlStage::SetSamplingFigures() {
  const double n = totals_.answers;
  figures_ = {
      {"reward", totals_.reward / n}, {"length", totals_.length / n}, {"cut_off", totals_.cut_off / n}};
  if (model_weight_ > 0) figures_.push_back({"model_score", totals_.model_score / n});
  if (rewards_->checks()) figures_.push_back({"accuracy", totals_.right / n});
  if (totals_.checks.failed > 0) {
    figures_.push_back({"checker_failures", static_cast<double>(totals_.checks.failed)});
  }
  for (size_t a = 0; a < totals_.aspect_scores.size(); ++a) {
    const std::string& name = rewards_->aspects()[a].name;
    figures_.push_back({absl::StrCat("reward_", name), totals_.aspect_scores[a] / n});
    const int64_t failed = totals_.aspect_checks[a].failed;
    if (failed > 0) figures_.push_back({absl::StrCat("failures_", name), static_cast<double>(failed)});
  }
  last_reward_ = totals_.reward / n;
  if (rollouts_ == 0) {
    first_reward_ = last_reward_;
    first_length_ = totals_.length / n;
  }
}

void RlStage::AddTrainingFigures(const std::vector<Sampled>& sampled,
                                 const std::vector<AnswerScores>& scores) {
  double kl = 0, mismatch = 0, worst_mismatch = 0, tokens = 0;
  std::map<int64_t, std::pair<int64_t, std::set<std::string>>> right_texts;  // by group: how many, and which
  for (size_t i = 0; i < sampled.size(); ++i) {
    const Sampled& one = sampled[i];
    if (one.reward.check.right) {
      auto& [count, texts] = right_texts[one.answer.group];
      ++count;
      texts.insert(one.reward.text);
    }
    for (size_t t = 0; t < scores[i].old_logp.size(); ++t) {
      const double difference = std::abs(static_cast<double>(one.sampling_logp[t]) - scores[i].old_logp[t]);
      mismatch += difference;
      worst_mismatch = std::max(worst_mismatch, difference);
      if (!scores[i].reference_logp.empty())
        kl += static_cast<double>(scores[i].old_logp[t]) - scores[i].reference_logp[t];
      ++tokens;
    }
  }
  const double n = static_cast<double>(sampled.size());
  if (options_.kl_coefficient > 0) {
    figures_.push_back({"reference_kl", kl / n});
    figures_.push_back({"kl_coefficient", kl_coefficient_});
  }
  double distinct = 0, right_answers = 0;
  for (const auto& [group, entry] : right_texts) {
    if (entry.first < 2) continue;
    distinct += static_cast<double>(entry.second.size());
    right_answers += static_cast<double>(entry.first);
  }
  if (right_answers > 0) figures_.push_back({"distinct_right", distinct / right_answers});
  figures_.push_back({"sampling_mismatch", mismatch / tokens});
  figures_.push_back({"sampling_mismatch_worst", worst_mismatch});
  AdaptiveKl adaptive(kl_coefficient_, options_.kl_target, options_.kl_horizon);
  adaptive.Update(kl / n, n);
  kl_coefficient_ = adaptive.coefficient();
}

absl::Status RlStage::NewRollout(Engine& engine) {
  const double begin = SteadySeconds();
  double kept_share = 1;
  TANREN_ASSIGN_OR_RETURN(const std::vector<Sampled> sampled, Sample(engine, &kept_share));
  const double generated = SteadySeconds();
  rollout_ = Rollout();
  for (const Sampled& one : sampled) rollout_.answers.push_back(one.answer);
  TANREN_RETURN_IF_ERROR(rollout_.Pack(engine.options().micro_batch_tokens));
  TANREN_ASSIGN_OR_RETURN(const std::vector<AnswerScores> scores,
                          ScoreRollout(engine, rollout_, options_.sampling.temperature));
  if (starts_at_reference_ && rollouts_ == 0) TANREN_RETURN_IF_ERROR(CheckStartsAtReference(scores));
  AddColumns(sampled, scores);
  SetSamplingFigures();
  if (options_.drop_equal_groups) figures_.push_back({"kept_share", kept_share});
  AddTrainingFigures(sampled, scores);
  timings_ = {{"sampling_seconds", generated - begin - totals_.reward_seconds},
              {"reward_seconds", totals_.reward_seconds},
              {"scoring_seconds", SteadySeconds() - generated}};
  ++rollouts_;
  most_rollouts_ = std::max(most_rollouts_, rollouts_);
  epoch_ = 0;
  next_minibatch_ = 0;
  DivideEpochs();
  return absl::OkStatus();
}

// How many prompts a step's data are depends on what was dropped and on where a rollout was left, so what is
// passed over is what this process has ever drawn: a rollout under way is left, and the next one begins
// behind all of them.
absl::Status RlStage::SkipSteps(int64_t) {
  rollout_ = Rollout();
  epoch_ = next_minibatch_ = 0;
  prompts_drawn_ = std::max(prompts_drawn_, most_drawn_);
  rollouts_ = std::max(rollouts_, most_rollouts_);
  return absl::OkStatus();
}

std::map<std::string, std::string> RlStage::SaveState() const {
  std::map<std::string, std::string> state;
  state["prompts"] = prompts_hash_;
  state["cursor"] = absl::StrFormat("%d %d %d %d %.17g %.17g %.17g %.17g %.17g", prompts_drawn_, rollouts_,
                                    epoch_, next_minibatch_, kl_coefficient_, first_reward_, first_length_,
                                    first_accuracy_, last_reward_);
  state["rollout"] = rollout_.SaveState();
  state["forgetting"] = base_.SaveState();
  for (const Metric& metric : figures_) {
    absl::StrAppendFormat(&state["figures"], "%s %.17g\n", metric.name, metric.value);
  }
  return state;
}

absl::Status RlStage::RestoreState(const std::map<std::string, std::string>& state) {
  const auto text = [&](const char* key) {
    const auto found = state.find(key);
    return found == state.end() ? std::string() : found->second;
  };
  if (text("prompts") != prompts_hash_) {
    return InvalidInput(
        "data.examples: the prompts are not those of the checkpoint; restore the files, or start a new "
        "run with init.from");
  }
  const std::vector<std::string> fields = absl::StrSplit(text("cursor"), ' ');
  const bool sound =
      fields.size() == 9 && absl::SimpleAtoi(fields[0], &prompts_drawn_) &&
      absl::SimpleAtoi(fields[1], &rollouts_) && absl::SimpleAtoi(fields[2], &epoch_) &&
      absl::SimpleAtoi(fields[3], &next_minibatch_) && absl::SimpleAtod(fields[4], &kl_coefficient_) &&
      absl::SimpleAtod(fields[5], &first_reward_) && absl::SimpleAtod(fields[6], &first_length_) &&
      absl::SimpleAtod(fields[7], &first_accuracy_) && absl::SimpleAtod(fields[8], &last_reward_);
  if (!sound) return InvalidInput("the checkpoint's cursor of stage rl is damaged: \"%s\"", text("cursor"));
  TANREN_ASSIGN_OR_RETURN(rollout_, Rollout::FromState(text("rollout")));
  base_.RestoreState(text("forgetting"));
  figures_.clear();
  for (const auto& line : absl::StrSplit(text("figures"), '\n', absl::SkipEmpty())) {
    const std::vector<std::string> pair = absl::StrSplit(line, ' ');
    double value = 0;
    if (pair.size() == 2 && absl::SimpleAtod(pair[1], &value)) figures_.push_back({pair[0], value});
  }
  if (!rollout_.answers.empty()) {
    DivideEpochs();
    if (epoch_ >= options_.epochs || next_minibatch_ >= static_cast<int64_t>(minibatches_.size())) {
      return InvalidInput(
          "rl.epochs or rl.minibatches are fewer than the checkpoint's rollout has done; restore them");
    }
  }
  return absl::OkStatus();
}

}  // namespace tanren
