// Broken tokenizer files: an error that names the place, in bounded time and memory, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "core/tokenizer/bpe_files.h"
#include "core/tokenizer/bpe_tokenizer.h"
#include "core/tokenizer/byte_alphabet.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A vocabulary of the bytes, "ab" and "abc", and a special token.
json Vocabulary() {
  json vocabulary;
  for (int id = 0; id < 256; ++id) {
    vocabulary[BytesToAlphabet(std::string(1, static_cast<char>(BytesInAlphabetOrder()[id])))] = id;
  }
  vocabulary["ab"] = 256;
  vocabulary["abc"] = 257;
  vocabulary["<|endoftext|>"] = 258;
  return vocabulary;
}
constexpr const char* kMerges = "#version: 0.2\na b\nab c\n";

json HuggingFace() {
  json vocabulary = Vocabulary();
  return {{"added_tokens", json::array({{{"id", 258}, {"content", "<|endoftext|>"}, {"special", true}}})},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array({"a b", "ab c"})}}}};
}

std::string LoadError(const std::string& path) {
  const auto start = std::chrono::steady_clock::now();
  const auto tokenizer = LoadTokenizer(path);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 2);
  return tokenizer.ok() ? "no error" : std::string(tokenizer.status().message());
}

std::string PairError(const std::string& vocabulary, const std::string& merges) {
  TemporaryDirectory directory;
  WriteAll(directory / "t/encoder.json", vocabulary);
  WriteAll(directory / "t/vocab.bpe", merges);
  return LoadError(directory / "t");
}

std::string HuggingFaceError(const json& root) {
  TemporaryDirectory directory;
  WriteAll(directory / "tokenizer.json", root.dump());
  return LoadError(directory / "tokenizer.json");
}

TEST(MalformedPair, TheSoundPairLoads) {
  EXPECT_EQ(PairError(Vocabulary().dump(), kMerges), "no error");
  EXPECT_EQ(HuggingFaceError(HuggingFace()), "no error");
}

TEST(MalformedPair, NamesWhatIsWrongInTheVocabulary) {
  const auto with = [](const char* token, const json& id) {
    json vocabulary = Vocabulary();
    vocabulary[token] = id;
    return PairError(vocabulary.dump(), kMerges);
  };
  EXPECT_THAT(with("ab", 900),
              HasSubstr("encoder.json: the token \"ab\" has id 900, but there are 259 tokens"));
  EXPECT_THAT(with("ab", 255), HasSubstr("share id 255"));
  EXPECT_THAT(with("ab", -1), HasSubstr("the token \"ab\" has id -1"));
  EXPECT_THAT(with("ab", 1.5), HasSubstr("the token \"ab\" has \"1.5\" where its id should be"));
  EXPECT_THAT(with("ab", "1"), HasSubstr("where its id should be"));
  EXPECT_THAT(with("ab", uint64_t{18446744073709551615u}), HasSubstr("ids are below 2^31"));
  EXPECT_THAT(with("", 259), HasSubstr("is empty"));
  json no_byte = Vocabulary();
  no_byte.erase("!");
  no_byte["ac"] = 0;
  EXPECT_THAT(PairError(no_byte.dump(), kMerges), HasSubstr("byte 0x21 is no token"));
}

TEST(MalformedPair, NamesTheLineOfABadMerge) {
  const std::string vocabulary = Vocabulary().dump();
  EXPECT_THAT(PairError(vocabulary, "#version: 0.2\na b\nx yz\n"),
              HasSubstr("vocab.bpe:3: the merge of \"x\" and \"yz\": \"yz\" is not in the vocabulary"));
  EXPECT_THAT(PairError(vocabulary, "a b\nb c\n"), HasSubstr("\"bc\" is not in the vocabulary"));
  EXPECT_THAT(PairError(vocabulary, "a b\na b\n"),
              HasSubstr("merge 1 joins \"a\" and \"b\" as an earlier merge does"));
  EXPECT_THAT(PairError(vocabulary, "a b c\n"), HasSubstr("vocab.bpe:1: a merge is two tokens"));
  EXPECT_THAT(PairError(vocabulary, "abc\n"), HasSubstr("vocab.bpe:1: a merge is two tokens"));
  // A cycle: a token made of itself and nothing.
  EXPECT_THAT(PairError(vocabulary, " ab\n"), HasSubstr("would make a token from itself"));
  EXPECT_THAT(PairError(vocabulary, "a \n"), HasSubstr("would make a token from itself"));
}

