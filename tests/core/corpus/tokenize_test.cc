// From files to a corpus: splits, threads, caching, damage, and what is never overwritten.
#include "core/corpus/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "core/corpus/token_corpus.h"
#include "core/corpus/train_tokenizer.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "tests/core/corpus/compress.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> AllTokens(const std::string& directory) {
  const auto corpus = TokenCorpus::Open(directory);
  EXPECT_TRUE(corpus.ok()) << corpus.status();
  if (!corpus.ok()) return {};
  EXPECT_TRUE((*corpus)->Verify().ok()) << (*corpus)->Verify();
  std::vector<int32_t> ids(static_cast<size_t>((*corpus)->num_tokens()));
  EXPECT_TRUE((*corpus)->Read(0, absl::MakeSpan(ids)).ok());
  return ids;
}

std::string ErrorOf(const TokenizeOptions& options, const Tokenizer& tokenizer) {
  const auto summary = TokenizeCorpus(options, tokenizer);
  return summary.ok() ? std::string("no error") : std::string(summary.status().message());
}

TokenizeOptions Options(std::vector<std::string> inputs, const std::string& out) {
  TokenizeOptions options;
  options.inputs = std::move(inputs);
  options.out = out;
  options.threads = 2;
  return options;
}

int EntriesOf(const std::string& directory) {
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++entries;
  return entries;
}

TEST(Tokenize, TinyshakespeareInHalvesAsPublished) {
  TANREN_NEED_DATA(data);
  TemporaryDirectory directory;
  const auto gpt2 = *LoadTokenizer(data + "/tokenizer/gpt2");
  TokenizeOptions options = Options({data + "/text/tinyshakespeare.txt"}, directory / "c");
  options.splits = {{"train", 0.9}, {"validation", 0.1}};
  options.append_end_of_text = false;
  const auto summary = TokenizeCorpus(options, *gpt2);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_TRUE(summary->split_by_position);
  EXPECT_EQ(summary->splits[0].manifest.tokens, 301966);
  EXPECT_EQ(summary->splits[1].manifest.tokens, 36059);
  EXPECT_EQ(summary->splits[0].manifest.text_bytes + summary->splits[1].manifest.text_bytes, 1115394);
  options.append_end_of_text = true;
  options.force = true;
  EXPECT_EQ(TokenizeCorpus(options, *gpt2)->splits[0].manifest.tokens, 301967);
  EXPECT_EQ(AllTokens(directory / "c/train").back(), 50256);
}

// A long text, so that it goes through in many parts and batches.
std::string LongText(std::mt19937_64* random, size_t bytes) {
  static const std::string kParts[] = {"the ",   "cat", " sat\n", "\u732b\u3067", "\u3002\n",
                                       "\u3000", "12 ", "\n\n",   "It's "};
  std::string text;
  while (text.size() < bytes) text += kParts[(*random)() % std::size(kParts)];
  return text;
}

TEST(Tokenize, EqualsEncodingAtOnceAtAnyNumberOfThreads) {
  std::mt19937_64 random(FreshSeed());
  TemporaryDirectory directory;
  const std::string text = LongText(&random, 6 << 20);
  WriteAll(directory / "a.txt.zst", Zstd(text));
  WriteAll(directory / "sample.txt", text.substr(0, 100000));
  TrainTokenizerOptions train;
  train.inputs = {directory / "sample.txt"};
  train.vocab_size = 400;
  train.max_damaged_fraction = 1;
  DamageReport damage;
  const auto bpe = *TrainTokenizer(train, &damage);
  auto expected = *bpe->Encode(text);
  expected.push_back(bpe->roles().end_of_text);
  std::string hash;
  for (const int threads : {1, 2, 5}) {
    TokenizeOptions options = Options({directory / "a.txt.zst"}, directory / ("c" + std::to_string(threads)));
    options.threads = threads;
    options.shard_tokens = 1000003;
    const auto summary = TokenizeCorpus(options, *bpe);
    ASSERT_TRUE(summary.ok()) << summary.status();
    const CorpusManifest& manifest = summary->splits[0].manifest;
    EXPECT_EQ(manifest.documents, 1);
    EXPECT_EQ(manifest.text_bytes, text.size());
    EXPECT_GT(manifest.shards.size(), 1);
    if (threads == 1) {
      EXPECT_EQ(AllTokens(options.out), expected);
    }
    if (hash.empty()) hash = manifest.content_hash;
    EXPECT_EQ(manifest.content_hash, hash);
  }
}

