// What a line of cases may look like, records of published sets among them.
#include "core/evaluation/cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/status.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Cases : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<EvaluationCase>> Read(const std::string& lines, bool answers_required = false) {
    const std::string path = ::testing::TempDir() + "/cases_test.jsonl";
    std::ofstream(path) << lines;
    CaseOptions options;
    options.answers_required = answers_required;
    return ReadCases(path, options);
  }

  EvaluationCase One(const std::string& line, bool answers_required = false) {
    auto cases = Read(line, answers_required);
    EXPECT_TRUE(cases.ok()) << cases.status();
    return cases.ok() ? cases->front() : EvaluationCase{};
  }
};

TEST_F(Cases, AWorkedAnswerIsComparedByWhatStandsBehindTheMark) {
  const EvaluationCase one = One(R"({"question":"q","answer":"48/2 = <<48/2=24>>24\n#### 1,080"})", true);
  EXPECT_EQ(one.turns[0].answer, "1,080");
  EXPECT_THAT(std::string(View(Read(R"({"question":"q","answer":"24\n#### "})").status().message())),
              HasSubstr("cases_test.jsonl:1: field \"answer\": nothing stands behind its last ####"));
  EXPECT_EQ(One(R"({"question":"q","answer":"#"})").turns[0].answer, "#");
  EXPECT_EQ(One(R"({"question":"q","answer":72})").turns[0].answer, "72");
}

TEST_F(Cases, PreferencesAskWhatStandsBeforeTheAnswers) {
  const EvaluationCase one =
      One(R"({"chosen":"\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good",)"
          R"("rejected":"\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: poor","kind":"chat"})");
  EXPECT_THAT(one.before,
              ElementsAre(Message{MessageRole::kUser, "a"}, Message{MessageRole::kAssistant, "b"}));
  EXPECT_EQ(one.turns[0].user, "c");
  EXPECT_FALSE(one.checked());
  EXPECT_EQ(one.kind, "chat");
  // A prompt of its own asks as in any other case.
  EXPECT_EQ(One(R"({"prompt":"p","chosen":"a","rejected":"b"})").turns[0].user, "p");
  EXPECT_THAT(
      std::string(View(Read(R"({"chosen":"a","rejected":"b"})").status().message())),
      HasSubstr("cases_test.jsonl:1: what stands before the answers does not end with the user's message"));
  EXPECT_THAT(std::string(View(
                  Read(R"({"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"c"})").status().message())),
              HasSubstr("cases_test.jsonl:1: different beginnings"));
}

TEST_F(Cases, ChoicesAreLinesOfTheQuestion) {
  const EvaluationCase one =
      One(R"({"q_id":3,"question":"Which?","choice0":"sun","choice1":"moon","label":1})", true);
  EXPECT_EQ(one.turns[0].user, "Which?\n- sun\n- moon");
  EXPECT_EQ(one.turns[0].answer, "moon");
  EXPECT_THAT(
      std::string(View(
          Read(R"({"question":"Which?","choice0":"sun","choice1":"moon","label":2})").status().message())),
      HasSubstr("cases_test.jsonl:1: bad label"));
}

}  // namespace
}  // namespace tanren
