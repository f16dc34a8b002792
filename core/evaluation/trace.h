// A trace: what went into every part and what came out, so that one part can be run again alone.
//
//   DIR/TEST/STRATEGY/PART.jsonl   {"case": 3, "turn": 0, "input": {..}, "output": {..}} a line
#ifndef TANREN_CORE_EVALUATION_TRACE_H_
#define TANREN_CORE_EVALUATION_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/evaluation/cases.h"

namespace tanren {

struct TraceLine {
  int64_t case_index = 0;
  int64_t turn = 0;
  OrderedJson input;
  OrderedJson output;
};

// The parts of which traces exist.
inline constexpr const char* kTracedParts[] = {"prompt", "sample", "beam",  "extract",
                                               "check",  "vote",   "select"};
bool NeedsModel(const std::string& part);  // prompt, sample, beam

// Writes under one directory. A trace without a directory writes nothing.
class Trace {
 public:
  explicit Trace(std::string directory) : directory_(std::move(directory)) {}

  bool on() const { return !directory_.empty(); }
  // Removes what an earlier run left of this strategy, so that lines of two runs never mix.
  absl::Status Begin(const std::string& test, const std::string& strategy) const;
  absl::Status Append(const std::string& test, const std::string& strategy, const std::string& part,
                      const std::vector<TraceLine>& lines) const;

 private:
  std::string directory_;
};

struct TracedPart {
  std::string test, strategy, part, path;
};

// The files of a trace that `name` names: a part of every test and strategy ("vote"), or of one
// ("TEST/STRATEGY/vote"). NotFound when there is none, InvalidArgument for a part that does not exist.
absl::StatusOr<std::vector<TracedPart>> FindTracedParts(const std::string& directory,
                                                        const std::string& name);

absl::StatusOr<std::vector<TraceLine>> ReadTrace(const std::string& path);

// What a replay of one file found.
struct ReplayReport {
  int64_t lines = 0;
  int64_t different = 0;
  std::string first;  // the first difference: "case 3, turn 0: traced .., now .."
};
// `outputs`: of the lines, in order.
ReplayReport CompareTrace(const std::vector<TraceLine>& lines, const std::vector<OrderedJson>& outputs);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_TRACE_H_
