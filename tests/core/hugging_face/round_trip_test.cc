// Import to a checkpoint and export again: the same tensors, bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <sstream>

#include "core/checkpoint/reader.h"
#include "core/comm/comm.h"
#include "core/config/config.h"
#include "core/hugging_face/export.h"
#include "core/hugging_face/import.h"
#include "core/hugging_face/model.h"
#include "launch/hf_verbs.h"
#include "tests/core/hugging_face/directories.h"

namespace tanren {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::unique_ptr<CheckpointReader> OpenStep(const std::string& path) {
  const std::unique_ptr<Comm> world = MakeSoloComm("world");
  OpenOptions options;
  options.verify_data = true;
  absl::StatusOr<std::unique_ptr<CheckpointReader>> reader = CheckpointReader::Open(*world, path, options);
  EXPECT_TRUE(reader.ok()) << reader.status();
  return reader.ok() ? *std::move(reader) : nullptr;
}

std::string Import(const std::string& directory) {
  const std::string step = FreshDirectory("checkpoints") + "/deeper/imported";
  const absl::StatusOr<HfImportReport> report = ImportHuggingFace(directory, step, {});
  EXPECT_TRUE(report.ok()) << report.status();
  return step;
}

TEST(HfRoundTrip, Float32ExportIsTheOriginalFileByteForByte) {
  for (const std::string& family : kFamilies) {
    const std::unique_ptr<CheckpointReader> step = OpenStep(Import(GoldenDirectory(family)));
    const std::string out = FreshDirectory("out") + "/" + family;
    const absl::StatusOr<HfExportReport> report = ExportHuggingFace(*step, out, {});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->family, family);
    EXPECT_EQ(ReadFile(out + "/model.safetensors"), ReadFile(GoldenDirectory(family) + "/model.safetensors"))
        << family;
    const absl::StatusOr<std::unique_ptr<HfModel>> again = HfModel::Open(out);
    EXPECT_TRUE(again.ok()) << again.status();
  }
}

TEST(HfRoundTrip, Bfloat16ExportRoundsToNearestEven) {
  const std::unique_ptr<CheckpointReader> step = OpenStep(Import(GoldenDirectory("gpt2")));
  const std::string out = FreshDirectory("out") + "/bf16";
  HfExportOptions options;
  options.dtype = DType::kBF16;
  ASSERT_TRUE(ExportHuggingFace(*step, out, options).ok());
  const std::vector<NamedTensor> full = ReadTensors(GoldenDirectory("gpt2") + "/model.safetensors");
  const std::vector<NamedTensor> half = ReadTensors(out + "/model.safetensors");
  ASSERT_EQ(full.size(), half.size());
  for (size_t t = 0; t < full.size(); ++t) {
    ASSERT_EQ(full[t].name, half[t].name);
    for (size_t i = 0; i < full[t].data.size() / 4; ++i) {
      float value;
      uint16_t bits;
      std::memcpy(&value, full[t].data.data() + 4 * i, 4);
      std::memcpy(&bits, half[t].data.data() + 2 * i, 2);
      ASSERT_EQ(bits, BFloat16(value).bits) << full[t].name;
    }
  }
  EXPECT_EQ(json::parse(ReadFile(out + "/config.json"))["torch_dtype"], "bfloat16");
}

// A checkpoint whose embedding was imported from bf16 exports the same bf16 bytes.
TEST(HfRoundTrip, Bfloat16SurvivesImportAndExport) {
  const std::unique_ptr<CheckpointReader> step = OpenStep(Import(GoldenDirectory("qwen3")));
  HfExportOptions options;
  options.dtype = DType::kBF16;
  const std::string out = FreshDirectory("out");
  ASSERT_TRUE(ExportHuggingFace(*step, out + "/first", options).ok());
  const std::unique_ptr<CheckpointReader> second = OpenStep(Import(out + "/first"));
  ASSERT_TRUE(ExportHuggingFace(*second, out + "/second", options).ok());
  EXPECT_EQ(ReadFile(out + "/first/model.safetensors"), ReadFile(out + "/second/model.safetensors"));
  EXPECT_EQ(ReadFile(out + "/first/config.json"), ReadFile(out + "/second/config.json"));
}

TEST(HfRoundTrip, TheImportedConfigIsARunsConfig) {
  for (const std::string& family : kFamilies) {
    const std::unique_ptr<CheckpointReader> step = OpenStep(Import(GoldenDirectory(family)));
    const absl::StatusOr<std::string> text = step->ConfigText();
    ASSERT_TRUE(text.ok());
    const auto config = config::LoadConfigText(*text, "resolved.yaml");
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->model().family(), family);
    EXPECT_EQ(config->model().vocab_size(), 61);
    EXPECT_EQ(step->manifest().step, 0);
    EXPECT_NE(step->Find("policy", "layers.2.mlp.down.weight", Role::kWeight), nullptr);
  }
}

