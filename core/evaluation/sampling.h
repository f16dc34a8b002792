// The parts that need a model: answers drawn side by side, and answers searched for line by line.
//
// Random numbers come from (seed, stream, position), and a stream is a function of case, turn, phase and
// number of the sample alone: the first n of many samples are the n samples of a smaller run.
#ifndef TANREN_CORE_EVALUATION_SAMPLING_H_
#define TANREN_CORE_EVALUATION_SAMPLING_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/answer_model.h"
#include "core/evaluation/parts.h"
#include "core/proto/suite.pb.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

// How answers end and what a forced answer is forced with.
struct AnswerForm {
  const Tokenizer* tokenizer = nullptr;
  std::vector<std::vector<int32_t>> stops;      // token sequences that end an answer
  std::vector<std::vector<int32_t>> line_ends;  // tokens that end a line, for beams: see LineEnds
  std::string marker;                           // the answer stands behind it
};

// Every token of the vocabulary whose text ends a line, "\n" itself and longer ones alike.
std::vector<std::vector<int32_t>> LineEnds(const Tokenizer& tokenizer);

uint64_t StreamOf(const Prompt& prompt, int64_t phase, int64_t sample);

// `n` replies to each prompt, in its order. Prompts leave room for at least one token; an answer is cut to
// the room that there is.
//
// thinking_tokens (budget forcing, Muennighoff et al. 2025, arXiv 2501.19393): a reply that has used them up
// and has no marker goes on behind "\n" and the marker, for up to answer_tokens; one that has its marker by
// then goes on to max_tokens as if there were no budget.
absl::StatusOr<std::vector<Replies>> SampleReplies(AnswerModel& model, const AnswerForm& form,
                                                   const config::SampleConfig& config,
                                                   std::span<const Prompt> prompts);

// Step-level beam search (Snell et al. 2024, arXiv 2408.03314, section 5): partial answers are extended line
// by line, `samples` lines drawn for each; of the distinct results and the finished answers the best `width`
// are kept, by summed log-probability or by the reward model's score of what is there. The replies are the
// last kept ones, the best first.
absl::StatusOr<std::vector<Replies>> SearchReplies(AnswerModel& model, const AnswerForm& form,
                                                   const config::BeamConfig& config,
                                                   std::span<const Prompt> prompts);

// Whether replies are drawn from the model's own distribution, as it is: then the mean of logp -
// reference_logp over them is an unbiased estimate of the KL divergence from a reference model, of an answer,
// in nats.
bool DrawsFromModel(const config::SampleConfig& config);

// Fills the scores of all replies, where the model can.
absl::Status ScoreReplies(AnswerModel& model, std::span<const Prompt> prompts, std::vector<Replies>* replies);

// The reply's text from its tokens, without the sequence of `stops` that ends them; sets `ended` if one does.
absl::Status SetText(const AnswerForm& form, Reply* reply);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_SAMPLING_H_
