// `tanren ckpt import-hf` and `tanren ckpt export-hf`.
#ifndef TANREN_LAUNCH_HF_VERBS_H_
#define TANREN_LAUNCH_HF_VERBS_H_

#include <iostream>
#include <ostream>
#include <string>

namespace tanren {

struct ImportHfOptions {
  std::string directory;         // Hugging Face's: config.json, *.safetensors
  std::string out;               // step directory to write
  std::string model = "policy";  // the model's name in the checkpoint
};

struct ExportHfOptions {
  std::string step_directory;
  std::string out;                // directory to write, which must not be there
  std::string model;              // empty: the checkpoint's only one
  std::string dtype = "float32";  // or bfloat16
};

// Each returns the exit code: 0; 2 for wrong input, 1 for what failed on the way (a full disk), with the
// reason on `errors`. One process, no MPI. Plugins that the checkpoint's config names must be loaded before.
// Progress goes to `errors` when it is a terminal.
int ImportHf(const ImportHfOptions& options, std::ostream& out = std::cout, std::ostream& errors = std::cerr);
int ExportHf(const ExportHfOptions& options, std::ostream& out = std::cout, std::ostream& errors = std::cerr);

}  // namespace tanren

#endif  // TANREN_LAUNCH_HF_VERBS_H_
