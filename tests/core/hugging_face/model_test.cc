// Reading Hugging Face's tensors: names, parts, boxes, types, and every kind of broken directory.
#include "core/hugging_face/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/core/hugging_face/directories.h"

namespace tanren {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

std::unique_ptr<HfModel> Open(const std::string& directory) {
  absl::StatusOr<std::unique_ptr<HfModel>> model = HfModel::Open(directory);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

std::string Error(const std::string& directory) {
  return std::string(HfModel::Open(directory).status().message());
}

NamedTensor* Find(std::vector<NamedTensor>* tensors, const std::string& name) {
  for (NamedTensor& tensor : *tensors) {
    if (tensor.name == name) return &tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return nullptr;
}

std::vector<float> ReadWhole(const HfModel& model, const std::string& name) {
  for (const HfPlace& place : model.places()) {
    if (place.name != name) continue;
    const Region region = Region::Whole(place.shape);
    std::vector<float> values(static_cast<size_t>(region.elements()));
    const absl::Status status = model.Read(name, region, values.data());
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}

// By hand from the file, without the map: query, key and value are thirds of the columns of c_attn.
TEST(HfModel, FusedTransposedTensorsOfGpt2ComeApart) {
  const std::unique_ptr<HfModel> model = Open(GoldenDirectory("gpt2"));
  std::vector<NamedTensor> tensors = ReadTensors(GoldenDirectory("gpt2") + "/model.safetensors");
  const auto* fused =
      reinterpret_cast<const float*>(Find(&tensors, "transformer.h.1.attn.c_attn.weight")->data.data());
  const auto* bias =
      reinterpret_cast<const float*>(Find(&tensors, "transformer.h.1.attn.c_attn.bias")->data.data());
  const int64_t width = 28;
  const char* parts[] = {"query", "key", "value"};
  for (int64_t part = 0; part < 3; ++part) {
    const std::vector<float> weight =
        ReadWhole(*model, absl::StrCat("layers.1.attention.", parts[part], ".weight"));
    const std::vector<float> biases =
        ReadWhole(*model, absl::StrCat("layers.1.attention.", parts[part], ".bias"));
    for (int64_t row = 0; row < width; ++row) {
      EXPECT_EQ(biases[row], bias[part * width + row]);
      for (int64_t column = 0; column < width; ++column) {
        ASSERT_EQ(weight[row * width + column], fused[column * 3 * width + part * width + row]);
      }
    }
  }
}

// Any region of any parameter is that region of the whole.
TEST(HfModel, RegionsEqualTheWholesTheyAreCutFrom) {
  const uint32_t seed = 20241;
  std::mt19937 random(seed);
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  for (const std::string& family : kFamilies) {
    const std::unique_ptr<HfModel> model = Open(GoldenDirectory(family));
    for (const HfPlace& place : model->places()) {
      const std::vector<float> whole = ReadWhole(*model, place.name);
      for (int trial = 0; trial < 4; ++trial) {
        Region region = Region::Whole(place.shape);
        for (size_t d = 0; d < place.shape.size(); ++d) {
          region.box.offset[d] = random() % place.shape[d];
          region.box.size[d] = 1 + random() % (place.shape[d] - region.box.offset[d]);
        }
        region.begin = random() % region.box.elements();
        region.end = region.begin + 1 + random() % (region.box.elements() - region.begin);
        std::vector<float> values(static_cast<size_t>(region.elements()) + 1, -7);
        ASSERT_TRUE(model->Read(place.name, region, values.data()).ok());
        for (int64_t i = 0; i < region.elements(); ++i) {
          const int64_t at = region.begin + i, columns = region.box.size.back();
          const int64_t row = region.box.offset[0] + (place.shape.size() == 1 ? at : at / columns);
          const int64_t column = place.shape.size() == 1 ? 0 : region.box.offset[1] + at % columns;
          const int64_t stride = place.shape.size() == 1 ? 1 : place.shape[1];
          ASSERT_EQ(values[i], whole[row * stride + column]) << place.name << " element " << i;
        }
        EXPECT_EQ(values.back(), -7);
      }
    }
  }
}

TEST(HfModel, HalfTypesAreReadExactly) {
  const auto to_half = [](std::vector<NamedTensor>* tensors, DType dtype) {
    for (NamedTensor& tensor : *tensors) {
      const auto* values = reinterpret_cast<const float*>(tensor.data.data());
      std::string half(tensor.data.size() / 2, '\0');
      for (size_t i = 0; i < half.size() / 2; ++i) {
        const uint16_t bits = dtype == DType::kBF16
                                  ? BFloat16(values[i]).bits
                                  : std::bit_cast<uint16_t>(static_cast<_Float16>(values[i]));
        std::memcpy(half.data() + 2 * i, &bits, 2);
      }
      tensor.data = half;
      tensor.dtype = dtype;
    }
  };
  const std::unique_ptr<HfModel> full = Open(GoldenDirectory("gpt2"));
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    const std::unique_ptr<HfModel> half =
        Open(CopyModel("gpt2", nullptr, [&](std::vector<NamedTensor>* tensors) { to_half(tensors, dtype); }));
    for (const HfPlace& place : half->places()) {
      const std::vector<float> a = ReadWhole(*full, place.name), b = ReadWhole(*half, place.name);
      for (size_t i = 0; i < a.size(); ++i) {
        const float expected = dtype == DType::kBF16 ? static_cast<float>(BFloat16(a[i]))
                                                     : static_cast<float>(static_cast<_Float16>(a[i]));
        ASSERT_EQ(b[i], expected) << place.name;
      }
    }
  }
}

// Split by hand over two files with an index, one tensor of a fused triple's neighbours in each.
std::string ShardModel(const std::string& family, const std::function<void(json*)>& edit_index) {
  const std::string directory = FreshDirectory(family + "_sharded");
  WriteFile(directory + "/config.json", ReadFile(GoldenDirectory(family) + "/config.json"));
  std::vector<NamedTensor> tensors = ReadTensors(GoldenDirectory(family) + "/model.safetensors"), halves[2];
  json index;
  for (size_t i = 0; i < tensors.size(); ++i) {
    halves[i % 2].push_back(tensors[i]);
    index["weight_map"][tensors[i].name] = absl::StrCat("model-0000", i % 2 + 1, "-of-00002.safetensors");
  }
  index["metadata"]["total_size"] = 1;
  if (edit_index) edit_index(&index);
  WriteTensors(directory + "/model-00001-of-00002.safetensors", halves[0]);
  WriteTensors(directory + "/model-00002-of-00002.safetensors", halves[1]);
  WriteFile(directory + "/model.safetensors.index.json", index.dump());
  return directory;
}

TEST(HfModel, ShardedFilesAreOneModel) {
  const std::unique_ptr<HfModel> whole = Open(GoldenDirectory("llama")),
                                 sharded = Open(ShardModel("llama", nullptr));
  for (const HfPlace& place : whole->places()) {
    EXPECT_EQ(ReadWhole(*whole, place.name), ReadWhole(*sharded, place.name)) << place.name;
  }
}

TEST(HfModel, AnIndexThatLiesIsRefused) {
  const auto moved = [](const std::string& to) {
    return [to](json* index) { (*index)["weight_map"]["model.norm.weight"] = to; };
  };
  EXPECT_THAT(Error(ShardModel("llama", moved("../model-00001-of-00002.safetensors"))),
              HasSubstr("plain file name"));
  EXPECT_THAT(Error(ShardModel("llama", moved("absent.safetensors"))), HasSubstr("absent.safetensors"));
  EXPECT_THAT(Error(ShardModel(
                  "llama",
                  [](json* index) { (*index)["weight_map"]["extra"] = "model-00001-of-00002.safetensors"; })),
              HasSubstr("\"extra\" is not in"));
  EXPECT_THAT(Error(ShardModel("llama", [](json* index) { index->erase("weight_map"); })),
              HasSubstr("weight_map"));
}

TEST(HfModel, NamesWithoutPrefixAndUnusedBuffersAreAccepted) {
  const std::string directory = CopyModel("gpt2", nullptr, [](std::vector<NamedTensor>* tensors) {
    for (NamedTensor& tensor : *tensors) tensor.name.erase(0, std::string("transformer.").size());
    tensors->push_back({"h.0.attn.bias", DType::kF32, {1, 1, 2, 2}, std::string(16, '\0')});
    tensors->push_back({"h.2.attn.masked_bias", DType::kF32, {}, std::string(4, '\0')});
  });
  const std::unique_ptr<HfModel> bare = Open(directory), full = Open(GoldenDirectory("gpt2"));
  EXPECT_EQ(ReadWhole(*bare, "layers.2.mlp.up.weight"), ReadWhole(*full, "layers.2.mlp.up.weight"));
  ASSERT_EQ(bare->notes().size(), 1u);
  EXPECT_THAT(bare->notes()[0], HasSubstr("2 unused buffers"));
}

TEST(HfModel, EveryWrongTensorIsNamedAtOnce) {
  const std::string directory = CopyModel("llama", nullptr, [](std::vector<NamedTensor>* tensors) {
    Find(tensors, "model.norm.weight")->name = "model.nrom.weight";
    NamedTensor* mlp = Find(tensors, "model.layers.1.mlp.up_proj.weight");
    std::swap(mlp->shape[0], mlp->shape[1]);
    NamedTensor* head = Find(tensors, "lm_head.weight");
    *head = {"lm_head.weight", DType::kI32, head->shape, head->data};
  });
  EXPECT_THAT(Error(directory), AllOf(HasSubstr("\"model.norm.weight\" (final_norm.weight) is missing"),
                                      HasSubstr("\"model.nrom.weight\" of shape [24] has no place"),
                                      HasSubstr("\"model.layers.1.mlp.up_proj.weight\" has shape [24, 36]; "
                                                "config.json makes it [36, 24]"),
                                      HasSubstr("\"lm_head.weight\" has type I32")));
  // A fused tensor of another size is one line.
  const std::string fused = Error(CopyModel(
      "gpt2", [](json* config) { (*config)["n_layer"] = 4; }, nullptr));
  EXPECT_THAT(fused, HasSubstr("\"transformer.h.3.attn.c_attn.weight\""));
  EXPECT_EQ(fused.find("c_attn.weight"), fused.rfind("c_attn.weight"));
}

TEST(HfModel, ATiedHeadMayBeStoredAgainButNotDiffer) {
  const auto with_head = [](char flip) {
    return [flip](std::vector<NamedTensor>* tensors) {
      NamedTensor head = *Find(tensors, "model.embed_tokens.weight");
      head.name = "lm_head.weight";
      head.data[100] ^= flip;
      tensors->push_back(head);
    };
  };
  EXPECT_TRUE(HfModel::Open(CopyModel("qwen2", nullptr, with_head(0))).ok());
  EXPECT_THAT(Error(CopyModel("qwen2", nullptr, with_head(1))), HasSubstr("tie_word_embeddings"));
}

TEST(HfModel, DirectoriesWithoutAModelAreErrorsWithAWayOut) {
  const std::string empty = FreshDirectory("empty");
  EXPECT_THAT(Error(empty), HasSubstr("config.json"));
  WriteFile(empty + "/config.json", ReadFile(GoldenDirectory("llama") + "/config.json"));
  EXPECT_THAT(Error(empty), HasSubstr("neither model.safetensors"));
  WriteFile(empty + "/pytorch_model.bin", "x");
  EXPECT_THAT(Error(empty), HasSubstr("safe_serialization"));
  WriteFile(empty + "/model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}");
  EXPECT_THAT(Error(empty), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace tanren
