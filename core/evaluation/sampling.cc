#include "core/evaluation/sampling.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/status.h"
#include "core/trainer/requests.h"

namespace tanren {
namespace {

enum Phase { kFirstPhase = 0, kGoesOn = 1, kForced = 2 };

RepetitionOptions RepetitionOf(const config::SampleConfig& config) {
  RepetitionOptions repetition;
  repetition.penalty = static_cast<float>(config.repetition_penalty());
  repetition.no_repeat_ngram = static_cast<int32_t>(config.no_repeat_ngram());
  return repetition;
}

// The samples of one call: which reply each request goes on with.
struct Continuations {
  std::vector<GenerationRequest> requests;
  std::vector<std::pair<size_t, size_t>> replies;  // prompt, reply
};

class Sampler {
 public:
  Sampler(AnswerModel& model, const AnswerForm& form, const config::SampleConfig& config,
          std::span<const Prompt> prompts)
      : model_(model), form_(form), config_(config), prompts_(prompts), out_(prompts.size()) {}

  absl::StatusOr<std::vector<Replies>> Run() {
    Continuations first;
    const int64_t budget = config_.thinking_tokens() > 0
                               ? std::min(config_.thinking_tokens(), config_.max_tokens())
                               : config_.max_tokens();
    for (size_t p = 0; p < prompts_.size(); ++p) {
      out_[p].replies.resize(config_.n());
      for (size_t r = 0; r < out_[p].replies.size(); ++r) Add(p, r, kFirstPhase, budget, &first);
    }
    TANREN_RETURN_IF_ERROR(Continue(first));
    if (config_.thinking_tokens() > 0) TANREN_RETURN_IF_ERROR(Finish());
    return std::move(out_);
  }

 private:
  void Add(size_t p, size_t r, Phase phase, int64_t max_tokens, Continuations* out) const {
    const Reply& reply = out_[p].replies[r];
    GenerationRequest request;
    request.prompt = prompts_[p].tokens;
    request.prompt.insert(request.prompt.end(), reply.tokens.begin(), reply.tokens.end());
    const int64_t room = model_.sequence_tokens() - static_cast<int64_t>(request.prompt.size());
    request.max_tokens = std::min(max_tokens, room);
    if (request.max_tokens < 1) return;
    request.sampling.temperature = static_cast<float>(config_.temperature());
    request.sampling.top_k = static_cast<int32_t>(config_.top_k());
    request.sampling.top_p = static_cast<float>(config_.top_p());
    request.sampling.seed = static_cast<uint64_t>(config_.seed());
    request.sampling.stream_id = StreamOf(prompts_[p], phase, static_cast<int64_t>(r));
    request.repetition = RepetitionOf(config_);
    request.stop = form_.stops;
    out->requests.push_back(std::move(request));
    out->replies.emplace_back(p, r);
  }

  absl::Status Continue(const Continuations& work) {
    if (work.requests.empty()) return absl::OkStatus();
    TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results, model_.Continue(work.requests));
    for (size_t i = 0; i < results.size(); ++i) {
      const auto [p, r] = work.replies[i];
      Reply& reply = out_[p].replies[r];
      reply.tokens.insert(reply.tokens.end(), results[i].tokens.begin(), results[i].tokens.end());
      reply.logp = std::accumulate(results[i].logp.begin(), results[i].logp.end(), reply.logp);
      const int64_t count = static_cast<int64_t>(results[i].tokens.size());
      reply.chosen_tokens += count;
      out_[p].generated_tokens += count;
      TANREN_RETURN_IF_ERROR(SetText(form_, &reply));
    }
    return absl::OkStatus();
  }

