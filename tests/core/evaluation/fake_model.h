// A model whose answers are scripted, over the byte tokenizer.
#ifndef TANREN_TESTS_CORE_EVALUATION_FAKE_MODEL_H_
#define TANREN_TESTS_CORE_EVALUATION_FAKE_MODEL_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/evaluation/answer_model.h"
#include "core/evaluation/prompts.h"
#include "core/evaluation/sampling.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "gtest/gtest.h"

namespace tanren {

inline const Tokenizer& Bytes() {
  static const std::unique_ptr<Tokenizer> tokenizer = *MakeByteTokenizer();
  return *tokenizer;
}

inline std::string TextOf(const std::vector<int32_t>& tokens) { return *Bytes().Decode(tokens); }

inline PromptModel BytesPrompts() {
  return PromptModel{&Bytes(), ChatTemplate::Make(ChatTemplateKind::kPlain, Bytes()), "", false};
}

class FakeModel : public AnswerModel {
 public:
  // What the model would write behind a prompt if nothing stopped it; "\x03" ends the turn. `sample` is the
  // number in the request's stream.
  using Script = std::function<std::string(const std::string& prompt, int64_t sample)>;

  explicit FakeModel(Script script) : script_(std::move(script)) {}

  absl::StatusOr<std::vector<GenerationResult>> Continue(
      std::span<const GenerationRequest> requests) override {
    std::vector<GenerationResult> results;
    for (const GenerationRequest& request : requests) {
      EXPECT_LE(static_cast<int64_t>(request.prompt.size()) + request.max_tokens, sequence_tokens());
      EXPECT_GE(request.max_tokens, 1);
      results.push_back(Answer(request));
      streams.push_back(request.sampling.stream_id);
      repetitions.push_back(request.repetition);
    }
    ++calls;
    return results;
  }

  bool can_score() const override { return score != nullptr; }
  absl::StatusOr<std::vector<double>> Score(std::span<const AnswerToScore> answers) override {
    std::vector<double> scores;
    for (const AnswerToScore& answer : answers) scores.push_back(score(TextOf(answer.tokens)));
    return scores;
  }
  bool has_reference() const override { return reference_logp != nullptr; }
  absl::StatusOr<std::vector<double>> ReferenceLogp(std::span<const AnswerToScore> answers) override {
    std::vector<double> sums;
    for (const AnswerToScore& answer : answers) sums.push_back(reference_logp(TextOf(answer.tokens)));
    return sums;
  }
  int64_t sequence_tokens() const override { return context; }

  int64_t context = 1000;
  int64_t calls = 0;
  std::function<double(const std::string& answer)> score;           // null: no reward model
  std::function<double(const std::string& answer)> reference_logp;  // null: no reference model
  std::function<float(char token)> logp = [](char) { return -1; };  // of a byte
  std::vector<uint64_t> streams;
  std::vector<RepetitionOptions> repetitions;

 private:
  GenerationResult Answer(const GenerationRequest& request) const {
    const int64_t sample = static_cast<int64_t>(request.sampling.stream_id & 0xffff);
    GenerationResult result;
    for (const char c : script_(TextOf(request.prompt), sample)) {
      if (static_cast<int64_t>(result.tokens.size()) == request.max_tokens) break;
      result.tokens.push_back(c == '\x03' ? Bytes().roles().end_of_text : static_cast<unsigned char>(c));
      result.logp.push_back(logp(c));
      for (const std::vector<int32_t>& stop : request.stop) {
        if (stop.size() == 1 && stop[0] == result.tokens.back()) {
          result.finish = FinishReason::kStop;
          result.stop_tokens = 1;
          return result;
        }
      }
    }
    return result;
  }

  Script script_;
};

// A question as a prompt of its bytes.
inline Prompt PromptOf(const std::string& text, int64_t case_index = 0) {
  Prompt prompt;
  prompt.case_index = case_index;
  prompt.text = text;
  prompt.tokens = *Bytes().Encode(text);
  return prompt;
}

inline AnswerForm BytesForm() {
  return {&Bytes(), {{Bytes().roles().end_of_text}}, LineEnds(Bytes()), "####"};
}

}  // namespace tanren

#endif  // TANREN_TESTS_CORE_EVALUATION_FAKE_MODEL_H_
