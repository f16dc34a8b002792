// Model directories for tests: the golden ones, and copies of them with something changed.
#ifndef TANREN_TESTS_CORE_HUGGING_FACE_DIRECTORIES_H_
#define TANREN_TESTS_CORE_HUGGING_FACE_DIRECTORIES_H_

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"

namespace tanren {

inline const std::vector<std::string> kFamilies = {"gpt2", "llama", "mistral", "qwen2", "qwen3"};

std::string GoldenDirectory(const std::string& family);
// An empty directory of this test's own.
std::string FreshDirectory(const std::string& name);
std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& contents);

struct NamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string data;
};
std::vector<NamedTensor> ReadTensors(const std::string& path);
void WriteTensors(const std::string& path, const std::vector<NamedTensor>& tensors);

// A copy of config.json and model.safetensors of `family` in a fresh directory, changed on the way.
using EditConfig = std::function<void(nlohmann::json*)>;
using EditTensors = std::function<void(std::vector<NamedTensor>*)>;
std::string CopyModel(const std::string& family, const EditConfig& edit_config,
                      const EditTensors& edit_tensors);

}  // namespace tanren

#endif  // TANREN_TESTS_CORE_HUGGING_FACE_DIRECTORIES_H_
