// tanren annotate: preferences between sampled answers, for preference training and reward models.
#ifndef TANREN_LAUNCH_ANNOTATE_VERB_H_
#define TANREN_LAUNCH_ANNOTATE_VERB_H_

#include <string>

namespace tanren {

struct AnnotateOptions {
  std::string samples;  // JSONL: {"prompt", "answer", "responses": [...], ...}
  std::string judge;    // --judge: "arithmetic"
  std::string out;      // --out: JSONL of {"prompt", "responses", "ranking", ...}
  bool force = false;   // --force: replace the output
};

// Ranks the distinct responses of every line and writes those with a preference, all lines or none. Prints
// what it counted. Exit code 0 or 2.
int Annotate(const AnnotateOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_ANNOTATE_VERB_H_
