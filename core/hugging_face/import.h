// From a model directory of Hugging Face's to a checkpoint of Tanren's.
#ifndef TANREN_CORE_HUGGING_FACE_IMPORT_H_
#define TANREN_CORE_HUGGING_FACE_IMPORT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

struct HfImportOptions {
  std::string model = "policy";                   // the model's name in the checkpoint
  std::function<void(int64_t bytes)> on_written;  // called with the tensor bytes written since the last call
};

struct HfImportReport {
  std::string path;
  std::string family;
  int64_t tensors = 0;
  int64_t parameters = 0;
  std::vector<std::string> notes;  // what was passed over, to be shown
};

// Writes the step directory `out` (its parents are made) with the weights of the model in `directory`, in
// fp32, the model section of its config, and the tokenizer's files that lie beside it. Committed by the
// protocol of a save: after an error there is no `out`. AlreadyExists when `out` holds something else. Memory
// is some tens of MiB, whatever the model's size.
absl::StatusOr<HfImportReport> ImportHuggingFace(const std::string& directory, const std::string& out,
                                                 const HfImportOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_IMPORT_H_
