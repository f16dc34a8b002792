// BPE training against a naive trainer that counts everything anew for every merge.
#include "core/tokenizer/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "core/base/sha256.h"
#include "core/tokenizer/byte_alphabet.h"
#include "core/tokenizer/split_pattern.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;
using Merges = std::vector<std::pair<int32_t, int32_t>>;

Merges NaiveTrain(const std::vector<std::string>& texts, std::string_view pattern_text, int64_t vocab_size,
                  int64_t min_count) {
  const auto pattern = SplitPattern::Compile(pattern_text);
  SplitScratch scratch;
  std::map<std::string, int64_t> counts;
  for (const std::string& text : texts) {
    EXPECT_TRUE(
        pattern->Split(text, &scratch, [&](std::string_view piece) { ++counts[std::string(piece)]; }).ok());
  }
  std::vector<std::string> tokens;
  std::map<std::string, int32_t> ids;
  for (const unsigned char byte : BytesInAlphabetOrder()) tokens.emplace_back(1, static_cast<char>(byte));
  for (size_t id = 0; id < tokens.size(); ++id) ids[tokens[id]] = static_cast<int32_t>(id);
  std::vector<std::pair<std::vector<int32_t>, int64_t>> words;
  for (const auto& [piece, count] : counts) {
    words.push_back({{}, count});
    for (const char byte : piece) words.back().first.push_back(ids.at(std::string(1, byte)));
  }
  Merges merges;
  while (static_cast<int64_t>(tokens.size()) < vocab_size) {
    std::map<std::pair<int32_t, int32_t>, int64_t> pairs;
    for (const auto& [word, count] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) pairs[{word[i], word[i + 1]}] += count;
    }
    std::pair<int32_t, int32_t> best;
    int64_t best_count = min_count - 1;
    for (const auto& [pair, count] : pairs) {  // ascending, so the smaller pair wins a tie
      if (count > best_count && !ids.contains(tokens[pair.first] + tokens[pair.second])) {
        best = pair;
        best_count = count;
      }
    }
    if (best_count < min_count) break;
    const auto token = static_cast<int32_t>(tokens.size());
    merges.push_back(best);
    tokens.push_back(tokens[best.first] + tokens[best.second]);
    ids[tokens.back()] = token;
    for (auto& [word, count] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] == best.first && word[i + 1] == best.second) {
          word[i] = token;
          word.erase(word.begin() + i + 1);
        }
      }
    }
  }
  return merges;
}

absl::StatusOr<BpeDefinition> Train(const std::vector<std::string>& texts, BpeTrainerOptions options) {
  auto trainer = BpeTrainer::Create(std::move(options));
  if (!trainer.ok()) return trainer.status();
  for (const std::string& text : texts) EXPECT_TRUE((*trainer)->Add(text).ok());
  return (*trainer)->Train();
}

std::string RandomText(std::mt19937_64* random, const std::vector<std::string>& parts, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += parts[(*random)() % parts.size()];
  return text;
}

TEST(BpeTrainer, EqualsTheNaiveTrainer) {
  std::mt19937_64 random(FreshSeed());
  const std::vector<std::vector<std::string>> alphabets = {
      {"a", "b", " "},  // runs and overlaps: aaaa, abab
      {"a", "aa", "aaa", "ba", "\n"},
      {"the ", "then ", "there ", "other ", "\u3042\u3044", "\u3044\u3042", "\u3002", "1", "23", "'s "},
  };
  for (const auto& alphabet : alphabets) {
    for (int round = 0; round < 5; ++round) {
      const std::vector<std::string> texts = {RandomText(&random, alphabet, 400),
                                              RandomText(&random, alphabet, 30)};
      BpeTrainerOptions options;
      options.vocab_size = 330;
      options.specials = {};
      options.threads = 2;
      options.min_count = 1 + static_cast<int64_t>(random() % 3);
      const auto trained = Train(texts, options);
      ASSERT_TRUE(trained.ok()) << trained.status();
      EXPECT_EQ(trained->merges, NaiveTrain(texts, kGpt2Pattern, 330, options.min_count));
    }
  }
}

