// Byte-level BPE against a naive one, on awkward bytes, long pieces and from several threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <thread>

#include "core/tokenizer/bpe_merges.h"
#include "core/tokenizer/bpe_tokenizer.h"
#include "core/tokenizer/bpe_trainer.h"
#include "core/tokenizer/split_pattern.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

// The definition of the algorithm, and nothing else.
std::vector<int32_t> NaiveMerge(const BpeDefinition& definition, std::string_view piece) {
  std::map<std::string, int32_t> ids;
  for (size_t id = 0; id < definition.tokens.size(); ++id)
    ids[definition.tokens[id]] = static_cast<int32_t>(id);
  std::vector<int32_t> symbols;
  for (const char byte : piece) symbols.push_back(ids.at(std::string(1, byte)));
  for (;;) {
    size_t best_rank = definition.merges.size();
    size_t best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (definition.merges[rank] == std::pair(symbols[i], symbols[i + 1])) {
          best_rank = rank;
          best = i;
        }
      }
    }
    if (best_rank == definition.merges.size()) return symbols;
    symbols[best] = ids.at(definition.tokens[symbols[best]] + definition.tokens[symbols[best + 1]]);
    symbols.erase(symbols.begin() + best + 1);
  }
}

// Random merges, in an order in which later tokens may be parts of earlier merges' neighbours.
BpeDefinition RandomDefinition(std::mt19937_64* random, int merges) {
  BpeDefinition definition;
  for (int byte = 0; byte < 256; ++byte) definition.tokens.emplace_back(1, static_cast<char>(byte));
  std::map<std::string, int> known;
  std::vector<int32_t> alphabet = {'a', 'b', 'c'};
  while (static_cast<int>(definition.merges.size()) < merges) {
    const int32_t left = alphabet[(*random)() % alphabet.size()];
    const int32_t right = alphabet[(*random)() % alphabet.size()];
    const std::string product = definition.tokens[left] + definition.tokens[right];
    if (product.size() > 12 || !known.emplace(product, 0).second) continue;
    definition.merges.emplace_back(left, right);
    alphabet.push_back(static_cast<int32_t>(definition.tokens.size()));
    definition.tokens.push_back(product);
  }
  std::shuffle(definition.merges.begin(), definition.merges.end(), *random);
  return definition;
}

TEST(MergePiece, EqualsTheNaiveMergeForShortAndLongPieces) {
  std::mt19937_64 random(FreshSeed());
  for (int round = 0; round < 20; ++round) {
    const BpeDefinition definition = RandomDefinition(&random, 30);
    MergeTable table(static_cast<int64_t>(definition.merges.size()));
    std::map<std::string, int32_t> ids;
    for (size_t id = 0; id < definition.tokens.size(); ++id)
      ids[definition.tokens[id]] = static_cast<int32_t>(id);
    for (size_t rank = 0; rank < definition.merges.size(); ++rank) {
      const auto [left, right] = definition.merges[rank];
      const std::string product = definition.tokens[left] + definition.tokens[right];
      ASSERT_TRUE(table.Insert(left, right, {static_cast<uint32_t>(rank), ids[product]}));
    }
    int32_t byte_ids[256];
    for (int byte = 0; byte < 256; ++byte) byte_ids[byte] = byte;
    MergeScratch scratch;
    for (const size_t length : {1, 2, 3, 17, 95, 96, 97, 98, 300}) {
      std::string piece;
      for (size_t i = 0; i < length; ++i) piece.push_back("abcd"[random() % 16 == 0 ? 3 : random() % 3]);
      std::vector<int32_t> merged;
      MergePiece(table, byte_ids, piece, &scratch, &merged);
      EXPECT_EQ(merged, NaiveMerge(definition, piece)) << piece;
    }
  }
}

BpeTrainerOptions SmallOptions(const std::string& split) {
  BpeTrainerOptions options;
  options.vocab_size = 400;
  options.split = split;
  options.threads = 1;
  return options;
}

constexpr const char* kMixedText =
    "The quick brown fox jumps over the lazy dog, doesn't it? The dog's lazy; the fox isn't.\n"
    "\u543e\u8f29\u306f\u732b\u3067\u3042\u308b\u3002\u540d\u524d\u306f\u307e\u3060\u7121\u3044\u3002\u3000"
    "\u3069"
    "\u3053\u3067\u751f\u308c\u305f\u304b\u3068\u3093\u3068\u898b\u5f53\u304c\u3064\u304b\u306c\u3002\n"
    "12345 + 67890 = 80235\n\n  indented\twith tabs\r\nand CRLF\r\n";