// GPT-2's letters for the 256 bytes (its bytes_to_unicode), then the end of text.
json ByteVocabulary() {
  json vocabulary;
  int unprintable = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const int code = printable ? byte : unprintable++;
    std::string letter(1, static_cast<char>(code));
    if (code >= 128) letter = {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    vocabulary[letter] = byte;
  }
  vocabulary["<|endoftext|>"] = 256;
  return vocabulary;
}

TEST(HfRoundTrip, TokenizerFilesAndTheirRolesTravel) {
  const std::string directory = CopyModel(
      "llama", [](json* config) { (*config)["vocab_size"] = 257; },
      [](std::vector<NamedTensor>* tensors) {
        for (NamedTensor& tensor : *tensors) {
          if (tensor.shape[0] != 61) continue;
          tensor.shape[0] = 257;
          tensor.data.resize(static_cast<size_t>(257 * tensor.shape[1] * 4));
        }
      });
  WriteFile(directory + "/vocab.json", ByteVocabulary().dump());
  WriteFile(directory + "/merges.txt", "#version: 0.2\n");
  WriteFile(directory + "/chat_template.jinja", "{{ messages }}");
  const std::unique_ptr<CheckpointReader> step = OpenStep(Import(directory));
  const absl::StatusOr<TokenizerFiles> files = step->ReadTokenizer();
  ASSERT_TRUE(files.ok());
  EXPECT_EQ(files->size(), 3u);
  const std::string out = FreshDirectory("out") + "/exported";
  const absl::StatusOr<HfExportReport> report = ExportHuggingFace(*step, out, {});
  ASSERT_TRUE(report.ok()) << report.status();
  for (const char* name : {"vocab.json", "merges.txt", "chat_template.jinja"}) {
    EXPECT_EQ(ReadFile(out + "/" + name), ReadFile(directory + "/" + name));
  }
  EXPECT_THAT(report->notes, testing::IsEmpty());
  EXPECT_EQ(json::parse(ReadFile(out + "/config.json"))["eos_token_id"], 256);
  EXPECT_EQ(json::parse(ReadFile(out + "/generation_config.json"))["eos_token_id"], 256);
}

TEST(HfRoundTrip, NothingIsOverwrittenOrLeftBehind) {
  const std::string step = Import(GoldenDirectory("llama"));
  const absl::StatusOr<HfImportReport> same = ImportHuggingFace(GoldenDirectory("llama"), step, {});
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_THAT(same->notes.back(), HasSubstr("already"));
  EXPECT_TRUE(absl::IsAlreadyExists(ImportHuggingFace(GoldenDirectory("mistral"), step, {}).status()));

  const std::unique_ptr<CheckpointReader> reader = OpenStep(step);
  const std::string parent = FreshDirectory("out");
  ASSERT_TRUE(ExportHuggingFace(*reader, parent + "/a/", {}).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(ExportHuggingFace(*reader, parent + "/a", {}).status()));
  HfExportOptions options;
  options.model = "critic";
  EXPECT_THAT(ExportHuggingFace(*reader, parent + "/b", options).status().message(),
              HasSubstr("no model critic"));
  options = {};
  options.dtype = DType::kF64;
  EXPECT_THAT(ExportHuggingFace(*reader, parent + "/b", options).status().message(), HasSubstr("float64"));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(parent))
    names.push_back(entry.path().filename());
  EXPECT_THAT(names, testing::ElementsAre("a"));
}

TEST(HfVerbs, ExitCodesAndLines) {
  const std::string parent = FreshDirectory("verbs");
  std::ostringstream out, errors;
  ImportHfOptions import;
  import.directory = GoldenDirectory("qwen3");
  import.out = parent + "/step";
  EXPECT_EQ(ImportHf(import, out, errors), 0) << errors.str();
  EXPECT_EQ(out.str(), parent + "/step: family qwen3, 36 tensors, 14868 parameters\n");
  ExportHfOptions options;
  options.step_directory = parent + "/step";
  options.out = parent + "/exported";
  options.dtype = "float16";
  EXPECT_EQ(ExportHf(options, out, errors), 2);
  EXPECT_THAT(errors.str(), HasSubstr("float16"));
  options.dtype = "bfloat16";
  EXPECT_EQ(ExportHf(options, out, errors), 0) << errors.str();
  options.step_directory = parent + "/missing";
  EXPECT_EQ(ExportHf(options, out, errors), 2);
  import.directory = parent;
  import.out = parent + "/other";
  EXPECT_EQ(ImportHf(import, out, errors), 2);
  EXPECT_FALSE(std::filesystem::exists(parent + "/other"));
}

}  // namespace
}  // namespace tanren
