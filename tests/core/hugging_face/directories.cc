#include "tests/core/hugging_face/directories.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/status.h"

namespace tanren {

namespace fs = std::filesystem;

std::string GoldenDirectory(const std::string& family) {
  return std::string(TANREN_SOURCE_DIR "/tests/core/hugging_face/golden/") + family;
}

std::string FreshDirectory(const std::string& name) {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  const fs::path path =
      fs::path(testing::TempDir()) / absl::StrCat("tanren_hf_", getpid()) / test->name() / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path.string();
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void WriteFile(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

std::vector<NamedTensor> ReadTensors(const std::string& path) {
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  TANREN_CHECK_MSG(file.ok(), file.status().ToString());
  std::vector<NamedTensor> tensors;
  for (const SafetensorsEntry& entry : file->entries()) {
    tensors.push_back(
        {entry.name, *entry.dtype, entry.shape, std::string(static_cast<size_t>(entry.bytes()), '\0')});
    TANREN_CHECK(file->Read(entry.name, tensors.back().data.data(), entry.bytes()).ok());
  }
  return tensors;
}

void WriteTensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::vector<SafetensorsSpec> specs;
  std::vector<const void*> data;
  for (const NamedTensor& tensor : tensors) {
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
    data.push_back(tensor.data.data());
  }
  const absl::Status status = WriteSafetensors(path, specs, data, {{"format", "pt"}});
  TANREN_CHECK_MSG(status.ok(), status.ToString());
}

std::string CopyModel(const std::string& family, const EditConfig& edit_config,
                      const EditTensors& edit_tensors) {
  const std::string directory = FreshDirectory(family);
  nlohmann::json config = nlohmann::json::parse(ReadFile(GoldenDirectory(family) + "/config.json"));
  if (edit_config) edit_config(&config);
  WriteFile(directory + "/config.json", config.dump(1));
  std::vector<NamedTensor> tensors = ReadTensors(GoldenDirectory(family) + "/model.safetensors");
  if (edit_tensors) edit_tensors(&tensors);
  WriteTensors(directory + "/model.safetensors", tensors);
  return directory;
}

}  // namespace tanren
