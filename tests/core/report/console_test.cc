#include "core/report/console.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>

#include <cmath>
#include <thread>
#include <vector>

#include "core/report/progress.h"
#include "core/report/step_table.h"
#include "core/report/units.h"
#include "gmock/gmock.h"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Units, KeepThreeDigits) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(7), "7");
  EXPECT_EQ(FormatCount(0.25), "0.25");
  EXPECT_EQ(FormatCount(99.95), "100");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(999.4), "999");
  EXPECT_EQ(FormatCount(999.5), "1.00k");
  EXPECT_EQ(FormatCount(9995), "10.0k");
  EXPECT_EQ(FormatCount(12345), "12.3k");
  EXPECT_EQ(FormatCount(999499), "999k");
  EXPECT_EQ(FormatCount(999500), "1.00M");
  EXPECT_EQ(FormatCount(3.3e12), "3.30T");
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(1048575), "1.00 MiB");
  EXPECT_EQ(FormatBytes(1.5e9), "1.40 GiB");
  EXPECT_EQ(FormatDuration(0.4), "0:00:00");
  EXPECT_EQ(FormatDuration(59.6), "0:01:00");
  EXPECT_EQ(FormatDuration(3723), "1:02:03");
  EXPECT_EQ(FormatDuration(86399), "23:59:59");
  EXPECT_EQ(FormatDuration(86400 * 3 + 3600 * 4), "3d 04h");
  for (const double unknown : {-1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_EQ(FormatCount(unknown), "-");
    EXPECT_EQ(FormatBytes(unknown), "-");
    EXPECT_EQ(FormatDuration(unknown), "-");
  }
}

TEST(Console, OutsideATerminalThereAreOnlyPlainLines) {
  CapturedOutput output;
  Console console(output.fd());
  EXPECT_FALSE(console.is_terminal());
  console.DrawBar("50% |####....|");
  console.Print("one");
  console.Print("two\n");
  console.ClearBar();
  EXPECT_EQ(output.Text(), "one\ntwo\n");
}

TEST(Console, OnATerminalLinesStandAboveTheBar) {
  CapturedOutput output;
  Console console(output.fd(), 80);
  console.DrawBar("half");
  EXPECT_EQ(output.Take(), "\r\x1b[Khalf");
  console.Print("a line");
  EXPECT_EQ(output.Take(), "\r\x1b[Ka line\nhalf");
  console.AroundBar([&] { EXPECT_EQ(output.Take(), "\r\x1b[K"); });
  EXPECT_EQ(output.Take(), "half");
  console.ClearBar();
  EXPECT_EQ(output.Take(), "\r\x1b[K");
  console.Print("after");
  EXPECT_EQ(output.Take(), "after\n");
}

TEST(Console, CutsTheBarAtCharacters) {
  CapturedOutput output;
  Console console(output.fd(), 5);
  console.DrawBar("進捗はよい");
  EXPECT_EQ(output.Text(), "\r\x1b[K進捗はよ");
}

TEST(Console, KnowsATerminalAndItsWidth) {
  int master = -1, slave = -1;
  winsize size{};
  size.ws_col = 10;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, &size), 0);
  setenv("TERM", "xterm", 1);
  Console console(slave);
  ASSERT_TRUE(console.is_terminal());
  console.DrawBar("0123456789abcdef");
  char text[100];
  const ssize_t count = read(master, text, sizeof(text));
  EXPECT_EQ(std::string(text, count), "\r\x1b[K012345678");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(Console(slave).is_terminal());
  close(master);
  close(slave);
}

TEST(Console, LosesOutputQuietlyWhenNobodyReads) {
  Console console(open("/dev/full", O_WRONLY));
  console.Print("nobody reads this");
}

TEST(StepTable, AlignsColumnsUnderTheirNames) {
  CapturedOutput output;
  Console console(output.fd());
  StepTable table(&console, 2000);
  table.Print({10, 4.25, 1.5, 6e-4, 12345, 0.451, 1.5e9, 83});
  table.Print({2000, 0.00012, 123456, 0, NAN, NAN, NAN, NAN});
  table.Print({2000, NAN, HUGE_VAL, 1e-10, 0, 0, 0, 0});
  EXPECT_EQ(output.Text(),
            "       step     loss grad_norm        lr tokens/s    mfu   memory      eta\n"
            "    10/2000   4.2500     1.500 6.000e-04    12.3k  45.1% 1.40 GiB  0:01:23\n"
            "  2000/2000 1.20e-04  1.23e+05 0.000e+00        -      -        -        -\n"
            "  2000/2000      nan       inf 1.000e-10        0   0.0%      0 B  0:00:00\n");
}

