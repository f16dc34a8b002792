// Between text and generation: the one path by which a prompt becomes tokens and an answer becomes text.
#ifndef TANREN_CORE_TRAINER_REQUESTS_H_
#define TANREN_CORE_TRAINER_REQUESTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

// Tokens that a prompt of these bytes and an answer may take: what to plan generation for.
int64_t GenerationTokens(const std::string& prompt, int64_t max_tokens);

// Token sequences that end a document: the tokenizer's end-of-text tokens, none where it has none.
std::vector<std::vector<int32_t>> DocumentStops(const Tokenizer& tokenizer);

// A request that begins as the model's documents do and stops at DocumentStops. The
// answer is cut to what `sequence_tokens` leaves after the prompt. InvalidArgument when the prompt does not
// encode, is empty and has no begin token, or leaves no room.
absl::StatusOr<GenerationRequest> MakeRequest(const Tokenizer& tokenizer, int64_t sequence_tokens,
                                              const std::string& prompt, int64_t max_tokens,
                                              const kernels::SamplingParams& sampling);

// The answer's text, without the tokens that ended it. Ids that the model has beyond the tokenizer's
// vocabulary have no text.
absl::StatusOr<std::string> AnswerText(const Tokenizer& tokenizer, const GenerationResult& result);

}  // namespace tanren

#endif  // TANREN_CORE_TRAINER_REQUESTS_H_
