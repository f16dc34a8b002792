// From the examples of a config to units of tokens.
#ifndef TANREN_STAGES_COMMON_EXAMPLE_UNITS_H_
#define TANREN_STAGES_COMMON_EXAMPLE_UNITS_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/chat/chat_template.h"
#include "core/data/batch.h"
#include "core/examples/example.h"
#include "core/examples/read_examples.h"
#include "core/tokenizer/tokenizer.h"
#include "stages/common/unit_source.h"

namespace tanren {

namespace config {
class Config;
}

// `chat.template` of the config.
absl::StatusOr<ChatTemplate> ChatTemplateFromConfig(const config::Config& config, const Tokenizer& tokenizer);

// What became of the records of a file.
struct UnitReport {
  std::string path;
  ExampleReport read;
  int64_t units = 0;
  int64_t segments = 0;
  int64_t tokens = 0;
  int64_t trained_tokens = 0;
  // Examples that are no use to the stage, by reason: "no trained token", "longer than the context", ...
  struct Dropped {
    int64_t count = 0;
    std::string first;  // file:line
  };
  std::map<std::string, Dropped> dropped;
  int64_t unused_weights = 0;  // records with a weight, in a stage that knows none
  // Of the units whose record has a margin.
  struct Margins {
    int64_t count = 0;
    int64_t below_zero = 0;
    double sum = 0, least = 0, most = 0;
    std::string unused_by;  // what reads no margins, as "preference.loss dpo"; "" where they are read
    void Add(double margin);
  };
  Margins margins;
  std::string ToString() const;
};

// Makes the unit of one example. An error of code InvalidArgument leaves the example out and is counted by
// its message, which is a short reason without the example's own text.
using MakeUnit = std::function<absl::Status(const Example& example, Unit* unit)>;

// What stands for the examples of a file when units are made; empty: they themselves.
using ExpandExamples = std::function<std::vector<Example>(std::vector<Example>)>;

// Reads the files of data.examples, or of data.validation_examples with `validation`, and makes units.
// Examples whose units exceed the context or the micro-batch are left out and counted. InvalidArgument names
// the key and the file where nothing is left, or where more than data.max_damaged of the lines are of no use;
// with batch.oversize: drop those that are too long do not count as such.
absl::StatusOr<std::vector<UnitSet>> ReadUnits(const config::Config& config, bool validation,
                                               const MakeUnit& make, std::vector<UnitReport>* reports,
                                               const ExpandExamples& expand = {});

// The prompt of an example as messages, chat.system in front where it has no system message of its own.
std::vector<Message> PromptMessages(const config::Config& config, const Example& example);

// Adds a segment of the conversation to a unit: position t predicts token t + 1 and is trained where that
// token is. With `whole` the last token is an input too, without a target: a reward model scores there.
void AddSegment(const RenderedConversation& conversation, bool whole, Unit* unit);

// The conversation of prompt and one response, rendered for training; only the response is trained, unless
// the prompt's own assistant turns are (`earlier_turns`).
absl::StatusOr<RenderedConversation> RenderResponse(const ChatTemplate& chat, std::vector<Message> prompt,
                                                    const std::string& response, bool earlier_turns);

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_EXAMPLE_UNITS_H_
