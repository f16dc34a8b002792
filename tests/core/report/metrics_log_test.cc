#include "core/report/metrics_log.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <csignal>
#include <limits>
#include <random>

#include "core/report/samples_log.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string Line(int64_t step) {
  return MetricsRecord(step).Add("loss", 1.0 / static_cast<double>(step)).ToJson();
}

std::string Lines(int64_t from, int64_t to) {
  std::string out;
  for (int64_t step = from; step <= to; ++step) out += Line(step) + "\n";
  return out;
}

TEST(MetricsRecord, IsOneFlatObjectInTheOrderOfAdding) {
  const MetricsRecord record = MetricsRecord(10).Add("loss", 4.25).Add("lr", 6e-4).Add("tokens", 819200);
  EXPECT_EQ(record.ToJson(), R"({"step":10,"loss":4.25,"lr":0.0006,"tokens":819200})");
}

TEST(MetricsRecord, WritesWhatIsNotFiniteAsStrings) {
  const MetricsRecord record =
      MetricsRecord(1).Add("a", std::nan("")).Add("b", kInfinity).Add("c", -kInfinity).Add("d", -0.0);
  EXPECT_EQ(record.ToJson(), R"({"step":1,"a":"nan","b":"inf","c":"-inf","d":-0})");
}

TEST(MetricsRecord, EscapesNames) {
  const auto object = nlohmann::json::parse(MetricsRecord(1).Add("a\"b\n\x80", 2).ToJson());
  EXPECT_EQ(object.at("a\"b\n\xEF\xBF\xBD").get<double>(), 2);
}

TEST(MetricsRecord, DoublesReadBackExactly) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  std::vector<double> values = {5e-324, 1.7976931348623157e308, 0.1, 1e22, 1e23, 9007199254740993.0, 1e-8};
  while (values.size() < 20000) {
    const double value = std::bit_cast<double>(random());
    if (std::isfinite(value)) values.push_back(value);
  }
  for (const double value : values) {
    const auto object = nlohmann::json::parse(MetricsRecord(1).Add("x", value).ToJson());
    ASSERT_EQ(object.at("x").get<double>(), value);
  }
}

TEST(MetricsRecordDeath, ANameTwiceIsABug) {
  EXPECT_DEATH(MetricsRecord(7).Add("loss", 1).Add("loss", 2), "\"loss\" was added twice at step 7");
  EXPECT_DEATH(MetricsRecord(7).Add("step", 1), "the record's own");
}

TEST(MetricsLog, EachLineIsInTheFileWhenWriteReturns) {
  const TemporaryDirectory run;
  auto log = MetricsLog::Open(run.path(), 0);
  ASSERT_TRUE(log.ok()) << log.status();
  ASSERT_TRUE(log->Write(MetricsRecord(1).Add("loss", 2)).ok());
  EXPECT_EQ(ReadAll(run / "metrics.jsonl"), "{\"step\":1,\"loss\":2}\n");
  ASSERT_TRUE(log->Write(MetricsRecord(2).Add("loss", 1)).ok());
  EXPECT_EQ(ReadAll(run / "metrics.jsonl"), "{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":1}\n");
}

struct ResumeCase {
  const char* what;
  std::string before;
  int64_t resumed_step;
  std::string after;
  int64_t dropped;
};

TEST(MetricsLog, AResumedRunWritesNoStepTwice) {
  const std::string damaged_inside = Line(1) + "\n{\"step\":2,\"lo\n" + Line(3) + "\n";
  const std::vector<ResumeCase> cases = {
      {"no file", "", 5, "", 0},
      {"nothing to drop", Lines(1, 5), 5, Lines(1, 5), 0},
      {"later steps", Lines(1, 9), 5, Lines(1, 5), 4},
      {"a run that starts again", Lines(1, 3), 0, "", 3},
      {"two lines of one step", Lines(1, 2) + Lines(2, 4), 2, Lines(1, 2) + Lines(2, 2), 2},
      {"a half-written last line", Lines(1, 3) + "{\"step\":4,\"loss\":0.2", 5, Lines(1, 3), 1},
      {"a half-written last line of one byte", Lines(1, 3) + "{", 5, Lines(1, 3), 1},
      {"only a half-written line", "{\"st", 5, "", 1},
      {"a whole last line without its newline", Lines(1, 2) + Line(3), 5, Lines(1, 3), 0},
      {"the same, of a later step", Lines(1, 2) + Line(3), 2, Lines(1, 2), 1},
      {"zeros after a power failure", Lines(1, 2) + std::string(5000, '\0'), 5, Lines(1, 2), 1},
      {"zeros over two lines", Lines(1, 2) + std::string("\0\n\0\0", 4), 5, Lines(1, 2), 2},
      {"damage inside is not ours to remove", damaged_inside, 5, damaged_inside, 0},
      {"a later step ends what is kept", Lines(1, 2) + Lines(9, 9) + Lines(3, 3), 5, Lines(1, 2), 2},
      {"a line without a step at the end", Lines(1, 2) + "{\"loss\":1}\n", 5, Lines(1, 2), 1},
      {"a step that is no integer", Lines(1, 2) + "{\"step\":\"3\"}\n", 5, Lines(1, 2), 1},
      {"deep nesting", Lines(1, 2) + std::string(100000, '[') + "\n", 5, Lines(1, 2), 1},
  };
  for (const ResumeCase& c : cases) {
    SCOPED_TRACE(c.what);
    const TemporaryDirectory run;
    WriteAll(run / "metrics.jsonl", c.before);
    auto log = MetricsLog::Open(run.path(), c.resumed_step);
    ASSERT_TRUE(log.ok()) << log.status();
    EXPECT_EQ(ReadAll(run / "metrics.jsonl"), c.after);
    EXPECT_EQ(log->dropped_lines(), c.dropped);
    ASSERT_TRUE(log->Write(MetricsRecord(6).Add("loss", 0.5)).ok());
    EXPECT_EQ(ReadAll(run / "metrics.jsonl"), c.after + "{\"step\":6,\"loss\":0.5}\n");
  }
}