TEST(BpeTrainer, DoesNotDependOnThreadsNorOnTheOrderOfTexts) {
  std::mt19937_64 random(FreshSeed());
  std::vector<std::string> texts;
  for (int i = 0; i < 20; ++i) {
    texts.push_back(
        RandomText(&random, {"low", "er", "new", "est", " ", " ", "\n", "\u65e5\u672c", "\u8a9e"}, 10000));
  }
  BpeTrainerOptions options;
  options.vocab_size = 700;
  options.threads = 1;
  const auto expected = Train(texts, options);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const std::string hash = (*BpeTokenizer::Create(*expected))->Hash();
  for (const int threads : {2, 5}) {
    options.threads = threads;
    EXPECT_EQ((*BpeTokenizer::Create(*Train(texts, options)))->Hash(), hash) << threads << " threads";
  }
  std::shuffle(texts.begin(), texts.end(), random);
  EXPECT_EQ((*BpeTokenizer::Create(*Train(texts, options)))->Hash(), hash);
}

TEST(BpeTrainer, LearnsEightThousandTokensOfTinyshakespeareInSeconds) {
  TANREN_NEED_DATA(data);
  const std::string text = ReadAll(data + "/text/tinyshakespeare.txt");
  const auto start = std::chrono::steady_clock::now();
  BpeTrainerOptions options;
  options.vocab_size = 8192;
  const auto trained = Train({text}, options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
            20);  // 0.1 s on an idle machine
  // The merges of Hugging Face's BpeTrainer (tokenizers 0.23.3; byte-level, minimum frequency 2) on this
  // text.
  std::string merges;
  for (const auto& [left, right] : trained->merges) {
    merges += BytesToAlphabet(trained->tokens[left]) + " " + BytesToAlphabet(trained->tokens[right]) + "\n";
  }
  EXPECT_EQ(trained->merges.size(), 7935);
  EXPECT_EQ(Sha256Hex(merges), "e7f4edee4cd707313774beed18dbbb8b9e87b451d79523db586f9647bfea88e4");
}

TEST(BpeTrainer, StopsWhereNothingRepeats) {
  BpeTrainerOptions options;
  options.vocab_size = 1000;
  const auto trained = Train({"abcabc xyz"}, options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_EQ(trained->tokens.size(), 256 + 2 + 1);  // ab, abc and the special token
  EXPECT_EQ(trained->tokens.back(), "<|endoftext|>");
  EXPECT_EQ(trained->roles.end_of_text, 258);
}

TEST(BpeTrainer, NeverLearnsTheTextOfASpecialToken) {
  BpeTrainerOptions options;
  options.vocab_size = 300;
  options.specials = {"User"};
  TemporaryDirectory directory;
  const auto trained = Train({"User UserUser User Users"}, options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  const auto tokenizer = BpeTokenizer::Create(*trained);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_TRUE((*tokenizer)->Save(directory / "t").ok());
  EXPECT_EQ((*LoadTokenizer(directory / "t"))->Hash(), (*tokenizer)->Hash());
}

TEST(BpeTrainer, RefusesWhatCannotBe) {
  const auto message = [](BpeTrainerOptions options) {
    const auto trainer = BpeTrainer::Create(std::move(options));
    return trainer.ok() ? std::string("accepted") : std::string(trainer.status().message());
  };
  BpeTrainerOptions options;
  options.vocab_size = 256;
  EXPECT_THAT(message(options), HasSubstr("need at least 257"));
  options.vocab_size = int64_t{1} << 40;
  EXPECT_THAT(message(options), HasSubstr("the limit is 4000000"));
  options = {};
  options.split = "gpt5";
  EXPECT_THAT(message(options), HasSubstr("\"gpt5\" is none of gpt2, gpt4 and qwen"));
}

}  // namespace
}  // namespace tanren