TEST(MalformedJson, NamesThePlace) {
  const auto error = [](const std::string& text) { return PairError(text, kMerges); };
  EXPECT_THAT(error("{\"a\": 1,\n \"b\": }"), HasSubstr("encoder.json:2:7: not JSON"));
  EXPECT_THAT(error(Vocabulary().dump().substr(0, 900)), HasSubstr("encoder.json:1:9"));
  EXPECT_THAT(error(""), HasSubstr("not JSON"));
  EXPECT_THAT(error("{\"a\": 0, \"a\": 1}"), HasSubstr("the key \"a\" appears twice"));
  EXPECT_THAT(error("{\"a\xff\": 0}"), HasSubstr("encoder.json:1:"));
  EXPECT_THAT(error("{\"a\": 1e999}"), HasSubstr("not JSON"));
  EXPECT_THAT(error("{\"a\": 123456789012345678901234567890}"), HasSubstr("where its id should be"));
  EXPECT_THAT(error(std::string(100000, '[')), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(error("[1, 2]"), HasSubstr("not an object"));
  EXPECT_THAT(error("{} {}"), HasSubstr("not JSON"));
}

TEST(MalformedHuggingFace, NamesWhatIsNotSupportedOrWrong) {
  const auto with = [](const char* pointer, const json& value) {
    json root = HuggingFace();
    root[json::json_pointer(pointer)] = value;
    return HuggingFaceError(root);
  };
  EXPECT_THAT(with("/model/type", "Unigram"), HasSubstr("model.type: \"\\\"Unigram\\\"\" is not supported"));
  EXPECT_THAT(with("/model/byte_fallback", true), HasSubstr("byte_fallback"));
  EXPECT_THAT(with("/model/dropout", 0.1), HasSubstr("dropout"));
  EXPECT_THAT(with("/model/vocab", json::array()), HasSubstr("model.vocab: the vocabulary is not an object"));
  EXPECT_THAT(with("/model/merges", 3), HasSubstr("model.merges is not a list"));
  EXPECT_THAT(with("/model/merges/1", json::array({"ab", "zz"})), HasSubstr("model.merges[1]: the merge of"));
  EXPECT_THAT(with("/model/merges/1", 7), HasSubstr("model.merges[1]: \"7\" is not a merge"));
  EXPECT_THAT(with("/normalizer", {{"type", "Lowercase"}}), HasSubstr("normalizer"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}}), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(with("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(with("/added_tokens/0/id", 5),
              HasSubstr("added_tokens[0]: the token \"<|endoftext|>\" has two ids"));
  EXPECT_THAT(with("/added_tokens/0/id", 2147483647), HasSubstr("added_tokens[0]"));
  EXPECT_THAT(with("/added_tokens/0/lstrip", true), HasSubstr("lstrip"));
  json bad_pattern = HuggingFace();
  bad_pattern["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       json::array(
           {{{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}, {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}})}};
  EXPECT_THAT(HuggingFaceError(bad_pattern), HasSubstr("the split pattern \"(a\" does not compile"));
}

TEST(MalformedFiles, AreRefusedByName) {
  TemporaryDirectory directory;
  EXPECT_THAT(LoadError(directory / "absent"), HasSubstr("no such tokenizer"));
  EXPECT_THAT(LoadError(directory.path()), HasSubstr("holds no tokenizer: expected vocabulary.json"));
  WriteAll(directory / "a/encoder.json", "{}");
  EXPECT_THAT(LoadError(directory / "a"), HasSubstr("has encoder.json but not vocab.bpe"));
  WriteAll(directory / "b.txt", "hello");
  EXPECT_THAT(LoadError(directory / "b.txt"), HasSubstr("so not a tokenizer"));
  WriteAll(directory / "c/vocabulary.json",
           R"({"format":"tanren.vocabulary","version":1,"kind":"characters","specials":[],"tokens":["ab"]})");
  EXPECT_THAT(LoadError(directory / "c"), HasSubstr("the token \"ab\" is not one character"));
  WriteAll(
      directory / "d/vocabulary.json",
      R"({"format":"tanren.vocabulary","version":1,"kind":"characters","specials":[],"tokens":["a","a"]})");
  EXPECT_THAT(LoadError(directory / "d"), HasSubstr("the token \"a\" appears twice"));
  WriteAll(directory / "e/vocabulary.json", R"({"format":"tanren.vocabulary","version":2,"kind":"bytes"})");
  EXPECT_THAT(LoadError(directory / "e"), HasSubstr("another version"));
  ASSERT_EQ(mkfifo((directory / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(LoadError(directory / "fifo"), HasSubstr("not a regular file"));
}

// Truncated and flipped at random: whatever happens, it is a Status, and what loads works.
TEST(MalformedFiles, RandomDamageNeverCrashes) {
  std::mt19937_64 random(FreshSeed());
  std::vector<std::pair<std::string, std::string>> files = {{"tokenizer.json", HuggingFace().dump()}};
  const std::string data = DataDirectory();
  if (!data.empty())
    files.emplace_back("tokenizer.model", ReadAll(data + "/tokenizer/llama2/tokenizer.model"));
  for (const auto& [name, content] : files) {
    TemporaryDirectory directory;
    const int rounds = name == "tokenizer.json" ? 300 : 40;
    for (int round = 0; round < rounds; ++round) {
      std::string damaged = content;
      if (round % 4 == 0) damaged.resize(random() % damaged.size());
      for (int flips = static_cast<int>(random() % 4); flips > 0 && !damaged.empty(); --flips) {
        damaged[random() % damaged.size()] ^= static_cast<char>(1 << random() % 8);
      }
      WriteAll(directory / name, damaged);
      const auto tokenizer = LoadTokenizer(directory / name);
      if (!tokenizer.ok()) {
        EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(name));
        continue;
      }
      const auto ids = (*tokenizer)->Encode("abc \u3042 def 123");
      if (!ids.ok()) continue;
      EXPECT_TRUE((*tokenizer)->Decode(*ids).ok());
    }
  }
}

}  // namespace
}  // namespace tanren
