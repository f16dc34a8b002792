// A person at a terminal who ranks answers, or calls them good or bad.
#ifndef TANREN_LAUNCH_ANNOTATE_SESSION_H_
#define TANREN_LAUNCH_ANNOTATE_SESSION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launch/annotation_file.h"
#include "launch/sample_groups.h"

namespace tanren {

struct SessionOptions {
  bool labels = false;  // good or bad, answer by answer; else a ranking of all answers to a prompt
  std::string annotator;
  uint64_t seed = 1;         // of the order in which the answers to a prompt are shown
  bool shuffle = true;       // false: in the order of the samples
  bool show_models = false;  // false: blind, who wrote an answer is not shown
};

struct SessionCounts {
  int64_t before = 0;   // decisions that were in the file already
  int64_t decided = 0;  // in this session, without those taken back
  int64_t skipped = 0;
  int64_t left = 0;       // not decided, skipped ones included
  int64_t too_small = 0;  // prompts left out: fewer than two different answers (rankings only)
  int64_t repeated = 0;   // left out: the same prompt with the same answers stands in the samples twice
};

// Asks on standard output, reads lines from standard input (a terminal or a pipe) and appends every decision
// to `file` at once, until the person ends the session or the input does. What the file holds already is not
// asked again; what is skipped is, in another session. What cannot be understood is explained and asked
// again. An error only where the samples have nothing to ask about, a prompt has more answers than letters,
// or the file cannot be written.
absl::Status Annotate(const SessionOptions& options, const std::vector<SampleGroup>& groups,
                      AnnotationFile& file, SessionCounts* counts);

}  // namespace tanren

#endif  // TANREN_LAUNCH_ANNOTATE_SESSION_H_
