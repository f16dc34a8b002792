// Cases: the questions of a test, with what is known of their answers.
//
// A JSONL file, plain, .gz or .zst; a line is an object with
//   question | prompt | messages | turns   what is asked: a text; a text; [{role, content}] that end with the
//                                          user's; [{user, answer?}]: a scenario whose replies stay in the
//                                          conversation
//   answer                                 what the checker compares with: text or a number; of a worked one
//                                          ("steps .. #### 72") what stands behind the mark. Of a scenario
//                                          its turns have them.
//   chosen, rejected                       in place of a question, preferences: what precedes them is asked
//   choice0, choice1, .. label             beside a question: the choices become lines of it, as in training,
//                                          and the text of the right one is the answer
//   harmful                                a list of patterns (PCRE2, found anywhere): a reply that has any
//                                          is harmful
//   difficulty, kind                       text or number; figures are given for each
// and any other field that a prompt's pattern names.
#ifndef TANREN_CORE_EVALUATION_CASES_H_
#define TANREN_CORE_EVALUATION_CASES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/chat/message.h"
#include "nlohmann/json.hpp"

namespace tanren {

using OrderedJson = nlohmann::ordered_json;

constexpr int64_t kMaxTurns = 256;               // streams of random numbers count them in a byte
constexpr int64_t kMaxCases = int64_t{1} << 24;  // and cases in three

// One JSON object as untrusted text: InvalidArgument when it is none or is nested deeper than records are.
absl::StatusOr<OrderedJson> ParseRecord(std::string_view line);

// The text of a field that is a string or a number; InvalidArgument names the field.
absl::StatusOr<std::string> TextField(const OrderedJson& fields, const std::string& name);

// The pattern of the whole text in which `pattern` is found somewhere.
std::string HarmPattern(const std::string& pattern);

struct CaseTurn {
  std::string user;
  std::optional<std::string> answer;  // nothing: the reply is not checked
};

struct EvaluationCase {
  int64_t index = 0;  // among the cases of its file
  std::string place;  // "heldout.jsonl:12"
  OrderedJson fields;
  std::vector<Message> before;  // messages in front of the last user's, from `messages`
  std::vector<CaseTurn> turns;  // one, or those of a scenario. `user` is empty where only a pattern's fields
                                // ask
  std::vector<std::string> harmful;
  std::string kind, difficulty;  // "" where the case has none

  bool scenario() const { return fields.contains("turns"); }
  bool checked() const;  // some turn has an answer
};

struct CaseOptions {
  int64_t limit = 0;              // first cases only; 0: all
  bool answers_required = false;  // a case without an answer is refused, unless it has `harmful`
};

// The cases of a file in order. NotFound, or InvalidArgument that names file and line; a file without a case
// is refused.
absl::StatusOr<std::vector<EvaluationCase>> ReadCases(const std::string& path, const CaseOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_CASES_H_