// A line of every length around the reader's buffer, torn at every place of its end.
TEST(MetricsLog, ReadsLinesLongerThanItsBuffer) {
  const TemporaryDirectory run;
  const std::string name((1 << 20) - 10, 'n');
  for (int64_t extra = 0; extra < 20; ++extra) {
    const std::string line = MetricsRecord(1).Add(name + std::string(extra, 'n'), 1).ToJson() + "\n";
    WriteAll(run / "metrics.jsonl", line + Line(2) + "\n" + Line(3));
    auto log = MetricsLog::Open(run.path(), 2);
    ASSERT_TRUE(log.ok()) << log.status();
    EXPECT_EQ(log->dropped_lines(), 1);
    EXPECT_TRUE(ReadAll(run / "metrics.jsonl") == line + Line(2) + "\n");
  }
}

// A file-size limit makes write(2) take a part of the record and then fail, as a full disk does.
TEST(MetricsLog, AFullDiskLeavesWholeLinesAndTheNextWriteMaySucceed) {
  const TemporaryDirectory run;
  auto log = MetricsLog::Open(run.path(), 0);
  ASSERT_TRUE(log.ok()) << log.status();
  ASSERT_TRUE(log->Write(MetricsRecord(1).Add("loss", 2)).ok());
  const std::string before = ReadAll(run / "metrics.jsonl");

  rlimit former;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &former), 0);
  const auto former_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{before.size() + 5, former.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = log->Write(MetricsRecord(2).Add("loss", 1));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &former), 0);
  std::signal(SIGXFSZ, former_handler);

  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("metrics.jsonl"));
  EXPECT_EQ(ReadAll(run / "metrics.jsonl"), before);
  ASSERT_TRUE(log->Write(MetricsRecord(2).Add("loss", 1)).ok());
  EXPECT_EQ(ReadAll(run / "metrics.jsonl"), before + "{\"step\":2,\"loss\":1}\n");
}

TEST(MetricsLog, RefusesLinksAndWhatIsNoFile) {
  const TemporaryDirectory run;
  WriteAll(run / "precious", "keep me");
  std::filesystem::create_symlink(run / "precious", run / "metrics.jsonl");
  auto linked = MetricsLog::Open(run.path(), 0);
  EXPECT_EQ(linked.status().code(), absl::StatusCode::kInvalidArgument) << linked.status();
  EXPECT_EQ(ReadAll(run / "precious"), "keep me");

  std::filesystem::remove(run / "metrics.jsonl");
  ASSERT_EQ(mkfifo((run / "metrics.jsonl").c_str(), 0600), 0);
  auto fifo = MetricsLog::Open(run.path(), 0);
  EXPECT_EQ(fifo.status().code(), absl::StatusCode::kInvalidArgument) << fifo.status();

  auto nowhere = MetricsLog::Open(run / "missing", 0);
  EXPECT_THAT(std::string(nowhere.status().message()), testing::HasSubstr("missing/metrics.jsonl"));
}

TEST(SamplesLog, KeepsTextAndTokensAndTheRuleOnResume) {
  const TemporaryDirectory run;
  auto log = SamplesLog::Open(run.path(), 0);
  ASSERT_TRUE(log.ok()) << log.status();
  ASSERT_TRUE(log->Write({10, "問い: 2+3\n", "####\t5\x1b[31m", {13, 4, 260}}).ok());
  ASSERT_TRUE(log->Write({20, "", std::string("\xff\0", 2), {}}).ok());
  EXPECT_EQ(ReadAll(run / "samples.jsonl"),
            "{\"step\":10,\"prompt\":\"問い: "
            "2+3\\n\",\"completion\":\"####\\t5\\u001b[31m\",\"tokens\":[13,4,260]}\n"
            "{\"step\":20,\"prompt\":\"\",\"completion\":\"\xEF\xBF\xBD\\u0000\",\"tokens\":[]}\n");
  auto resumed = SamplesLog::Open(run.path(), 15);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->dropped_lines(), 1);
  const std::string left = ReadAll(run / "samples.jsonl");
  EXPECT_EQ(std::count(left.begin(), left.end(), '\n'), 1);
}

TEST(FormatSample, EscapesWhatWouldChangeTheTerminal) {
  EXPECT_EQ(FormatSample({3, "a\nb", "\x1b]0;title\x07", {}}),
            "sample at step 3: a\\nb => \\x1b]0;title\\x07");
}

}  // namespace
}  // namespace tanren
