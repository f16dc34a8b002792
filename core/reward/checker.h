// Is an answer right? Checkable rewards and evaluation share these.
#ifndef TANREN_CORE_REWARD_CHECKER_H_
#define TANREN_CORE_REWARD_CHECKER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

struct CheckerOptions {
  enum class Kind {
    kNumeric,  // the extracted answers are equal numbers: 1,000 = 1000.0 = $1000; 1/2 = 0.5; 50% = 50 %;
               // units that both sides have must agree, a unit that one side lacks is forgiven
    kExact,    // equal after trimming white space and, with ignore_case, folding ASCII case
    kRegex,    // PCRE2: the reference is a pattern that must match the whole extracted answer, in which
               // bytes that are not UTF-8 stand as U+FFFD
    kCommand,  // an external program decides, see `command`
  };
  Kind kind = Kind::kNumeric;
  // What of a response is its answer: the rest of the line behind the last occurrence of `marker`. Empty
  // marker: the whole response (kNumeric: its last number). A response without the marker has no answer and
  // is wrong.
  std::string marker = "####";
  bool ignore_case = false;
  double tolerance = 1e-9;  // kNumeric: relative, and absolute below 1

  // kCommand: the program and its arguments, started without a shell, with {"prompt", "response", "answer"}
  // as one JSON line on stdin. Exit code 0: right, 1: wrong; a number on the first line of stdout is the
  // score instead, as it stands: also NaN and infinity, which a caller refuses. A first line that is the JSON
  // object {"scores": {"name": number, ...}} gives several scores beside the exit code, and with
  // {"steps": [number, ...]} one for each line of the response: a process reward. Anything else, more steps
  // than lines, and no end within the limit, is a failure: counted, score 0. It runs with a CPU and memory
  // limit, default signal handling, no inherited file descriptors, and its whole process group is ended at
  // the limit.
  std::vector<std::string> command;
  double time_limit_seconds = 10;
};

struct CheckResult {
  double score = 0;                      // 1 right, 0 wrong; a command may give more or less
  bool right = false;                    // score >= 0.5
  bool failed = false;                   // the checker itself failed: time limit, crash, match limit
  std::string answer;                    // what was extracted, "" when nothing
  std::string failure;                   // why it failed
  std::map<std::string, double> scores;  // that a command gave by name; NaN: not a finite number
  // That a command gave to the first lines; NaN: not a finite number.
  std::optional<std::vector<double>> steps;
};

class Checker {
 public:
  virtual ~Checker() = default;
  // Thread-compatible; never throws, never hangs.
  virtual CheckResult Check(std::string_view prompt, std::string_view response,
                            std::string_view reference) = 0;
};

// InvalidArgument for an empty command or a limit that is not above 0.
absl::StatusOr<std::unique_ptr<Checker>> MakeChecker(const CheckerOptions& options);

// InvalidArgument for a pattern that kRegex cannot use.
absl::Status ValidatePattern(std::string_view pattern);

// The answer part of a response (see CheckerOptions::marker), "" when there is none.
std::string ExtractAnswer(std::string_view response, std::string_view marker);

// A number with its unit. False when `text` is none.
struct Quantity {
  double value = 0;
  std::string unit;  // lower case, "" without; currency signs and % count as units
};
bool ParseQuantity(std::string_view text, Quantity* quantity);

// Are the worked steps of arithmetic right? Every "expression = value" in the text is evaluated (integers and
// decimals,
// + - * / and parentheses; several "=" in a chain; GSM8K's <<48/2=24>> too).
struct StepReport {
  int64_t steps = 0;                // equations found
  int64_t right = 0;                // of them, those that hold
  bool leads_to_answer = false;     // the last step's value is the extracted answer
  std::vector<uint8_t> step_right;  // in order
  std::vector<size_t> step_end;     // byte behind each equation: where a per-step reward belongs
  bool valid() const { return steps > 0 && right == steps && leads_to_answer; }
};
StepReport CheckSteps(std::string_view response, std::string_view marker);

// The byte behind each line of a text, its line feed included; the last line need not have one. None of "".
std::vector<size_t> LineEnds(std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_CHECKER_H_
