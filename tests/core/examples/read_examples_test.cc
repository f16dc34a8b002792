// Files of examples: compressed or not, sound or damaged, and the published ones.
#include "core/examples/read_examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/status.h"
#include "tests/core/corpus/compress.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr char kGood[] = "{\"text\":\"a\"}\n";

TEST(ReadExamples, PlainAndCompressed) {
  TemporaryDirectory directory;
  const std::string lines = std::string(kGood) + "\n  \n{\"prompt\":\"p\",\"completion\":\"c\"}";
  WriteAll(directory / "a.jsonl", lines);
  WriteAll(directory / "a.jsonl.gz", Gzip(lines));
  WriteAll(directory / "a.jsonl.zst", Zstd(lines));
  for (const std::string name : {"a.jsonl", "a.jsonl.gz", "a.jsonl.zst"}) {
    ExampleReport report;
    const auto examples = ReadExamples(directory / name, {}, &report);
    ASSERT_TRUE(examples.ok()) << examples.status();
    ASSERT_THAT(*examples, SizeIs(2));
    EXPECT_EQ((*examples)[0].source, directory / name + ":1");
    EXPECT_EQ((*examples)[1].source, directory / name + ":4");
    EXPECT_EQ(report.lines, 2);
    EXPECT_THAT(report.formats, ElementsAre(Pair("prompt_completion", 1), Pair("text", 1)));
    EXPECT_EQ(report.ToString(), "2 examples (1 prompt_completion, 1 text)");
  }
}

TEST(ReadExamples, DamageIsCountedUpToTheLimit) {
  TemporaryDirectory directory;
  const std::string path = directory / "a.jsonl";
  std::string lines = "{\"text\":\"\"}\nbroken\n{\"text\":\"" + std::string(200, 'x') + "\"}\n";
  for (int i = 0; i < 7; ++i) lines += kGood;
  WriteAll(path, lines);
  ExampleOptions options;
  options.line_limit_bytes = 100;
  options.max_damaged_fraction = 0.3;
  ExampleReport report;
  const auto examples = ReadExamples(path, options, &report);
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_THAT(*examples, SizeIs(7));
  EXPECT_EQ(report.damaged, 3);
  EXPECT_THAT(report.reasons,
              ElementsAre(Pair("empty response", 1), Pair("line too long", 1), Pair("not JSON", 1)));
  EXPECT_THAT(report.examples,
              ElementsAre(HasSubstr(path + ":1: empty response"), HasSubstr(path + ":2: not JSON"),
                          HasSubstr(path + ":3: line too long")));
  EXPECT_THAT(report.ToString(), HasSubstr("3 of 10 lines left out"));

  options.max_damaged_fraction = 0.29;
  const absl::Status refused = ReadExamples(path, options, &report).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(View(refused.message())), HasSubstr(path + ":2: not JSON"));
}

TEST(ReadExamples, TheFirstTenDamagedLinesAreNamed) {
  TemporaryDirectory directory;
  std::string lines;
  for (int i = 0; i < 30; ++i) lines += "broken\n";
  WriteAll(directory / "a.jsonl", lines);
  ExampleOptions options;
  options.max_damaged_fraction = 1;
  ExampleReport report;
  const absl::Status refused = ReadExamples(directory / "a.jsonl", options, &report).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(View(refused.message())), HasSubstr("a.jsonl:10: not JSON"));
  EXPECT_THAT(report.examples, SizeIs(10));
  EXPECT_EQ(report.damaged, 30);
}

TEST(ReadExamples, FilesThatCannotBeRead) {
  TemporaryDirectory directory;
  ExampleReport report;
  EXPECT_TRUE(absl::IsNotFound(ReadExamples(directory / "none.jsonl", {}, &report).status()));
  WriteAll(directory / "empty.jsonl", "\n\n");
  EXPECT_TRUE(absl::IsInvalidArgument(ReadExamples(directory / "empty.jsonl", {}, &report).status()));
  std::string cut = Zstd(std::string(kGood) + kGood);
  cut.resize(cut.size() - 5);
  WriteAll(directory / "cut.jsonl.zst", cut);
  EXPECT_FALSE(ReadExamples(directory / "cut.jsonl.zst", {}, &report).ok());
  EXPECT_FALSE(ReadExamples(directory.path(), {}, &report).ok());
}

struct Published {
  const char* path;
  const char* format;
  int64_t lines;
  int64_t damaged;
};

// Counts were taken from the files with an independent script.
TEST(ReadExamples, PublishedSets) {
  TANREN_NEED_DATA(data);
  for (const Published& set : {Published{"instruct/jcommonsenseqa_train.jsonl", "prompt_completion", 8939, 0},
                               Published{"instruct/seed_tasks.jsonl", "alpaca", 175, 0},
                               Published{"instruct/t0_sample.jsonl.zst", "prompt_completion", 8000, 0},
                               Published{"math/gsm8k_train.jsonl", "prompt_completion", 7473, 0},
                               Published{"preference/hh_harmless_train.jsonl.zst", "preference", 1813, 7}}) {
    ExampleReport report;
    const auto examples = ReadExamples(data + "/" + set.path, {}, &report);
    ASSERT_TRUE(examples.ok()) << examples.status();
    EXPECT_EQ(report.lines, set.lines) << set.path;
    EXPECT_EQ(report.damaged, set.damaged) << set.path << ": " << report.ToString();
    EXPECT_THAT(report.formats, ElementsAre(Pair(set.format, static_cast<int64_t>(examples->size()))));
    if (std::string(set.path) == "math/gsm8k_train.jsonl") {
      EXPECT_EQ(examples->front().answer, "72");
      EXPECT_EQ((*examples)[1].answer, "10");
    }
    if (std::string(set.path) == "instruct/jcommonsenseqa_train.jsonl") {
      EXPECT_THAT(examples->front().responses, ElementsAre("絵本"));
    }
  }
}

}  // namespace
}  // namespace tanren
