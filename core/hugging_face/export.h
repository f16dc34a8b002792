// From a checkpoint of Tanren's to a model directory of Hugging Face's.
#ifndef TANREN_CORE_HUGGING_FACE_EXPORT_H_
#define TANREN_CORE_HUGGING_FACE_EXPORT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/reader.h"
#include "kernels/types.h"

namespace tanren {

struct HfExportOptions {
  std::string model;                              // empty: the checkpoint's only model
  DType dtype = DType::kF32;                      // kF32, or kBF16 (rounded to nearest even)
  std::function<void(int64_t bytes)> on_written;  // called with the tensor bytes written since the last call
};

struct HfExportReport {
  std::string path;
  std::string family;
  int64_t tensors = 0;
  int64_t bytes = 0;  // of tensor data
  std::vector<std::string> notes;
};

// Writes the new directory `out` (its parents are made): config.json, model.safetensors with whole tensors
// under the family's names, generation_config.json where the tokenizer says what ends a generation, and the
// tokenizer's files. It appears complete and on the disk, or not at all. AlreadyExists when there is
// something called `out`. InvalidArgument names what the family cannot hold. Memory is twice the largest
// tensor.
absl::StatusOr<HfExportReport> ExportHuggingFace(const CheckpointReader& reader, const std::string& out,
                                                 const HfExportOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_EXPORT_H_
