#include "core/tokenizer/simple_vocabularies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
std::string MessageOf(const absl::StatusOr<T>& result) {
  return result.ok() ? std::string("no error") : std::string(result.status().message());
}

void ExpectSaveKeeps(const Tokenizer& tokenizer) {
  TemporaryDirectory directory;
  ASSERT_TRUE(tokenizer.Save(directory / "t").ok());
  for (const std::string& path : {directory / "t", directory / "t/vocabulary.json"}) {
    const auto loaded = LoadTokenizer(path);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)->Hash(), tokenizer.Hash());
    EXPECT_EQ((*loaded)->kind(), tokenizer.kind());
    EXPECT_EQ((*loaded)->vocab_size(), tokenizer.vocab_size());
  }
}

TEST(ByteTokenizer, EncodesEveryByte) {
  const auto tokenizer = *MakeByteTokenizer();
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->roles().end_of_text, 256);
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
  const auto ids = *tokenizer->Encode(text);
  EXPECT_EQ(ids[200], 200);
  EXPECT_EQ(*tokenizer->Decode(ids), text);
  EXPECT_EQ((*MakeByteTokenizer({}))->vocab_size(), 256);
  ExpectSaveKeeps(*tokenizer);
}

TEST(CharacterTokenizer, HasTheCharactersOfTheTextInOrder) {
  std::set<std::string> characters;
  ASSERT_TRUE(CollectCharacters("b\u732ba\nb\U0001F600", &characters).ok());
  const auto tokenizer = *MakeCharacterTokenizer(characters, {});
  EXPECT_EQ(tokenizer->vocab_size(), 5);
  EXPECT_THAT(*tokenizer->Encode("\nab\u732b\U0001F600"), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(*tokenizer->Decode({3, 2}), "\u732bb");
  EXPECT_EQ(tokenizer->roles().end_of_text, -1);
  ExpectSaveKeeps(*tokenizer);
}

TEST(CharacterTokenizer, NamesAnUnknownCharacterAndItsPlace) {
  const auto tokenizer = *MakeCharacterTokenizer({"a", "b"}, {});
  std::vector<int32_t> ids = {1};
  EXPECT_FALSE(tokenizer->EncodeTo("ab\u00e9", &ids).ok());
  EXPECT_THAT(ids, ElementsAre(1));
  EXPECT_THAT(MessageOf(tokenizer->Encode("ab\u00e9")),
              HasSubstr("the character \"\u00e9\" (U+00E9) at byte 2 of the text is not in the vocabulary"));
  EXPECT_THAT(MessageOf(tokenizer->Encode("a\x80")), HasSubstr("byte 1 of the text, 0x80, is not UTF-8"));
  const auto lenient = *MakeCharacterTokenizer({"a", "b"}, {"<unk>"});
  EXPECT_THAT(*lenient->Encode("ab\u00e9"), ElementsAre(0, 1, 2));
  ExpectSaveKeeps(*lenient);
}

TEST(CharacterTokenizer, TinyshakespeareHasItsSixtyFiveCharacters) {
  TANREN_NEED_DATA(data);
  const std::string text = ReadAll(data + "/text/tinyshakespeare.txt");
  std::set<std::string> characters;
  ASSERT_TRUE(CollectCharacters(text, &characters).ok());
  const auto tokenizer = *MakeCharacterTokenizer(characters, {});
  EXPECT_EQ(tokenizer->vocab_size(), 65);
  const auto ids = *tokenizer->Encode(text);
  EXPECT_EQ(ids.size(), 1115394);
  // nanoGPT's ids of "First".
  EXPECT_THAT(std::vector<int32_t>(ids.begin(), ids.begin() + 5), ElementsAre(18, 47, 56, 57, 58));
  EXPECT_EQ(*tokenizer->Decode(ids), text);
}

TEST(WhitespaceTokenizer, SplitsAtWhiteSpace) {
  std::set<std::string> words;
  ASSERT_TRUE(CollectWords("I love AI . AI loves people .", &words).ok());
  const auto tokenizer = *MakeWhitespaceTokenizer(words, {"<|endoftext|>"});
  EXPECT_EQ(tokenizer->vocab_size(), 7);
  EXPECT_THAT(*tokenizer->Encode("I love AI . AI loves people ."), ElementsAre(2, 3, 1, 0, 1, 4, 5, 0));
  EXPECT_EQ(*tokenizer->Decode({2, 3, 1, 0}), "I love AI .");
  EXPECT_THAT(*tokenizer->Encode("\n AI\u3000\tI "), ElementsAre(1, 2));
  EXPECT_THAT(MessageOf(tokenizer->Encode("I hate AI")),
              HasSubstr("the word \"hate\" at byte 2 of the text is not in the vocabulary"));
  EXPECT_THAT(*tokenizer->EncodeWithSpecials("AI<|endoftext|>I"), ElementsAre(1, 6, 2));
  ExpectSaveKeeps(*tokenizer);
}

TEST(SimpleTokenizers, ACutChangesNothing) {
  const std::string text = "ab \u732b\u732b b\ta\nb";
  std::set<std::string> characters;
  std::set<std::string> words;
  ASSERT_TRUE(CollectCharacters(text, &characters).ok());
  ASSERT_TRUE(CollectWords(text, &words).ok());
  for (const auto& tokenizer :
       {*MakeByteTokenizer(), *MakeCharacterTokenizer(characters, {}), *MakeWhitespaceTokenizer(words, {})}) {
    for (size_t seen = 1; seen <= text.size(); ++seen) {
      const size_t cut = tokenizer->LastCut(text.substr(0, seen));
      ASSERT_LT(cut, seen);
      if (cut == 0) continue;
      auto ids = *tokenizer->Encode(text.substr(0, cut));
      ASSERT_TRUE(tokenizer->EncodeTo(text.substr(cut), &ids).ok()) << tokenizer->kind() << " " << cut;
      EXPECT_EQ(ids, *tokenizer->Encode(text)) << tokenizer->kind() << " " << cut;
    }
  }
}

TEST(SimpleTokenizers, TheLongestSpecialTokenWins) {
  const auto tokenizer = *MakeByteTokenizer({"<a>", "<a><b>", "<b>"});
  EXPECT_THAT(*tokenizer->EncodeWithSpecials("<a><b><b><a>x"), ElementsAre(257, 258, 256, 'x'));
}

}  // namespace
}  // namespace tanren
