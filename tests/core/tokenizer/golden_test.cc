// Published numbers, and Hugging Face's splits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/tokenizer/split_pattern.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;

std::unique_ptr<Tokenizer> Load(const std::string& path) {
  auto tokenizer = LoadTokenizer(path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

TEST(Gpt2, EncodesTinyshakespeareToThePublishedCounts) {
  TANREN_NEED_DATA(data);
  const auto gpt2 = Load(data + "/tokenizer/gpt2");
  const std::string text = ReadAll(data + "/text/tinyshakespeare.txt");
  const size_t train = static_cast<size_t>(static_cast<double>(text.size()) * 0.9);  // the text is ASCII
  EXPECT_EQ(gpt2->vocab_size(), 50257);
  EXPECT_EQ(gpt2->Encode(text)->size(), 338025);
  EXPECT_EQ(gpt2->Encode(text.substr(0, train))->size(), 301966);
  EXPECT_EQ(gpt2->Encode(text.substr(train))->size(), 36059);
}

TEST(Gpt2, EncodesKnownTexts) {
  TANREN_NEED_DATA(data);
  const auto gpt2 = Load(data + "/tokenizer/gpt2");
  EXPECT_THAT(*gpt2->Encode(std::string(17, '0')), ElementsAre(8269, 10535, 830));
  EXPECT_THAT(*gpt2->Encode("Hello world \u6771\u4eac 0000"),
              ElementsAre(15496, 995, 10545, 251, 109, 12859, 105, 17643));
  EXPECT_THAT(gpt2->specials(), testing::SizeIs(1));
  EXPECT_EQ(gpt2->roles().end_of_text, 50256);
  EXPECT_FALSE(gpt2->roles().prepend_bos);
  EXPECT_THAT(*gpt2->EncodeWithSpecials("Hello<|endoftext|> world"), ElementsAre(15496, 50256, 995));
  // Its text in ordinary input is ordinary text.
  EXPECT_EQ(gpt2->Encode("<|endoftext|>")->size(), 7);
}

TEST(Gpt2, IsTheSameFromAnyOfItsFiles) {
  TANREN_NEED_DATA(data);
  TemporaryDirectory directory;
  const auto gpt2 = Load(data + "/tokenizer/gpt2");
  const std::string json = ReadAll(data + "/tokenizer/gpt2/encoder.json");
  WriteAll(directory / "hf/vocab.json", json);
  WriteAll(directory / "hf/merges.txt", ReadAll(data + "/tokenizer/gpt2/vocab.bpe"));
  ASSERT_TRUE(gpt2->Save(directory / "saved").ok());
  for (const std::string& path :
       {data + "/tokenizer/gpt2/encoder.json", data + "/tokenizer/gpt2/vocab.bpe", directory / "hf",
        directory / "saved", directory / "saved/tokenizer.json"}) {
    const auto other = Load(path);
    EXPECT_EQ(other->Hash(), gpt2->Hash()) << path;
    EXPECT_EQ(other->roles().end_of_text, 50256) << path;
  }
}

TEST(Llama2, EncodesTheKnownSentence) {
  TANREN_NEED_DATA(data);
  TemporaryDirectory directory;
  const auto llama = Load(data + "/tokenizer/llama2");
  EXPECT_EQ(llama->kind(), "sentencepiece");
  EXPECT_EQ(llama->vocab_size(), 32000);
  const std::string text = "I believe the meaning of life is";
  EXPECT_THAT(*llama->Encode(text), ElementsAre(306, 4658, 278, 6593, 310, 2834, 338));
  EXPECT_EQ(llama->roles().bos, 1);
  EXPECT_EQ(llama->roles().end_of_text, 2);
  EXPECT_TRUE(llama->roles().prepend_bos);
  EXPECT_EQ(*llama->Decode({306, 4658}), "I believe");
  EXPECT_EQ(llama->DecodeToken(306), " I");
  EXPECT_EQ(llama->DecodeToken(3 + 0x0A), "\n");  // a byte piece
  EXPECT_THAT(*llama->EncodeWithSpecials("<s>I believe</s>"), ElementsAre(1, 306, 4658, 2));
  ASSERT_TRUE(llama->Save(directory / "saved").ok());
  EXPECT_EQ(Load(directory / "saved")->Hash(), llama->Hash());
  const auto bad = llama->Encode("good\xff");
  ASSERT_FALSE(bad.ok());
  EXPECT_THAT(std::string(bad.status().message()),
              testing::HasSubstr("byte 4 of the text, 0xff, is not UTF-8"));
}

TEST(SplitPattern, SplitsAsHuggingFaceDoes) {
  const auto goldens = nlohmann::json::parse(
      ReadAll(std::string(TANREN_SOURCE_ROOT) + "/tests/core/tokenizer/split_goldens.json"));
  const std::pair<const char*, std::string_view> patterns[] = {
      {"gpt2", kGpt2Pattern}, {"gpt4", kGpt4Pattern}, {"qwen", kQwenPattern}};
  SplitScratch scratch;
  for (const auto& [name, text] : patterns) {
    auto pattern = SplitPattern::Compile(text);
    ASSERT_TRUE(pattern.ok()) << pattern.status();
    ASSERT_GE(goldens.at(name).size(), 20);
    for (const auto& golden : goldens.at(name)) {
      std::vector<std::string> pieces;
      const auto input = golden.at("text").get<std::string>();
      ASSERT_TRUE(
          pattern->Split(input, &scratch, [&](std::string_view piece) { pieces.emplace_back(piece); }).ok());
      EXPECT_EQ(pieces, golden.at("pieces").get<std::vector<std::string>>()) << name << ": " << golden.dump();
    }
  }
}

}  // namespace
}  // namespace tanren
