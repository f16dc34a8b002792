// Prompts that share a prefill step: what stands beside a request changes nothing about its answer.
#include <gtest/gtest.h>

#include "tests/parallel/engine/golden.h"

namespace tanren {
namespace {

GenerationRequest MakeRequest(int64_t prompt_tokens, uint64_t stream_id) {
  GenerationRequest request;
  for (int64_t t = 0; t < prompt_tokens; ++t) {
    request.prompt.push_back(static_cast<int32_t>((7 * t + 11 * prompt_tokens + 3) % 61));
  }
  request.max_tokens = 1 + static_cast<int64_t>(stream_id % 3) * 4;
  request.sampling.stream_id = stream_id;
  return request;
}

// Steps of prefill have 8 rows and there are two slots: the prompts fill a step together, end exactly at its
// last row, go over several steps, and an answer of one token frees its slot at once.
TEST(Generation, SharedPrefillStepsChangeNoBitOfAnAnswer) {
  for (const char* family : {"gpt2", "qwen3"}) {
    const Golden golden = ReadGolden(family);
    const std::unique_ptr<HfModel> model = OpenModel(golden.directory);
    const SoloEngine solo = MakeSoloEngine(*model, golden);
    std::vector<GenerationRequest> requests;
    for (const int64_t length : {3, 5, 1, 8, 9, 4, 20, 7, 1, 1, 16, 2}) {
      requests.push_back(MakeRequest(length, requests.size()));
    }
    const auto together = solo.engine->Generate("policy", requests);
    ASSERT_TRUE(together.ok()) << together.status();
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto alone = solo.engine->Generate("policy", {&requests[i], 1});
      ASSERT_TRUE(alone.ok()) << alone.status();
      EXPECT_EQ((*together)[i].tokens, (*alone)[0].tokens) << family << " request " << i;
      EXPECT_EQ((*together)[i].logp, (*alone)[0].logp) << family << " request " << i;
    }
  }
}

}  // namespace
}  // namespace tanren
