// Between the model section of a config and the decoder's shape.
#ifndef TANREN_CORE_MODEL_CONFIG_SHAPE_CONFIG_H_
#define TANREN_CORE_MODEL_CONFIG_SHAPE_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/shape.h"

namespace tanren {

namespace config {
class ModelConfig;
}  // namespace config

// The shape with every derived size filled in: kv_heads, head_dim and mlp_width as in config::Resolve, and
// the vocabulary's size from `vocab_size` where the config leaves it 0. `vocab_size` is the tokenizer's (0:
// not known): a model may have more rows than its tokenizer has tokens, never fewer. The heads are those of a
// language model: a vocabulary head, no scalar head.
// InvalidArgument names the key whose value does not make a decoder.
absl::StatusOr<ModelShape> ShapeFromConfig(const config::ModelConfig& config, int64_t vocab_size);

// The config that ShapeFromConfig turns into `shape` again. Every field is set, except the rotary ones of a
// model with learned positions. Which heads there are is the stage's to say and not part of it.
config::ModelConfig ConfigFromShape(const ModelShape& shape);

// A key of the model section, and its value in two models.
struct ShapeDifference {
  std::string key;
  std::string own, other;
};

// Where the two do not compute the same from the same weights. Not compared: the family's name, how random
// weights are drawn, context_length (a longer one computes the same for what is shorter), the rows of the
// vocabulary, and the heads.
std::vector<ShapeDifference> ShapeDifferences(const ModelShape& own, const ModelShape& other);

// What both directions and the import rely on: sizes are positive and divide, rotary heads are even.
// InvalidArgument names the key of the config.
absl::Status CheckShape(const ModelShape& shape);

}  // namespace tanren

#endif  // TANREN_CORE_MODEL_CONFIG_SHAPE_CONFIG_H_
