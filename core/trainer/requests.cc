#include "core/trainer/requests.h"

#include <algorithm>

#include "core/base/status.h"

namespace tanren {

int64_t GenerationTokens(const std::string& prompt, int64_t max_tokens) {
  // No tokenizer makes more tokens than bytes, but for a begin token and a space in front.
  return static_cast<int64_t>(prompt.size()) + 2 + max_tokens;
}

std::vector<std::vector<int32_t>> DocumentStops(const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> stops;
  for (int32_t id : {tokenizer.roles().end_of_text, tokenizer.roles().eos}) {
    if (id >= 0) stops.push_back({id});
  }
  return stops;
}

absl::StatusOr<GenerationRequest> MakeRequest(const Tokenizer& tokenizer, int64_t sequence_tokens,
                                              const std::string& prompt, int64_t max_tokens,
                                              const kernels::SamplingParams& sampling) {
  const TokenRoles& roles = tokenizer.roles();
  GenerationRequest request;
  TANREN_ASSIGN_OR_RETURN(request.prompt, tokenizer.Encode(prompt));
  if (roles.prepend_bos) request.prompt.insert(request.prompt.begin(), roles.bos);
  if (request.prompt.empty() && roles.end_of_text >= 0) {
    request.prompt.push_back(roles.end_of_text);  // the end of one document is where the next begins
  }
  const int64_t room = sequence_tokens - static_cast<int64_t>(request.prompt.size());
  if (request.prompt.empty()) {
    return InvalidInput("the prompt is empty, and the tokenizer has no token to begin with; give some text");
  }
  if (room < 1) {
    return InvalidInput("a prompt of %d tokens does not fit: at most %d leave room for an answer",
                        request.prompt.size(), sequence_tokens - 1);
  }
  request.max_tokens = std::min(max_tokens, room);
  request.sampling = sampling;
  request.stop = DocumentStops(tokenizer);
  return request;
}

absl::StatusOr<std::string> AnswerText(const Tokenizer& tokenizer, const GenerationResult& result) {
  std::vector<int32_t> ids = result.tokens;
  ids.resize(ids.size() - result.stop_tokens);
  std::erase_if(ids, [&](int32_t id) { return id >= tokenizer.vocab_size(); });
  return tokenizer.Decode(ids);
}

}  // namespace tanren
