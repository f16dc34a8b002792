// config.json of Hugging Face's models <-> the decoder's shape.
#ifndef TANREN_CORE_HUGGING_FACE_CONFIG_H_
#define TANREN_CORE_HUGGING_FACE_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/hugging_face/family.h"
#include "core/model/shape.h"
#include "kernels/types.h"

namespace tanren {

struct HfConfig {
  ModelShape shape;
  const HfFamily* family = nullptr;
  std::vector<std::string> unknown;  // keys that Tanren does not know, which are ignored: to be shown
};

// Reads the text of a config.json; `place` is its path for messages. Both forms of rotary settings are read:
// rope_theta with rope_scaling, and the rope_parameters of transformers 5. A key that is absent has the
// default of transformers. InvalidArgument has one line for each setting that cannot be computed or is wrong.
absl::StatusOr<HfConfig> ReadHfConfig(std::string_view text, const std::string& place);

struct HfConfigOptions {
  DType dtype = DType::kF32;  // of the weights beside it
  int64_t bos = -1;           // -1: none
  int64_t eos = -1;
};
// The text of a config.json that ReadHfConfig, and transformers, reads as this shape. The family is the
// shape's; for "custom" the first that has all its switches. InvalidArgument names the settings that a family
// lacks.
absl::StatusOr<std::string> WriteHfConfig(const ModelShape& shape, const HfConfigOptions& options,
                                          const HfFamily** family);

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_CONFIG_H_
