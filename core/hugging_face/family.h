// Which tensors Hugging Face's models have, and where each of Tanren's parameters lies in them. All of it is
// data: a new family is a table of names.
#ifndef TANREN_CORE_HUGGING_FACE_FAMILY_H_
#define TANREN_CORE_HUGGING_FACE_FAMILY_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/shape.h"

namespace tanren {

// Rows of a fused query|key|value tensor, or all rows.
enum class HfPart : uint8_t { kWhole, kQuery, kKey, kValue };

// '#' stands for the layer's number in both names.
struct HfNameRule {
  const char* canonical;
  const char* tensor;  // without the family's prefix
  HfPart part = HfPart::kWhole;
  bool transposed = false;  // stored [in, out]
  bool under_prefix = true;
};

struct HfFamily {
  const char* name;               // model_type of config.json, and ModelShape::family
  const char* architecture;       // of the language model
  const char* base_architecture;  // the same without a head: its tensors have no prefix
  const char* prefix;
  std::span<const HfNameRule> rules;
  std::span<const char* const> ignored;  // buffers that old files hold and nothing reads
};

std::span<const HfFamily> HfFamilies();
// nullptr when there is none of that name.
const HfFamily* FindHfFamily(std::string_view name);
// "gpt2, llama, mistral, qwen2, qwen3"
std::string HfFamilyNames();

// Where one parameter lies: its element (row, column) is element (row_begin + row, column) of `tensor`, or
// (column, row_begin + row) where that is transposed.
struct HfPlace {
  std::string name;                   // canonical
  std::vector<int64_t> shape;         // canonical: [out, in] or [size]
  std::string tensor;                 // with the family's prefix
  std::vector<int64_t> tensor_shape;  // as stored
  bool transposed = false;
  int64_t row_begin = 0;
};

// Every parameter of the model with its place, in the order of ParameterSet; parameters that the family has
// no tensor for (a bias it lacks, a scalar head) are appended to *without_place.
std::vector<HfPlace> MapParameters(const HfFamily& family, const ModelShape& shape,
                                   std::vector<std::string>* without_place);

// Whether the tensor, named without the prefix, is a buffer to skip.
bool IsIgnoredTensor(const HfFamily& family, std::string_view tensor);

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_FAMILY_H_