TEST(Tokenize, SplitsByPositionInCharacters) {
  TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 101; ++i) text += i % 2 ? "\u732b" : "a";
  WriteAll(directory / "a.txt", text);
  TokenizeOptions options = Options({directory / "a.txt"}, directory / "c");
  options.splits = {{"train", 0.9}, {"validation", 0.1}};
  const auto bytes = *MakeByteTokenizer();
  ASSERT_TRUE(TokenizeCorpus(options, *bytes).ok());
  const auto train = AllTokens(directory / "c/train");
  const auto validation = AllTokens(directory / "c/validation");
  // int(101 * 0.9) = 90 characters, half of them of three bytes, and the end of text.
  EXPECT_EQ(train.size(), 45 + 45 * 3 + 1);
  EXPECT_EQ(validation.size(), text.size() - 180 + 1);
  EXPECT_EQ(*bytes->Decode(train) + *bytes->Decode(validation),
            text.substr(0, 180) + "<|endoftext|>" + text.substr(180) + "<|endoftext|>");
}

TEST(Tokenize, SplitsByDocumentWhateverTheOrder) {
  TemporaryDirectory directory;
  std::string forward;
  std::string backward;
  for (int i = 0; i < 1000; ++i) {
    const std::string line = "{\"text\":\"document " + std::to_string(i) + "\"}\n";
    forward += line;
    backward = line + backward;
  }
  WriteAll(directory / "f.jsonl", forward);
  WriteAll(directory / "b.jsonl.gz", Gzip(backward));
  const auto bytes = *MakeByteTokenizer();
  std::set<std::string> seen[2];
  for (const int way : {0, 1}) {
    TokenizeOptions options =
        Options({directory / (way == 0 ? "f.jsonl" : "b.jsonl.gz")}, directory / ("c" + std::to_string(way)));
    options.splits = {{"validation", 0.1}};  // and train with what is left
    const auto summary = TokenizeCorpus(options, *bytes);
    ASSERT_TRUE(summary.ok()) << summary.status();
    EXPECT_FALSE(summary->split_by_position);
    EXPECT_EQ(summary->splits[0].manifest.documents + summary->splits[1].manifest.documents, 1000);
    const auto corpus = *TokenCorpus::Open(options.out + "/validation");
    for (int64_t i = 0; i < corpus->num_documents(); ++i) {
      std::vector<int32_t> ids(static_cast<size_t>(corpus->DocumentBegin(i + 1) - corpus->DocumentBegin(i)));
      ASSERT_TRUE(corpus->Read(corpus->DocumentBegin(i), absl::MakeSpan(ids)).ok());
      seen[way].insert(*bytes->Decode(ids));
    }
  }
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_GT(seen[0].size(), 60);
  EXPECT_LT(seen[0].size(), 140);
}

TEST(Tokenize, PutsBosInFrontWhereTheModelWasMadeWithIt) {
  TANREN_NEED_DATA(data);
  TemporaryDirectory directory;
  WriteAll(directory / "a.jsonl", "{\"text\":\"I believe\"}\n{\"text\":\"I believe\"}\n");
  TokenizeOptions options = Options({directory / "a.jsonl"}, directory / "c");
  const auto summary = TokenizeCorpus(options, **LoadTokenizer(data + "/tokenizer/llama2"));
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(AllTokens(directory / "c"), ElementsAre(1, 306, 4658, 2, 1, 306, 4658, 2));
  EXPECT_EQ(summary->splits[0].manifest.bos, 1);
  EXPECT_EQ(summary->splits[0].manifest.text_bytes, 18);
}