std::unique_ptr<BpeTokenizer> SmallTokenizer(const std::string& split = "gpt2") {
  auto trainer = BpeTrainer::Create(SmallOptions(split));
  EXPECT_TRUE((*trainer)->Add(kMixedText).ok());
  EXPECT_TRUE((*trainer)->Add(kMixedText).ok());
  auto tokenizer = BpeTokenizer::Create(*(*trainer)->Train());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// Bytes that are mostly broken UTF-8, mixed with whole characters.
std::string RandomBytes(std::mt19937_64* random, size_t length) {
  static const std::string kParts[] = {" ",
                                       "\n",
                                       "a",
                                       "the",
                                       "\u3042",
                                       "\U0001F600",
                                       "\xff",
                                       "\xe3\x81",
                                       "\xc0\x80",
                                       "\xed\xa0\x80",
                                       std::string(1, '\0'),
                                       "'s",
                                       "\u3000",
                                       "9",
                                       "\xf4\x90\x80\x80"};
  std::string text;
  while (text.size() < length) {
    if ((*random)() % 4 == 0) {
      text.push_back(static_cast<char>((*random)()));
    } else {
      text += kParts[(*random)() % std::size(kParts)];
    }
  }
  return text;
}

TEST(BpeTokenizer, EveryByteSequenceComesBack) {
  std::mt19937_64 random(FreshSeed());
  for (const std::string split : {"gpt2", "gpt4", "qwen"}) {
    const auto tokenizer = SmallTokenizer(split);
    for (int round = 0; round < 200; ++round) {
      const std::string text = RandomBytes(&random, random() % 300);
      const auto ids = tokenizer->Encode(text);
      ASSERT_TRUE(ids.ok()) << ids.status();
      ASSERT_EQ(*tokenizer->Decode(*ids), text);
    }
  }
}

TEST(BpeTokenizer, ACutChangesNothing) {
  std::mt19937_64 random(FreshSeed());
  static const std::string kParts[] = {"word",         "B",   " ",  "  ", "\n",   "\n\n", ".\n",    "\u3000",
                                       "\u3042\u3044", "12",  "'s", "!?", "\r\n", "\t",   "\u00a0", "e\u0301",
                                       "\u0085",       "\xff"};
  int cuts = 0;
  for (const std::string split : {"gpt2", "gpt4", "qwen"}) {
    const auto tokenizer = SmallTokenizer(split);
    for (int round = 0; round < 3000; ++round) {
      std::string text;
      for (int i = 0; i < 12; ++i) text += kParts[random() % std::size(kParts)];
      const std::string seen = text.substr(0, text.size() - random() % 6);
      const size_t cut = tokenizer->LastCut(seen);
      ASSERT_LT(cut, seen.size());
      if (cut == 0) continue;
      ++cuts;
      auto ids = *tokenizer->Encode(text.substr(0, cut));
      ASSERT_TRUE(tokenizer->EncodeTo(text.substr(cut), &ids).ok());
      ASSERT_EQ(ids, *tokenizer->Encode(text))
          << split << ": " << testing::PrintToString(text) << " at " << cut;
    }
  }
  EXPECT_GT(cuts, 1000);
}

TEST(BpeTokenizer, AMebibyteInOnePieceIsNotQuadratic) {
  const auto tokenizer = SmallTokenizer();
  std::mt19937_64 random(FreshSeed());
  std::string letters;
  for (int i = 0; i < 1 << 20; ++i) letters.push_back("thequickbrownfox"[random() % 16]);
  for (const std::string& text :
       {letters, std::string(1 << 20, 'o'), std::string(1 << 20, ' '), std::string(1 << 20, '\n'),
        std::string(1 << 20, '\xff'), std::string(1 << 20, '!')}) {
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer->Encode(text);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*tokenizer->Decode(*ids), text);
    // A quadratic merge of 2^20 symbols takes minutes; the heap takes about 0.3 s, more on a busy machine.
    EXPECT_LT(seconds, 10) << "text of " << static_cast<int>(text[0]);
  }
}

TEST(BpeTokenizer, EncodesTheSameFromManyThreads) {
  const auto tokenizer = SmallTokenizer();
  const auto expected = *tokenizer->Encode(kMixedText);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) wrong += *tokenizer->Encode(kMixedText) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(BpeTokenizer, SaveKeepsEverythingThatDecidesIds) {
  TemporaryDirectory directory;
  BpeDefinition definition = SmallTokenizer("gpt4")->definition();
  definition.tokens.push_back("<s>");
  definition.specials.push_back({"<s>", static_cast<int32_t>(definition.tokens.size()) - 1});
  definition.roles = RolesByName(definition.specials);
  definition.roles.prepend_bos = true;
  definition.normalise_nfc = true;
  definition.ignore_merges = true;
  definition.split_patterns.insert(definition.split_patterns.begin(), R"(\p{Han}+)");
  const auto tokenizer = BpeTokenizer::Create(definition);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_TRUE((*tokenizer)->Save(directory / "t").ok());
  const auto loaded = LoadTokenizer(directory / "t");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->Hash(), (*tokenizer)->Hash());
  EXPECT_TRUE((*loaded)->roles().prepend_bos);
  EXPECT_EQ(*(*loaded)->Encode(kMixedText), *(*tokenizer)->Encode(kMixedText));
  // Each part of the definition is in the hash.
  definition.ignore_merges = false;
  EXPECT_NE((*BpeTokenizer::Create(definition))->Hash(), (*tokenizer)->Hash());
}

TEST(BpeTokenizer, NfcJoinsWhatBelongsTogether) {
  BpeDefinition definition = SmallTokenizer()->definition();
  definition.normalise_nfc = true;
  const auto tokenizer = BpeTokenizer::Create(definition);
  EXPECT_EQ(*(*tokenizer)->Encode("cafe\u0301"), *(*tokenizer)->Encode("caf\u00e9"));
  EXPECT_EQ(*(*tokenizer)->Decode(*(*tokenizer)->Encode("e\u0301\xff")), "\u00e9\xff");
}

TEST(BpeTokenizer, IdsOutsideOfTheVocabularyDoNotDecode) {
  const auto tokenizer = SmallTokenizer();
  for (const int32_t id : {-1, 400, 1 << 30}) {
    const auto text = tokenizer->Decode({0, id});
    ASSERT_FALSE(text.ok());
    EXPECT_THAT(std::string(text.status().message()), HasSubstr("token 1 of the sequence is id"));
    EXPECT_EQ(tokenizer->DecodeToken(id), "");
  }
}

TEST(SplitPattern, AnExplodingPatternGivesUp) {
  const auto pattern = SplitPattern::Compile(R"((?:a+a+)+[bc])");
  ASSERT_TRUE(pattern.ok());
  SplitScratch scratch;
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = pattern->Split(std::string(5000, 'a'), &scratch, [](std::string_view) {});
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("gives up at byte"));
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 5);
}

}  // namespace
}  // namespace tanren
