// One record of a post-training data set, whatever its file called its fields.
#ifndef TANREN_CORE_EXAMPLES_EXAMPLE_H_
#define TANREN_CORE_EXAMPLES_EXAMPLE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/chat/message.h"

namespace tanren {

// Recognised by the fields of a record; in this order where several fit.
enum class ExampleFormat {
  kRanking,           // prompt, responses [..], ranking [..], margin?: see Example::ranks
  kPreference,        // prompt?, chosen, rejected (strings, or lists of messages that share their beginning),
                      // margin?; or HH's strings, see below
  kLabelled,          // prompt, completion, label: true/false, 1/0, "good"/"bad"
  kReferences,        // prompt, completions [..]: several right answers of one instruction
  kMessages,          // messages [{role, content}] (also "conversations" with from/value)
  kPromptCompletion,  // prompt, completion, answer?
  kAlpaca,  // instruction, input?, output (also: seed_tasks' instances [{input, output}]: several references)
  kAnswer,  // prompt or question, answer (checkable), without a completion
  kText,    // text
};
const char* NameOf(ExampleFormat format);
// InvalidArgument for a name that is none, with those that are. "by_content" is nothing: recognised record by
// record.
absl::StatusOr<std::optional<ExampleFormat>> ExampleFormatByName(std::string_view name);

// prompt fields: "prompt" (a string, or a list of messages) or "question"; a string becomes one user message.
// completion fields: "completion" or "response". Everywhere: weight? (number >= 0), system? (string), id?,
// kind?, difficulty?, answer? (string or number).
//
// Published sets that need a word:
//   Anthropic HH    chosen and rejected are strings "\n\nHuman: ..\n\nAssistant: .." without a prompt: they
//   are split into
//                   messages, the last assistant's one is the response, what is before it must be the same in
//                   both.
//   GSM8K           question and an answer with steps and "#### 72": kPromptCompletion, responses[0] the
//   whole text,
//                   `answer` what is behind "####". Read as kAnswer it has the latter only.
//   JCommonsenseQA  question, choice0 .. and label, an index: kPromptCompletion; the choices are lines of the
//   prompt. T0              a completion's final "<|endoftext|>" is cut: the template ends the turn. A
//   completion of
//                   nothing else is an empty answer that is meant; without the mark an empty answer is
//                   damage.
// A field that is null counts as missing.
struct Example {
  ExampleFormat format = ExampleFormat::kText;
  // What is given. kMessages: all messages up to the last trained assistant one, whose content is
  // responses[0]; messages behind it are dropped; earlier assistant turns stay here with `trained` as the
  // data say (default true). kText: empty.
  std::vector<Message> prompt;
  // kText: the text. kPreference: chosen, rejected. kRanking: as in the record. Others: one or more right
  // answers.
  std::vector<std::string> responses;
  // kRanking: rank of each response, 1 the best, equal ranks are ties. In the file `ranking` is either the
  // same (a list of numbers as long as responses) or a text "B > A = C" with letters for the responses in
  // order; of responses with the same text and rank the first stays. kPreference: {1, 2}.
  std::vector<int32_t> ranks;
  std::string answer;  // checkable, "" when there is none
  bool label = false;  // kLabelled: good
  double weight = 1;
  double margin = 0;  // kPreference, kRanking: by how much the better of two should win; finite as a float
  std::string kind, difficulty, id;
  std::string source;  // "file:line"
};

}  // namespace tanren

#endif  // TANREN_CORE_EXAMPLES_EXAMPLE_H_
