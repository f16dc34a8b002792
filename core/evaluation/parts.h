// The parts of a strategy: what each takes, what it makes, and those of them that need no model.
//
//   prompt    Question -> Prompt
//   sample    Prompt   -> Replies          (sampling.h)
//   beam      Prompt   -> Replies          (sampling.h)
//   extract   ReplyTexts -> Answers
//   check     Checkable  -> Verdicts
//   vote      Ballot   -> Choice
//   select    Ballot   -> Choice
//
// Every type is a value that becomes JSON and comes back equal (but for bytes that are not UTF-8, which JSON
// cannot hold and which are replaced): a trace of inputs and outputs can be run again, part by part.
#ifndef TANREN_CORE_EVALUATION_PARTS_H_
#define TANREN_CORE_EVALUATION_PARTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/chat/message.h"
#include "core/evaluation/cases.h"
#include "core/evaluation/suite.h"
#include "core/reward/checker.h"

namespace tanren {

// What one turn of a case asks, with the conversation before it.
struct Question {
  int64_t case_index = 0;
  int64_t turn = 0;
  std::vector<Message> before;
  std::string text;
  OrderedJson fields;  // of the case, for a pattern
};

struct Prompt {
  int64_t case_index = 0;
  int64_t turn = 0;
  std::string text;  // for people and checkers: the user's message, or the filled pattern
  bool chat = false;
  std::vector<int32_t> tokens;
};

struct Reply {
  std::vector<int32_t> tokens;  // with the end of turn
  std::string text;             // without it
  double logp = 0;              // summed over the tokens that the model chose, at the sampling temperature
  int64_t chosen_tokens = 0;    // their number; less than tokens.size() where a marker was appended
  bool ended = false;           // by itself, else cut off
  bool forced = false;          // a marker was appended
  double score = 0;             // the reward model's, normalised; 0 without one
  double reference_logp = 0;    // the reference model's, summed over the tokens; 0 where it was not asked

  double mean_logp() const { return chosen_tokens > 0 ? logp / static_cast<double>(chosen_tokens) : 0; }
};

struct Replies {
  std::vector<Reply> replies;    // of a beam search the best first
  int64_t generated_tokens = 0;  // with what was thrown away
};

struct ReplyTexts {
  std::vector<std::string> texts;
};

struct Answers {
  std::vector<std::string> answers;  // "" for a reply that has none
};

struct Checkable {
  std::string prompt;
  std::optional<std::string> reference;  // nothing: only harm is checked
  std::vector<std::string> harmful;      // patterns
  std::vector<std::string> texts;
  std::vector<std::string> answers;
};

struct Verdict {
  bool right = false;
  bool steps_valid = false;  // right, and every worked step is right and they lead to the answer
  bool harmful = false;      // or nobody knows: harm_failed
  bool failed = false;       // a checker itself failed, of the answer or of harm
  bool harm_failed = false;  // a judgement of harm failed
  std::string failure;
};

struct Verdicts {
  std::vector<Verdict> verdicts;
};

struct Ballot {
  std::vector<std::string> answers;
  std::vector<double> mean_logps;
  std::vector<double> scores;
};

struct Choice {
  int64_t reply = -1;  // -1: there was none to choose from
};

// `marker` as CheckerOptions has it; for numbers an empty one takes the last number of the text.
Answers Extract(const std::string& marker, bool numeric, const ReplyTexts& input);

// The checkers of one strategy. A program is run with its time limit; what hangs is a failed verdict.
class AnswerChecker {
 public:
  // InvalidArgument as MakeChecker.
  static absl::StatusOr<AnswerChecker> Make(const config::CheckConfig& check,
                                            const config::HarmfulConfig& harmful);
  Verdicts Check(const Checkable& input) const;
  bool judges_harm() const { return harmful_ != nullptr; }  // of every reply, by a program

 private:
  void CheckAnswer(const Checkable& input, size_t index, Verdict* verdict) const;
  void CheckHarm(const Checkable& input, size_t index, Verdict* verdict) const;

  bool external_ = false;
  std::string marker_;
  std::unique_ptr<Checker> checker_;  // null: answers are not checked
  std::unique_ptr<Checker> pattern_;
  std::unique_ptr<Checker> harmful_;  // null without a program
};

// Ties go to the reply that came first.
Choice Vote(Strategy::Choice by, const Ballot& input);
Choice Select(Strategy::Choice by, const Ballot& input);
Choice Choose(Strategy::Choice by, const Ballot& input);  // whichever of the two it is

OrderedJson ToJson(const Question& value);
OrderedJson ToJson(const Prompt& value);
OrderedJson ToJson(const Replies& value);
OrderedJson ToJson(const ReplyTexts& value);
OrderedJson ToJson(const Answers& value);
OrderedJson ToJson(const Checkable& value);
OrderedJson ToJson(const Verdicts& value);
OrderedJson ToJson(const Ballot& value);
OrderedJson ToJson(const Choice& value);

// InvalidArgument for JSON that the type did not become.
absl::Status FromJson(const OrderedJson& json, Question* value);
absl::Status FromJson(const OrderedJson& json, Prompt* value);
absl::Status FromJson(const OrderedJson& json, Replies* value);
absl::Status FromJson(const OrderedJson& json, ReplyTexts* value);
absl::Status FromJson(const OrderedJson& json, Answers* value);
absl::Status FromJson(const OrderedJson& json, Checkable* value);
absl::Status FromJson(const OrderedJson& json, Verdicts* value);
absl::Status FromJson(const OrderedJson& json, Ballot* value);
absl::Status FromJson(const OrderedJson& json, Choice* value);

// One line; bytes that are not UTF-8 are replaced.
std::string DumpJson(const OrderedJson& json);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_PARTS_H_
