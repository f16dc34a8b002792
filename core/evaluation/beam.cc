// Step-level beam search.
#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "core/base/status.h"
#include "core/evaluation/sampling.h"

namespace tanren {
namespace {

// Partial answers compete with finished ones by this.
struct Beam {
  Reply reply;
  bool done = false;  // ended, or out of room
};

class BeamSearch {
 public:
  BeamSearch(AnswerModel& model, const AnswerForm& form, const config::BeamConfig& config,
             std::span<const Prompt> prompts)
      : model_(model),
        form_(form),
        config_(config),
        prompts_(prompts),
        beams_(prompts.size()),
        generated_(prompts.size(), 0) {}

  absl::StatusOr<std::vector<Replies>> Run() {
    for (std::vector<Beam>& beams : beams_) beams.resize(1);
    for (int64_t step = 0; step < config_.max_steps(); ++step) {
      TANREN_ASSIGN_OR_RETURN(const bool went_on, Extend(step));
      if (!went_on) break;
    }
    std::vector<Replies> out(prompts_.size());
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (Beam& beam : beams_[p]) out[p].replies.push_back(std::move(beam.reply));
      out[p].generated_tokens = generated_[p];
    }
    return out;
  }

 private:
  int64_t Room(size_t p, const Reply& reply) const {
    const int64_t room = model_.sequence_tokens() - static_cast<int64_t>(prompts_[p].tokens.size());
    return std::min(room, config_.max_tokens()) - static_cast<int64_t>(reply.tokens.size());
  }

  GenerationRequest RequestFor(size_t p, size_t beam, int64_t step, int64_t sample) const {
    const Reply& reply = beams_[p][beam].reply;
    GenerationRequest request;
    request.prompt = prompts_[p].tokens;
    request.prompt.insert(request.prompt.end(), reply.tokens.begin(), reply.tokens.end());
    request.max_tokens = Room(p, reply);
    request.sampling.temperature = static_cast<float>(config_.temperature());
    request.sampling.top_k = static_cast<int32_t>(config_.top_k());
    request.sampling.top_p = static_cast<float>(config_.top_p());
    request.sampling.seed = static_cast<uint64_t>(config_.seed());
    request.sampling.stream_id =
        StreamOf(prompts_[p], step, static_cast<int64_t>(beam) * config_.samples() + sample);
    request.stop = form_.stops;
    request.stop.insert(request.stop.end(), form_.line_ends.begin(), form_.line_ends.end());
    return request;
  }

  // One line more for every unfinished beam of every prompt, all in one call. False when there is none.
  absl::StatusOr<bool> Extend(int64_t step) {
    std::vector<GenerationRequest> requests;
    std::vector<std::pair<size_t, size_t>> from;  // prompt, beam
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (size_t b = 0; b < beams_[p].size(); ++b) {
        if (beams_[p][b].done) continue;
        for (int64_t s = 0; s < config_.samples(); ++s) {
          requests.push_back(RequestFor(p, b, step, s));
          from.emplace_back(p, b);
        }
      }
    }
    if (requests.empty()) return false;
    TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results, model_.Continue(requests));
    std::vector<std::vector<Beam>> next(prompts_.size());
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (const Beam& beam : beams_[p]) {
        if (beam.done) next[p].push_back(beam);
      }
    }
    for (size_t i = 0; i < results.size(); ++i) {
      const auto [p, b] = from[i];
      TANREN_ASSIGN_OR_RETURN(Beam child, ChildOf(p, beams_[p][b], results[i]));
      generated_[p] += static_cast<int64_t>(results[i].tokens.size());
      next[p].push_back(std::move(child));
    }
    TANREN_RETURN_IF_ERROR(Keep(std::move(next)));
    return true;
  }

  absl::StatusOr<Beam> ChildOf(size_t p, const Beam& parent, const GenerationResult& result) const {
    Beam child = parent;
    Reply& reply = child.reply;
    reply.tokens.insert(reply.tokens.end(), result.tokens.begin(), result.tokens.end());
    reply.logp = std::accumulate(result.logp.begin(), result.logp.end(), reply.logp);
    reply.chosen_tokens = static_cast<int64_t>(reply.tokens.size());
    TANREN_RETURN_IF_ERROR(SetText(form_, &reply));
    child.done = reply.ended || Room(p, reply) < 1;
    return child;
  }

  // The best of the distinct candidates become the beams.
  absl::Status Keep(std::vector<std::vector<Beam>> candidates) {
    for (std::vector<Beam>& some : candidates) {
      std::set<std::vector<int32_t>> seen;
      std::erase_if(some, [&](const Beam& beam) { return !seen.insert(beam.reply.tokens).second; });
    }
    const bool by_reward = config_.score() == config::BeamConfig::reward;
    if (by_reward) TANREN_RETURN_IF_ERROR(Score(&candidates));
    for (size_t p = 0; p < candidates.size(); ++p) {
      std::ranges::stable_sort(candidates[p], [&](const Beam& a, const Beam& b) {
        return by_reward ? a.reply.score > b.reply.score : a.reply.logp > b.reply.logp;
      });
      if (static_cast<int64_t>(candidates[p].size()) > config_.width()) candidates[p].resize(config_.width());
    }
    beams_ = std::move(candidates);
    return absl::OkStatus();
  }

  absl::Status Score(std::vector<std::vector<Beam>>* candidates) {
    std::vector<AnswerToScore> answers;
    for (size_t p = 0; p < candidates->size(); ++p) {
      for (const Beam& beam : (*candidates)[p]) answers.push_back({prompts_[p].tokens, beam.reply.tokens});
    }
    TANREN_ASSIGN_OR_RETURN(const std::vector<double> scores, model_.Score(answers));
    size_t next = 0;
    for (std::vector<Beam>& some : *candidates) {
      for (Beam& beam : some) beam.reply.score = scores[next++];
    }
    return absl::OkStatus();
  }

  AnswerModel& model_;
  const AnswerForm& form_;
  const config::BeamConfig& config_;
  std::span<const Prompt> prompts_;
  std::vector<std::vector<Beam>> beams_;  // of each prompt, the best first
  std::vector<int64_t> generated_;
};

}  // namespace

absl::StatusOr<std::vector<Replies>> SearchReplies(AnswerModel& model, const AnswerForm& form,
                                                   const config::BeamConfig& config,
                                                   std::span<const Prompt> prompts) {
  TANREN_ASSIGN_OR_RETURN(std::vector<Replies> replies, BeamSearch(model, form, config, prompts).Run());
  TANREN_RETURN_IF_ERROR(ScoreReplies(model, prompts, &replies));
  return replies;
}

}  // namespace tanren
