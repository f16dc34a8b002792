// The shapes under configs/models: each validates, and has as many parameters as its publisher says.
#include <filesystem>
#include <map>
#include <string>

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

int64_t CountParameters(const ModelConfig& m) {
  const int64_t queries = m.heads() * m.head_dim(), keys = m.kv_heads() * m.head_dim();
  const int64_t norm = m.width() * (m.norm() == ModelConfig::layer_norm ? 2 : 1);
  const bool gated = m.mlp() == ModelConfig::swiglu || m.mlp() == ModelConfig::geglu;
  int64_t layer = 2 * norm + m.width() * (queries + 2 * keys) + queries * m.width();
  layer += (gated ? 3 : 2) * m.width() * m.mlp_width();
  if (m.qkv_bias()) layer += queries + 2 * keys;
  if (m.attention_output_bias()) layer += m.width();
  if (m.mlp_bias()) layer += (gated ? 2 : 1) * m.mlp_width() + m.width();
  if (m.qk_norm()) layer += 2 * m.head_dim();
  const int64_t positions = m.position() == ModelConfig::learned ? m.context_length() * m.width() : 0;
  return m.vocab_size() * m.width() * (m.tied_embeddings() ? 1 : 2) + positions + m.layers() * layer + norm;
}

TEST(Models, EachValidatesWithItsPublishedSize) {
  // From the published checkpoints (the sum over their tensors, tied ones once); the tiny ones have no
  // vocabulary.
  const std::map<std::string, int64_t> published = {{"gpt2_124m", 124'439'808},
                                                    {"gpt2_355m", 354'823'168},
                                                    {"gpt2_774m", 774'030'080},
                                                    {"gpt2_1558m", 1'557'611'200},
                                                    {"llama3_1b", 1'235'814'400},
                                                    {"llama3_8b", 8'030'261'248},
                                                    {"qwen2_0_5b", 494'032'768},
                                                    {"qwen3_0_6b", 596'049'920},
                                                    {"reasoner", 0},
                                                    {"tiny_gpt2", 0},
                                                    {"tiny_llama", 0},
                                                    {"tiny_qwen3", 0}};
  size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANREN_SOURCE_DIR "/configs/models")) {
    const std::string name = entry.path().stem().string();
    SCOPED_TRACE(name);
    ++found;
    ASSERT_TRUE(published.contains(name)) << "a new shape: add its published size";
    const Config config =
        MustLoad("model: {include: " + entry.path().string() + "}\n", {"data.sequence_length=128"});
    const ModelConfig model = Resolve(config).model();
    if (published.at(name) > 0) {
      EXPECT_EQ(CountParameters(model), published.at(name));
    } else {
      EXPECT_LE(model.width(), 128);
      EXPECT_LE(model.layers(), 4);
      EXPECT_EQ(
          ErrorsOf("model: {include: " + entry.path().string() + "}\nbatch: {micro_batch_tokens: 512}\n",
                   {"parallel.tensor=4"}),
          "");
    }
  }
  EXPECT_EQ(found, published.size());
}

}  // namespace
}  // namespace tanren::config
