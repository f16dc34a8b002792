// All that a run directory says about a run, for its page. Everything is optional and bounded: what is
// missing stays empty, and what is damaged or too much is passed over with a note.
#ifndef TANREN_CORE_REPORT_RUN_CONTENTS_H_
#define TANREN_CORE_REPORT_RUN_CONTENTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/report/evaluation_log.h"
#include "core/report/metric_series.h"
#include "core/report/summary.h"

namespace tanren {

// A start of the run, from env.json.
struct RunStart {
  std::string time;          // UTC
  int64_t resumed_step = 0;  // it went on after this one
  std::string ranks, threads, host, build;
};

struct LoggedSample {
  int64_t step = 0;
  std::string prompt, completion;
};

struct LoggedWarning {
  int rank = 0;
  char severity = 'W';  // or E
  std::string time, text;
};

struct CheckpointEntry {
  int64_t step = 0;
  bool committed = false;
  int64_t bytes = 0;  // of its files
};

struct RunContents {
  std::string directory;
  bool has_metrics = false;
  RunMetrics metrics;
  std::vector<RunStart> starts;                                  // oldest first
  std::vector<std::pair<std::string, std::string>> environment;  // of the newest start: "machine.cpu", "..."
  std::string config;                                            // resolved.yaml
  std::string stage_text;  // stage.yaml, of a stage without resolved.yaml
  std::vector<LoggedSample> samples;
  int64_t all_samples = 0;
  std::vector<LoggedWarning> warnings;
  int64_t all_warnings = 0;
  std::vector<CheckpointEntry> checkpoints;  // oldest first
  std::vector<EvaluationLog> evaluations;
  std::vector<std::string> notes;  // what was passed over

  // Else its samples.jsonl, if there is one, is that of an evaluation.
  bool is_training() const { return has_metrics || !config.empty(); }

  // What the caller knows better than the directory.
  std::string name, kind, state, detail;
  StageSummary summary;
};

// Reads the run's own files, and the evaluations in it (summary.json and samples.jsonl of a suite,
// *.answers.jsonl) and next to it (NAME.json and NAME.answers.jsonl beside the directory NAME).
RunContents ReadRunContents(const std::string& directory);

// The suite's result in `directory`, named after it; empty() where there is none.
EvaluationLog ReadSuiteResult(const std::string& directory);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_RUN_CONTENTS_H_
