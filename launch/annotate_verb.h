// tanren annotate: preferences between sampled answers, for preference training and reward models.
#ifndef TANREN_LAUNCH_ANNOTATE_VERB_H_
#define TANREN_LAUNCH_ANNOTATE_VERB_H_

#include <cstdint>
#include <string>

namespace tanren {

struct AnnotateOptions {
  std::string samples;  // JSONL: {"prompt", "responses": [...], ...}
  std::string out;      // --out: JSONL of {"prompt", "responses", "ranking", ...}, or of labels
  std::string judge;    // --judge: "arithmetic"; empty: a person at the terminal
  bool force = false;   // --force: replace the output of a judge

  // Of a person.
  bool labels = false;       // --labels: {"prompt", "completion", "label"}, good or bad
  std::string annotator;     // --annotator: stored with every decision
  uint64_t seed = 1;         // --seed: of the order in which answers are shown
  bool shuffle = true;       // --no-shuffle
  bool show_models = false;  // --show-models: not blind
};

// With a judge: ranks the distinct responses of every line and writes those with a preference, all lines or
// none. With a person: asks about every line, and appends what is decided at once (annotate_session.h).
// Prints what it counted. Exit code 0, 2 for wrong input, 1 where the output cannot be written.
int Annotate(const AnnotateOptions& options);

struct AgreementOptions {
  std::string first;
  std::string second;
};

// Prints how far two files of rankings, or of labels, of the same answers agree. Exit code 0 or 2.
int AnnotateAgreement(const AgreementOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_ANNOTATE_VERB_H_