  // What has not ended within the budget is made to answer, or goes on where it has begun to.
  absl::Status Finish() {
    TANREN_ASSIGN_OR_RETURN(const std::vector<int32_t> marker,
                            form_.tokenizer->Encode(absl::StrCat("\n", form_.marker, " ")));
    Continuations work;
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (size_t r = 0; r < out_[p].replies.size(); ++r) {
        Reply& reply = out_[p].replies[r];
        if (reply.ended || reply.chosen_tokens < config_.thinking_tokens()) continue;
        if (reply.text.find(form_.marker) != std::string::npos) {
          const int64_t left = config_.max_tokens() - reply.chosen_tokens;
          if (left > 0) Add(p, r, kGoesOn, left, &work);
          continue;
        }
        // Without room for an answer behind the marker the reply stays cut off.
        const size_t length = prompts_[p].tokens.size() + reply.tokens.size() + marker.size();
        if (static_cast<int64_t>(length) >= model_.sequence_tokens()) continue;
        reply.forced = true;
        reply.tokens.insert(reply.tokens.end(), marker.begin(), marker.end());
        TANREN_RETURN_IF_ERROR(SetText(form_, &reply));
        Add(p, r, kForced, config_.answer_tokens(), &work);
      }
    }
    return Continue(work);
  }

  AnswerModel& model_;
  const AnswerForm& form_;
  const config::SampleConfig& config_;
  std::span<const Prompt> prompts_;
  std::vector<Replies> out_;
};

// Asks for a number of each reply and puts it there.
template <class Ask>
absl::Status Judge(std::span<const Prompt> prompts, std::vector<Replies>* replies, double Reply::*field,
                   const Ask& ask) {
  std::vector<AnswerToScore> answers;
  for (size_t p = 0; p < prompts.size(); ++p) {
    for (const Reply& reply : (*replies)[p].replies) answers.push_back({prompts[p].tokens, reply.tokens});
  }
  if (answers.empty()) return absl::OkStatus();
  TANREN_ASSIGN_OR_RETURN(const std::vector<double> numbers, ask(answers));
  size_t next = 0;
  for (Replies& some : *replies) {
    for (Reply& reply : some.replies) reply.*field = numbers[next++];
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::vector<int32_t>> LineEnds(const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> ends;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.DecodeToken(id).ends_with('\n')) ends.push_back({id});
  }
  return ends;
}

uint64_t StreamOf(const Prompt& prompt, int64_t phase, int64_t sample) {
  TANREN_CHECK(prompt.turn < 256 && phase < 65536 && sample < 65536);
  return static_cast<uint64_t>(prompt.case_index) << 40 | static_cast<uint64_t>(prompt.turn) << 32 |
         static_cast<uint64_t>(phase) << 16 | static_cast<uint64_t>(sample);
}

absl::Status SetText(const AnswerForm& form, Reply* reply) {
  GenerationResult result;
  result.tokens = reply->tokens;
  for (const std::vector<int32_t>& stop : form.stops) {
    const bool ends =
        stop.size() <= result.tokens.size() && std::equal(stop.rbegin(), stop.rend(), result.tokens.rbegin());
    if (ends) result.stop_tokens = std::max(result.stop_tokens, static_cast<int32_t>(stop.size()));
  }
  reply->ended = result.stop_tokens > 0;
  TANREN_ASSIGN_OR_RETURN(reply->text, AnswerText(*form.tokenizer, result));
  return absl::OkStatus();
}

bool DrawsFromModel(const config::SampleConfig& config) {
  return config.temperature() == 1 && config.top_k() == 0 && config.top_p() == 1 &&
         config.thinking_tokens() == 0 && !RepetitionOf(config).on();
}

absl::Status ScoreReplies(AnswerModel& model, std::span<const Prompt> prompts,
                          std::vector<Replies>* replies) {
  if (!model.can_score()) return absl::OkStatus();
  return Judge(prompts, replies, &Reply::score,
               [&](std::span<const AnswerToScore> answers) { return model.Score(answers); });
}

absl::StatusOr<std::vector<Replies>> SampleReplies(AnswerModel& model, const AnswerForm& form,
                                                   const config::SampleConfig& config,
                                                   std::span<const Prompt> prompts) {
  TANREN_ASSIGN_OR_RETURN(std::vector<Replies> replies, Sampler(model, form, config, prompts).Run());
  TANREN_RETURN_IF_ERROR(ScoreReplies(model, prompts, &replies));
  if (!model.has_reference() || !DrawsFromModel(config)) return replies;
  TANREN_RETURN_IF_ERROR(
      Judge(prompts, &replies, &Reply::reference_logp,
            [&](std::span<const AnswerToScore> answers) { return model.ReferenceLogp(answers); }));
  return replies;
}

}  // namespace tanren