TEST(StepTable, RepeatsItsHeader) {
  CapturedOutput output;
  Console console(output.fd());
  StepTable table(&console, 1000000);
  for (int step = 1; step <= 41; ++step) table.Print({step});
  std::vector<std::string> lines;
  std::istringstream stream(output.Text());
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 43);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].find("loss") != std::string::npos, i == 0 || i == 41) << lines[i];
    EXPECT_EQ(lines[i].size(), lines[0].size());
    EXPECT_LE(lines[i].size(), 80);
  }
}

class ProgressTest : public testing::Test {
 protected:
  ProgressOptions Options() {
    ProgressOptions options;
    options.label = "tokenize";
    options.total = 1000;
    options.item = "documents";
    options.now_seconds = [this] { return now_; };
    return options;
  }

  CapturedOutput output_;
  double now_ = 100;
};

TEST_F(ProgressTest, WritesPlainLinesNowAndThenInALogFile) {
  Console console(output_.fd());
  Progress progress(&console, Options());
  now_ = 109;
  progress.Advance(90);
  EXPECT_EQ(output_.Take(), "");
  now_ = 110;
  progress.Advance(10);
  EXPECT_EQ(output_.Take(), "tokenize   10.0%  100 / 1.00k documents  10/s  eta 0:01:30\n");
  now_ = 119.9;
  progress.Advance(1);
  EXPECT_EQ(output_.Take(), "");
  now_ = 150;
  progress.Set(999);
  EXPECT_THAT(output_.Take(), HasSubstr(" 99.9%"));
  progress.Advance(1);
  progress.Finish();
  EXPECT_EQ(output_.Take(), "tokenize  done: 1.00k documents in 0:00:50, 20/s\n");
  progress.Finish();
  EXPECT_EQ(output_.Take(), "");
}

TEST_F(ProgressTest, NearlyDoneIsNotDone) {
  Console console(output_.fd());
  ProgressOptions options = Options();
  options.total = 1000000;
  Progress progress(&console, options);
  now_ = 110;
  progress.Set(999999);
  EXPECT_THAT(output_.Take(), HasSubstr(" 99.9%"));
}

TEST_F(ProgressTest, DrawsABarOnATerminal) {
  Console console(output_.fd(), 80);
  Progress progress(&console, Options());
  now_ = 101;
  progress.Set(500);
  EXPECT_EQ(output_.Take(),
            "\r\x1b[Ktokenize   50.0% |######......|  500 / 1.00k documents  500/s  eta 0:00:01");
  now_ = 102;
  progress.Set(1000);
  output_.Take();
  progress.Finish();
  EXPECT_EQ(output_.Take(), "\r\x1b[Ktokenize  done: 1.00k documents in 0:00:02, 500/s\n");
}

TEST_F(ProgressTest, WorkThatEndsEarlyLeavesNoBar) {
  Console console(output_.fd(), 80);
  {
    Progress progress(&console, Options());
    now_ = 101;
    progress.Set(500);
    output_.Take();
  }
  EXPECT_EQ(output_.Take(), "\r\x1b[K");
}

TEST_F(ProgressTest, WithoutATotalThereIsNoShareAndNoEta) {
  Console console(output_.fd());
  ProgressOptions options = Options();
  options.total = 0;
  options.unit = ProgressOptions::Unit::kBytes;
  options.item = "";
  Progress progress(&console, options);
  now_ = 110;
  progress.Set(10 << 20);
  EXPECT_EQ(output_.Take(), "tokenize  10.0 MiB  1.00 MiB/s  0:00:10\n");
}

TEST_F(ProgressTest, TheRateForgetsASlowStart) {
  Console console(output_.fd());
  ProgressOptions options = Options();
  options.total = 1000000;
  Progress progress(&console, options);
  now_ = 160;
  progress.Set(60);  // one a second for a minute
  for (int i = 1; i <= 12; ++i) {
    now_ = 160 + 10 * i;
    progress.Set(60 + 10000 * i);  // then a thousand a second
  }
  const std::string text = output_.Take();
  const std::string last = text.substr(text.rfind('\n', text.size() - 2) + 1);
  EXPECT_THAT(last, testing::AnyOf(HasSubstr(" 1000/s"), HasSubstr(" 1.00k/s"), HasSubstr(" 999/s")));
}

TEST_F(ProgressTest, CountsFromManyThreads) {
  Console console(output_.fd());
  ProgressOptions options = Options();
  options.total = 400000;
  options.line_interval_seconds = 1e-4;
  options.now_seconds = nullptr;
  Progress progress(&console, options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100000; ++i) progress.Advance(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  progress.Finish();
  EXPECT_THAT(output_.Text(), HasSubstr("done: 400k documents"));
}

}  // namespace
}  // namespace tanren
