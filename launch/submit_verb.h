// tanren submit: a pipeline's stages, one after the other, as jobs of a cluster or here.
#ifndef TANREN_LAUNCH_SUBMIT_VERB_H_
#define TANREN_LAUNCH_SUBMIT_VERB_H_

#include <string>
#include <vector>

namespace tanren {

struct SubmitOptions {
  std::string pipeline;
  std::vector<std::string> overrides;  // key=value on the pipeline
  bool print = false;                  // show the scripts; write, submit and run nothing
  bool local = false;                  // run the stages here
  std::vector<std::string> redo;       // stages that begin again, with all that come after them
  std::vector<std::string> keep;       // stages whose other settings are accepted
};

// Everything is checked before the first stage begins; stages that have finished are left alone. Exit code 0:
// submitted or, with --local, all finished; 2: wrong input; 75: stopped by a signal, saved; else that of the
// stage, or of the scheduler, that failed.
int Submit(const SubmitOptions& options);

// `tanren config schema|table --pipeline`.
int PipelineSchema();
int PipelineTable();

}  // namespace tanren

#endif  // TANREN_LAUNCH_SUBMIT_VERB_H_
