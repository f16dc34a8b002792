#include "core/report/rank_log.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

constexpr char kTime[] = "20[0-9-]{8}T[0-9:]{8}\\.[0-9]{3}Z ";

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class RankLogTest : public testing::Test {
 protected:
  std::unique_ptr<RankLog> Open(int rank, int64_t max_bytes = 1 << 20) {
    RankLogOptions options;
    options.max_bytes = max_bytes;
    options.error_fd = shown_.fd();
    auto log = RankLog::Open(run_.path(), rank, options);
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }

  TemporaryDirectory run_;
  CapturedOutput shown_;
};

TEST_F(RankLogTest, RankZeroShowsWhatItStores) {
  const auto log = Open(0);
  log->Log(Severity::kInfo, "starts");
  log->Log(Severity::kWarning, "slow disk");
  log->Log(Severity::kError, "lost");
  const std::vector<std::string> lines = LinesOf(ReadAll(run_ / "logs/rank_00000.log"));
  ASSERT_EQ(lines.size(), 3);
  EXPECT_THAT(lines[0], MatchesRegex(std::string(kTime) + "I starts"));
  EXPECT_THAT(lines[1], MatchesRegex(std::string(kTime) + "W slow disk"));
  EXPECT_THAT(lines[2], MatchesRegex(std::string(kTime) + "E lost"));
  EXPECT_EQ(shown_.Text(), "starts\nwarning: slow disk\nerror: lost\n");
}

TEST_F(RankLogTest, OtherRanksShowErrorsOnly) {
  const auto log = Open(12);
  log->Log(Severity::kInfo, "starts");
  log->Log(Severity::kError, "lost");
  EXPECT_EQ(LinesOf(ReadAll(run_ / "logs/rank_00012.log")).size(), 2);
  EXPECT_EQ(shown_.Text(), "rank 12: error: lost\n");
}

TEST_F(RankLogTest, ForgesNoLinesAndMovesNoCursor) {
  const auto log = Open(0);
  log->Log(Severity::kInfo, "name\n2026-01-01T00:00:00.000Z E forged\r\x1b[2J\xff\xE2\x80\xAE");
  EXPECT_EQ(LinesOf(ReadAll(run_ / "logs/rank_00000.log")).size(), 1);
  EXPECT_EQ(shown_.Text(), "name\\n2026-01-01T00:00:00.000Z E forged\\r\\x1b[2J\\xff\\u202e\n");
}

TEST_F(RankLogTest, CutsLongText) {
  const auto log = Open(0);
  log->Log(Severity::kInfo, std::string(1 << 20, 'x'));
  EXPECT_LT(shown_.Text().size(), 17 << 10);
  EXPECT_THAT(shown_.Text(), HasSubstr("x... (1048576 bytes)"));
}

TEST_F(RankLogTest, StaysWithinItsBoundAndKeepsTheNewestLines) {
  constexpr int64_t kMaxBytes = 4000;
  int written = 0;
  for (int start = 0; start < 3; ++start) {
    const auto log = Open(1, kMaxBytes);
    for (int i = 0; i < 100; ++i) log->Log(Severity::kInfo, absl::StrCat("line ", written++));
    const int64_t bytes = static_cast<int64_t>(ReadAll(run_ / "logs/rank_00001.log").size() +
                                               ReadAll(run_ / "logs/rank_00001.log.1").size());
    EXPECT_LE(bytes, kMaxBytes);
  }
  const std::vector<std::string> lines =
      LinesOf(ReadAll(run_ / "logs/rank_00001.log.1") + ReadAll(run_ / "logs/rank_00001.log"));
  ASSERT_GT(lines.size(), 40);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_THAT(lines[i], testing::EndsWith(absl::StrCat(" line ", written - lines.size() + i)));
  }
}

TEST_F(RankLogTest, LinesOfManyThreadsStayWhole) {
  const auto log = Open(0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) log->Log(Severity::kInfo, std::string(50, static_cast<char>('a' + t)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> lines = LinesOf(ReadAll(run_ / "logs/rank_00000.log"));
  EXPECT_EQ(lines.size(), 2000);
  for (const std::string& line : lines) {
    ASSERT_THAT(line, MatchesRegex(std::string(kTime) + "I (a{50}|b{50}|c{50}|d{50})"));
  }
}

TEST_F(RankLogTest, MakesTheBarGiveWay) {
  CapturedOutput output;
  Console console(output.fd(), 80);
  RankLogOptions options;
  options.error_fd = output.fd();
  options.console = &console;
  auto log = RankLog::Open(run_.path(), 0, options);
  ASSERT_TRUE(log.ok()) << log.status();
  console.DrawBar("half");
  (*log)->Log(Severity::kInfo, "a line");
  EXPECT_EQ(output.Text(), "\r\x1b[Khalf\r\x1b[Ka line\nhalf");
}

TEST_F(RankLogTest, ADirectoryThatCannotBeMadeIsAnError) {
  const auto log = RankLog::Open(run_ / "missing", 0);
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("missing/logs"));
}

TEST(ProcessLog, GoesToTheFileOnceItIsOpen) {
  const TemporaryDirectory run;
  testing::internal::CaptureStderr();
  Log(Severity::kWarning, "before");
  ASSERT_TRUE(OpenLog(run.path(), 3).ok());
  Log(Severity::kWarning, "inside");
  CloseLog();
  Log(Severity::kInfo, "after");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "warning: before\nafter\n");
  EXPECT_THAT(ReadAll(run / "logs/rank_00003.log"), testing::EndsWith(" W inside\n"));
}

}  // namespace
}  // namespace tanren