TEST(Tokenize, DoesNothingTwiceAndOverwritesNothing) {
  TemporaryDirectory directory;
  WriteAll(directory / "a.txt", "hello");
  const auto bytes = *MakeByteTokenizer();
  TokenizeOptions options = Options({directory / "a.txt"}, directory / "c/");
  EXPECT_FALSE(TokenizeCorpus(options, *bytes)->up_to_date);
  const auto written = std::filesystem::last_write_time(directory / "c/corpus.json");
  options.threads = 5;
  EXPECT_TRUE(TokenizeCorpus(options, *bytes)->up_to_date);
  EXPECT_EQ(std::filesystem::last_write_time(directory / "c/corpus.json"), written);

  WriteAll(directory / "a.txt", "hello!");
  EXPECT_THAT(ErrorOf(options, *bytes), HasSubstr("replace it with --force"));
  EXPECT_EQ(AllTokens(directory / "c").size(), 6);
  options.force = true;
  ASSERT_TRUE(TokenizeCorpus(options, *bytes).ok());
  EXPECT_EQ(AllTokens(directory / "c").size(), 7);
  EXPECT_EQ(EntriesOf(directory.path()), 2);

  // A damaged corpus is not "up to date".
  WriteAll(directory / "c/corpus.json", "{}");
  options.force = false;
  EXPECT_THAT(ErrorOf(options, *bytes), HasSubstr("is damaged; make it anew with --force"));

  WriteAll(directory / "mine/notes.txt", "keep");
  options.out = directory / "mine";
  options.force = true;
  EXPECT_THAT(ErrorOf(options, *bytes), HasSubstr("is no corpus made by `tanren data tokenize`"));
  EXPECT_EQ(ReadAll(directory / "mine/notes.txt"), "keep");
}

TEST(Tokenize, TooMuchDamageIsAnErrorAndLeavesNothing) {
  TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 100; ++i) text += i % 10 == 3 ? "{\"text\":\n" : "{\"text\":\"fine\"}\n";
  WriteAll(directory / "a.jsonl", text);
  TokenizeOptions options = Options({directory / "a.jsonl"}, directory / "c");
  const auto bytes = *MakeByteTokenizer();
  EXPECT_THAT(ErrorOf(options, *bytes), testing::AllOf(HasSubstr("10 of 100 lines are damaged"),
                                                       HasSubstr("a.jsonl:4: not a JSON object")));
  EXPECT_EQ(EntriesOf(directory.path()), 1);
  options.max_damaged_fraction = 0.1;
  const auto summary = TokenizeCorpus(options, *bytes);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->damage.total(), 10);
  EXPECT_EQ(summary->splits[0].manifest.documents, 90);
  EXPECT_EQ(TokenizeCorpus(options, *bytes)->damage.total(), 10);  // said again when up to date
}

TEST(Tokenize, TextThatDoesNotEncodeIsNamedAndLeavesNothing) {
  TemporaryDirectory directory;
  WriteAll(directory / "a.txt", "abab\nabz\n");
  TokenizeOptions options = Options({directory / "a.txt"}, directory / "c");
  EXPECT_THAT(
      ErrorOf(options, **MakeCharacterTokenizer({"a", "b", "\n"}, {})),
      HasSubstr("a.txt:1: the character \"z\" (U+007A) at byte 7 of the text is not in the vocabulary"));
  EXPECT_EQ(EntriesOf(directory.path()), 1);
}

