// Programs that behave, and programs that do everything but.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <cmath>

#include "core/reward/checker.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

CheckerOptions Shell(const std::string& script, double seconds = 20) {
  CheckerOptions options;
  options.kind = CheckerOptions::Kind::kCommand;
  options.command = {"sh", "-c", script};
  options.time_limit_seconds = seconds;
  return options;
}

CheckResult RunShell(const std::string& script, double seconds = 20,
                     const std::string& response = "r #### 7") {
  const CheckResult result = (*MakeChecker(Shell(script, seconds)))->Check("p", response, "7");
  // No zombie is left: this process has no child.
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  return result;
}

TEST(CommandChecker, ExitCodeOrFirstLineIsTheScore) {
  EXPECT_TRUE(RunShell("exit 0").right);
  const CheckResult wrong = RunShell("exit 1");
  EXPECT_FALSE(wrong.right || wrong.failed);
  EXPECT_EQ(wrong.answer, "7");
  EXPECT_EQ(RunShell("echo 0.25; echo 3; exit 0").score, 0.25);
  EXPECT_EQ(RunShell("echo -2; exit 1").score, -2);
  EXPECT_EQ(RunShell("echo fine; exit 0").score, 1);
  // Not taken for right: a caller refuses it.
  EXPECT_TRUE(std::isnan(RunShell("echo nan; exit 0").score));
  EXPECT_FALSE(RunShell("echo nan; exit 0").right);
  EXPECT_EQ(RunShell("echo 1e999; exit 0").score, INFINITY);
  EXPECT_EQ(RunShell("echo -1e999; exit 0").score, -INFINITY);
  EXPECT_FALSE(RunShell("echo -1e999; exit 0").right);
  EXPECT_EQ(RunShell("echo 1e-999; exit 0").score, 0);
  EXPECT_FALSE(RunShell("echo 1e-999; exit 0").right);
}

TEST(CommandChecker, SeveralScoresByName) {
  const CheckResult result = RunShell(
      R"(echo ' {"scores": {"style": 0.25, "a \\" NaN": -3, "tone": NaN, "far": 1e999}, "why": [true]} '; exit 1)");
  EXPECT_FALSE(result.failed) << result.failure;
  EXPECT_EQ(result.score, 0);
  ASSERT_EQ(result.scores.size(), 4u);
  EXPECT_EQ(result.scores.at("style"), 0.25);
  EXPECT_EQ(result.scores.at("a \" NaN"), -3);
  EXPECT_TRUE(std::isnan(result.scores.at("tone")));
  EXPECT_TRUE(std::isnan(result.scores.at("far")));
  EXPECT_TRUE(RunShell(R"(echo '{"scores": {}}')").right);
  for (const char* line : {R"({"scores": 1})", R"({"scores": {"a": "high"}})", R"({"score": 1})",
                           R"({"scores": {"a": 1})", R"({"scores": {"a": nix}})"}) {
    const CheckResult bad = RunShell(std::string("echo '") + line + "'");
    EXPECT_TRUE(bad.failed) << line;
    EXPECT_EQ(bad.score, 0);
    EXPECT_THAT(bad.failure, HasSubstr("\"scores\""));
  }
}

TEST(CommandChecker, GivesTheQuestionAsOneLineOfJson) {
  EXPECT_TRUE(
      RunShell(
          "read -r line; test \"$line\" = '{\"prompt\":\"p\",\"response\":\"a\\n#### 7\",\"answer\":\"7\"}'",
          20, "a\n#### 7")
          .right);
  EXPECT_TRUE(RunShell("grep -q answer", 20, "\xff\xfe").right);
  EXPECT_EQ(RunShell("wc -c", 20, std::string(1 << 20, 'x')).score, (1 << 20) + 42);
}

TEST(CommandChecker, FailuresAreCounted) {
  for (const auto& [script, why] : {std::pair{"exit 3", "exit code 3"}, std::pair{"kill -9 $$", "signal 9"},
                                    std::pair{"yes", "bytes of output"}}) {
    const CheckResult result = RunShell(script);
    EXPECT_TRUE(result.failed) << script;
    EXPECT_EQ(result.score, 0);
    EXPECT_THAT(result.failure, HasSubstr(why));
  }
}

TEST(CommandChecker, EndsAtTheLimitWhateverTheProgramDoes) {
  for (const char* script : {"exec 0<&-; sleep 600", "trap '' TERM INT; while :; do sleep 1; done",
                             "(sleep 600) & exit 0", "exec >&-; sleep 600", "while :; do :; done",
                             "while :; do echo x; sleep 0.01; done", "kill -STOP $$"}) {
    const CheckResult result = RunShell(script, 0.3, std::string(1 << 20, 'x'));
    EXPECT_TRUE(result.failed) << script;
    EXPECT_THAT(result.failure, HasSubstr("limit of 0.3 s")) << script;
  }
}

TEST(CommandChecker, WhatTheProgramLeavesBehindIsEnded) {
  TemporaryDirectory directory;
  EXPECT_TRUE(RunShell("sleep 600 >/dev/null 2>&1 </dev/null & echo $! > " + directory / "pid").right);
  const pid_t pid = std::stoi(ReadAll(directory / "pid"));
  for (int i = 0; i < 500 && std::filesystem::exists("/proc/" + std::to_string(pid)); ++i) {
    const std::string stat = ReadAll("/proc/" + std::to_string(pid) + "/stat");
    if (stat.find(") Z") != std::string::npos) break;  // ended; its new parent has not looked yet
    usleep(10000);
    ASSERT_LT(i, 499);
  }
}

TEST(CommandChecker, TheProgramStartsClean) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (const int number : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&blocked, number);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  signal(SIGUSR2, SIG_IGN);
  const int leak = dup(0);
  EXPECT_THAT(RunShell("kill -TERM $$; exit 0").failure, HasSubstr("signal 15"));
  EXPECT_THAT(RunShell("kill -USR2 $$; exit 0").failure, HasSubstr("signal 12"));
  EXPECT_TRUE(RunShell("test ! -e /proc/self/fd/" + std::to_string(leak)).right);
  EXPECT_EQ(RunShell("ulimit -v").score, 2 << 20);
  close(leak);
  signal(SIGUSR2, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(CommandChecker, RefusesWhatCannotRun) {
  CheckerOptions options = Shell("");
  options.command = {};
  EXPECT_THAT(std::string(MakeChecker(options).status().message()), HasSubstr("command is empty"));
  options.command = {"no-such-program-of-tanren"};
  EXPECT_THAT(std::string(MakeChecker(options).status().message()), HasSubstr("no-such-program-of-tanren"));
  options.command = {"/etc/passwd"};
  EXPECT_THAT(std::string(MakeChecker(options).status().message()), HasSubstr("/etc/passwd"));
  for (const double seconds : {0.0, -1.0, std::nan(""), 1e300}) {
    EXPECT_FALSE(MakeChecker(Shell("exit 0", seconds)).ok()) << seconds;
  }
}

}  // namespace
}  // namespace tanren