TEST(Tokenize, RefusesWrongOptions) {
  TemporaryDirectory directory;
  WriteAll(directory / "a.txt", "hello");
  WriteAll(directory / "b.txt", "");
  const auto bytes = *MakeByteTokenizer();
  const auto with = [&](const std::function<void(TokenizeOptions*)>& change) {
    TokenizeOptions options = Options({directory / "a.txt"}, directory / "c");
    change(&options);
    return ErrorOf(options, *bytes);
  };
  EXPECT_THAT(with([](auto* o) { o->inputs.clear(); }), HasSubstr("no input files"));
  EXPECT_THAT(with([](auto* o) { o->inputs = {"/absent.txt"}; }), HasSubstr("/absent.txt: cannot open"));
  EXPECT_THAT(with([&](auto* o) { o->inputs = {directory / "b.txt"}; }),
              HasSubstr("the inputs hold no text"));
  EXPECT_THAT(with([](auto* o) {
                o->splits = {{"train", 0.5}, {"x", 0.3}};
              }),
              HasSubstr("sum to 0.8, not to 1"));
  EXPECT_THAT(with([](auto* o) { o->splits = {{"x", 0.5}, {"x", 0.5}}; }), HasSubstr("given twice"));
  EXPECT_THAT(with([](auto* o) {
                o->splits = {{"x", 0.01}, {"train", 0.99}};
              }),
              HasSubstr("the split x gets no document"));
  EXPECT_THAT(with([&](auto* o) {
                o->inputs.push_back(directory / "b.txt");
                o->splits = {{"x", 0.5}};
                o->split_by = TokenizeOptions::SplitBy::kPosition;
              }),
              HasSubstr("splitting by position needs one text file"));
  EXPECT_FALSE(std::filesystem::exists(directory / "c"));
}

// A limit on the size of files stands for a disk without room: both make a write fail in the middle.
TEST(Tokenize, AFailedWriteLeavesNothing) {
  TemporaryDirectory directory;
  WriteAll(directory / "a.txt", std::string(6 << 20, 'x') + "\n");
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{8 << 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const std::string error = ErrorOf(Options({directory / "a.txt"}, directory / "c"), **MakeByteTokenizer());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(error, HasSubstr("shard-00000.tokens: cannot write: File too large"));
  EXPECT_EQ(EntriesOf(directory.path()), 1);
}

TEST(ParseCorpusSplit, ReadsANameAndAFraction) {
  const auto split = ParseCorpusSplit("validation=0.1");
  ASSERT_TRUE(split.ok());
  EXPECT_EQ(split->name, "validation");
  EXPECT_EQ(split->fraction, 0.1);
  for (const char* bad : {"", "x", "=0.1", "x=", "x=0", "x=1.5", "x=nan", "x=-1", "../x=0.1", "a/b=0.5",
                          ".=0.5", "tokenizer=0.5", "x=0.1y"}) {
    EXPECT_FALSE(ParseCorpusSplit(bad).ok()) << bad;
  }
}

TEST(TrainTokenizer, MakesEveryKindFromFiles) {
  TemporaryDirectory directory;
  WriteAll(directory / "a.txt", "I love AI . AI loves people .\n");
  WriteAll(directory / "b.jsonl", "{\"text\":\"\u732b\"}\n");
  TrainTokenizerOptions options;
  options.inputs = {directory / "a.txt", directory / "b.jsonl"};
  options.vocab_size = 260;
  DamageReport damage;
  for (const char* kind : {"bpe", "bytes", "characters", "whitespace"}) {
    options.kind = kind;
    const auto tokenizer = TrainTokenizer(options, &damage);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->kind(), kind);
    EXPECT_GE((*tokenizer)->roles().end_of_text, 0);
    EXPECT_TRUE((*tokenizer)->Encode("AI loves \u732b").ok()) << kind;
  }
  options.kind = "words";
  EXPECT_THAT(std::string(TrainTokenizer(options, &damage).status().message()),
              HasSubstr("\"words\" is none of"));
  options.kind = "bpe";
  options.inputs.clear();
  EXPECT_THAT(std::string(TrainTokenizer(options, &damage).status().message()), HasSubstr("no input files"));
}

}  // namespace
}  // namespace tanren
