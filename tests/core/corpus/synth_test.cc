// Generated arithmetic: right, deterministic, and written whole or not at all.
#include "core/corpus/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <set>

#include "core/base/sha256.h"
#include "core/corpus/synth_wordings.h"
#include "tests/core/corpus/synth_reading.h"

namespace tanren {
namespace {

using namespace synth_reading;  // NOLINT: short, and only here
using ::testing::HasSubstr;

SynthOptions Options(const std::string& out) {
  SynthOptions options;
  options.out = out;
  options.problems = 3000;
  options.pretrain = 1000;
  options.sft = 1000;
  options.wordings = 200;
  options.prompts = 400;
  options.held_out = 200;
  return options;
}

TEST(SynthProblems, ShowTheirWork) {
  const auto steps = [](char operation, int64_t left, int64_t right) {
    Problem problem;
    problem.operation = operation;
    problem.left = left;
    problem.right = right;
    return StepsOf(problem);
  };
  EXPECT_EQ(steps('+', 47, 38), "7+8=15, carry 1: 5\n4+3+1=8: 85");
  EXPECT_EQ(steps('+', 95, 7), "5+7=12, carry 1: 2\n9+0+1=10: 102");
  EXPECT_EQ(steps('+', 0, 0), "0+0=0: 0");
  EXPECT_EQ(steps('-', 82, 47), "12-7=5, borrow 1: 5\n8-4-1=3: 35");
  EXPECT_EQ(steps('-', 100, 1), "10-1=9, borrow 1: 9\n10-0-1=9, borrow 1: 99\n1-0-1=0: 099");
  EXPECT_EQ(steps('*', 34, 6), "4*6=24, carry 2: 4\n3*6=18, 18+2=20: 204");
  EXPECT_EQ(steps('*', 105, 7), "5*7=35, carry 3: 5\n0*7=0, 0+3=3: 35\n1*7=7: 735");
}

Problem TwoStep(int64_t left, char operation, int64_t right, char then, int64_t third) {
  Problem problem;
  problem.kind = ProblemKind::kTwoStep;
  problem.left = left;
  problem.operation = operation;
  problem.right = right;
  problem.then = then;
  problem.third = third;
  return problem;
}

TEST(SynthProblems, TwoOperationsAreWorkedOutOneAfterTheOther) {
  const Problem problem = TwoStep(12, '+', 9, '-', 5);
  EXPECT_EQ(WorkOf(problem), "12+9\n2+9=11, carry 1: 1\n1+0+1=2: 21\n21-5\n11-5=6, borrow 1: 6\n2-0-1=1: 16");
  EXPECT_EQ(AnswerOf(problem), 16);
  EXPECT_EQ(ExpressionOf(problem), "12+9-5");
  EXPECT_EQ(WorkOf(TwoStep(12, '*', 3, '+', 4)),
            "12*3\n2*3=6: 6\n1*3=3: 36\n36+4\n6+4=10, carry 1: 0\n3+0+1=4: 40");
}

TEST(SynthProblems, KeysAreEqualForTheSameCalculation) {
  const auto key = [](int64_t left, char operation, int64_t right, char then = 0, int64_t third = 0) {
    return CanonicalKey(TwoStep(left, operation, right, then, third));
  };
  EXPECT_EQ(key(47, '+', 38), "38+47");
  EXPECT_EQ(key(6, '*', 47), key(47, '*', 6));
  EXPECT_NE(key(47, '-', 38), key(38, '-', 47));
  EXPECT_EQ(key(12, '+', 7, '-', 5), "7+12-5");
  EXPECT_EQ(key(12, '-', 5, '+', 7), "7+12-5");
  EXPECT_EQ(key(12, '-', 5, '-', 7), key(12, '-', 7, '-', 5));
  EXPECT_EQ(key(1, '+', 3, '+', 2), key(3, '+', 2, '+', 1));
  EXPECT_EQ(key(3, '*', 2, '+', 4), key(2, '*', 3, '+', 4));
  const std::set<std::string> different = {
      key(3, '*', 2, '+', 4), key(3, '*', 4, '+', 2), key(3, '*', 2, '-', 4),
      key(3, '+', 2, '-', 4), key(3, '-', 2, '-', 4), key(3, '+', 2, '+', 4),
      key(3, '+', 2),         key(3, '*', 2),         key(3, '-', 2)};
  EXPECT_EQ(different.size(), 9);
}

// From the texts alone, against the structure: of every kind, at every length.
TEST(SynthProblems, TextsSayWhatIsCalculated) {
  RandomStream random(FreshSeed(), 1);
  for (int i = 0; i < 20000; ++i) {
    const auto kind = static_cast<ProblemKind>(i % kProblemKinds);
    const int digits = static_cast<int>(random.Between(1, 8));
    const bool longest = random.Between(0, 1) == 1;
    const Problem problem = MakeProblem(kind, digits, longest, &random);
    const Calculation calculation = ReadQuestion(problem.question);
    ASSERT_EQ(calculation.Value(), AnswerOf(problem)) << problem.question;
    ASSERT_GE(AnswerOf(problem), 0) << problem.question;
    size_t longest_number = 0;
    for (const std::string& number : NumbersIn(problem.question)) {
      longest_number = std::max(longest_number, number.size());
    }
    ASSERT_LE(longest_number, digits) << problem.question;
    ASSERT_TRUE(!longest || longest_number == digits) << problem.question;
    ASSERT_EQ(calculation.operations.size(), kind == ProblemKind::kTwoStep ? 2 : 1);
    CheckWork(WorkOf(problem), calculation);
    if (HasFatalFailure()) return;
    if (kind != ProblemKind::kWord && kind != ProblemKind::kTwoStep) continue;
    const size_t end = problem.told.rfind(". ");
    ASSERT_EQ(problem.told.substr(0, end), problem.question.substr(0, end));
    const std::vector<std::string> ending = NumbersIn(problem.told.substr(end));
    ASSERT_EQ(ending, std::vector<std::string>{std::to_string(AnswerOf(problem))}) << problem.told;
    ASSERT_FALSE(Has(problem.told, " 1 apples") || Has(problem.told, " 1 pens")) << problem.told;
  }
}

TEST(SynthWordings, AreTrueOrFalseAsTheyShouldBe) {
  const uint64_t seed = FreshSeed();
  RandomStream random(seed, 1);
  for (int held_out = 0; held_out < kSentencePatterns; ++held_out) {
    const Wordings wordings(seed, held_out);
    for (int i = 0; i < 600; ++i) {
      const Problem problem = MakeProblem(static_cast<ProblemKind>(i % 3), 3, false, &random);
      std::vector<std::string> right = wordings.Seen(problem);
      const std::vector<std::string> unseen = wordings.Unseen(problem);
      ASSERT_EQ(right.size(), kSentencePatterns - held_out);
      ASSERT_EQ(unseen.size(), held_out);
      right.insert(right.end(), unseen.begin(), unseen.end());
      const std::vector<std::string> wrong = wordings.Wrong(problem, &random);
      ASSERT_EQ(wrong.size(), right.size());
      ASSERT_EQ(std::set<std::string>(right.begin(), right.end()).size(), right.size());
      for (size_t k = 0; k < right.size(); ++k) {
        const auto truth = ReadSentence(right[k]);
        const auto untruth = ReadSentence(wrong[k]);
        ASSERT_TRUE(truth && untruth) << right[k] << " " << wrong[k];
        ASSERT_EQ(truth->calculation.numbers, (std::vector<int64_t>{problem.left, problem.right}))
            << right[k];
        ASSERT_EQ(truth->calculation.operations, std::string(1, problem.operation)) << right[k];
        ASSERT_TRUE(truth->right) << right[k];
        ASSERT_FALSE(untruth->right) << wrong[k];
        // They differ in one digit only.
        ASSERT_EQ(right[k].size(), wrong[k].size());
        int different = 0;
        for (size_t c = 0; c < right[k].size(); ++c) different += right[k][c] != wrong[k][c];
        ASSERT_EQ(different, 1) << right[k] << " " << wrong[k];
        for (const std::string& number : NumbersIn(wrong[k])) {
          ASSERT_TRUE(number.size() == 1 || number[0] != '0') << wrong[k];
        }
      }
    }
  }
}

// Else a sentence that is held out could be read in training.
TEST(SynthWordings, NoPatternIsPartOfAnother) {
  const Wordings wordings(1, 0);
  std::vector<std::string> patterns;
  for (const ProblemKind kind : {ProblemKind::kAdd, ProblemKind::kSubtract, ProblemKind::kMultiply}) {
    RandomStream random(1, 1);
    for (const std::string& sentence : wordings.Seen(MakeProblem(kind, 2, false, &random))) {
      patterns.push_back(PatternOf(sentence));
    }
  }
  ASSERT_EQ(patterns.size(), 3 * kSentencePatterns);
  for (size_t i = 0; i < patterns.size(); ++i) {
    for (size_t k = 0; k < patterns.size(); ++k) {
      EXPECT_TRUE(i == k || !Has(patterns[i], patterns[k])) << patterns[i] << " " << patterns[k];
    }
  }
}

// The same bytes on every machine: a changed hash means that seeds no longer mean what they meant.
TEST(Synth, IsDeterministic) {
  TemporaryDirectory directory;
  ASSERT_TRUE(WriteSynthCorpus(Options(directory / "a")).ok());
  const std::map<std::string, std::string> hashes = {
      {"heldout.jsonl", "647f3b9ac28cc7e070f627704e0924bacdc0c2e6acc6ff19b4a5a0de117e96ed"},
      {"heldout_wordings.jsonl", "5d6076210df453071b1d1188c08d1882d10f45e2014ba2c8d0eaf45ee04e57e5"},
      {"pretrain.jsonl", "56ecd5f901bfbbab010208a609918e5d43223f4200635f865e6d2ff11b4acc72"},
      {"prompts.jsonl", "aaa77afedbca1591848c7dac7398409e07958b3ee6224017c4ece5f52f2c97ee"},
      {"sft.jsonl", "af5abbdc956db1e53fed55ce6ed3345dd8df0f5baf3a33cc06be1c49b9e3db44"},
      {"sft_answers.jsonl", "0c4b3d9e0725728723f225424815c54d05a039669c429319a7e9419a1846d483"},
      {"train.jsonl", "8d92e06e43a018c56b62a989e00000988adfd0ff0d0afd0ea3543c13cfd11a61"},
      {"wordings.jsonl", "e9b72689193b8462ba0c2242510345bb8529df3d61bcc38942f942cc9fa37b23"},
  };
  for (const auto& [file, hash] : hashes) {
    EXPECT_EQ(Sha256Hex(ReadAll(directory / ("a/" + file))), hash) << file;
  }
}

// Whoever asks for more of one file gets the same others, and what it had first.
TEST(Synth, ASizeChangesItsOwnFileOnly) {
  TemporaryDirectory directory;
  SynthOptions more = Options(directory / "more");
  more.sft += 100;
  more.prompts += 100;
  more.harder_prompts = 0;
  ASSERT_TRUE(WriteSynthCorpus(Options(directory / "a")).ok());
  ASSERT_TRUE(WriteSynthCorpus(more).ok());
  for (const char* file : {"train", "pretrain", "wordings", "heldout", "heldout_wordings"}) {
    const std::string name = std::string("/") + file + ".jsonl";
    EXPECT_EQ(ReadAll(directory / ("a" + name)), ReadAll(directory / ("more" + name))) << file;
  }
  const std::string sft = ReadAll(directory / "a/sft.jsonl");
  EXPECT_EQ(ReadAll(directory / "more/sft.jsonl").substr(0, sft.size()), sft);
  EXPECT_NE(ReadAll(directory / "more/prompts.jsonl"), ReadAll(directory / "a/prompts.jsonl"));
}

TEST(Synth, RefusesWhatItWouldLose) {
  TemporaryDirectory directory;
  SynthOptions options = Options(directory / "s");
  EXPECT_FALSE(WriteSynthCorpus(options)->up_to_date);
  EXPECT_TRUE(WriteSynthCorpus(options)->up_to_date);
  options.seed = 2;
  EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()),
              HasSubstr("replace it with --force"));
  options.force = true;
  ASSERT_TRUE(WriteSynthCorpus(options).ok());
  const absl::StatusOr<SynthSummary> summary = WriteSynthCorpus(options);
  EXPECT_TRUE(summary->up_to_date);
  ASSERT_EQ(summary->files.size(), 8);
  options.force = false;
  for (const SynthFile& file : summary->files) {
    const std::string content = ReadAll(file.path);
    EXPECT_EQ(std::count(content.begin(), content.end(), '\n'), file.records) << file.path;
    WriteAll(file.path, content + "{}\n");
    EXPECT_FALSE(WriteSynthCorpus(options).ok()) << file.path;
    WriteAll(file.path, content);
    EXPECT_TRUE(WriteSynthCorpus(options)->up_to_date) << file.path;
  }
  WriteAll(directory / "s/synth.json", "[");
  EXPECT_FALSE(WriteSynthCorpus(options).ok());
  WriteAll(directory / "mine/notes.txt", "keep");
  options.out = directory / "mine";
  options.force = true;
  EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()), HasSubstr("was not made by"));
  EXPECT_EQ(ReadAll(directory / "mine/notes.txt"), "keep");
}

TEST(Synth, RefusesWhatItCannotMake) {
  TemporaryDirectory directory;
  const auto message = [&](auto change) {
    SynthOptions options = Options(directory / "s");
    change(&options);
    return std::string(WriteSynthCorpus(options).status().message());
  };
  EXPECT_THAT(message([](SynthOptions* o) { o->digits = 1, o->held_out = 100000; }),
              HasSubstr("distinct held-out problems exist"));
  EXPECT_THAT(message([](SynthOptions* o) { o->digits = 9; }), HasSubstr("1 to 7 are possible"));
  for (int64_t SynthOptions::*count :
       {&SynthOptions::problems, &SynthOptions::pretrain, &SynthOptions::sft, &SynthOptions::wordings,
        &SynthOptions::prompts, &SynthOptions::held_out}) {
    for (const int64_t wrong : {int64_t{0}, int64_t{-1}, int64_t{1} << 62}) {
      EXPECT_THAT(message([&](SynthOptions* o) { o->*count = wrong; }),
                  HasSubstr("1 to 100000000 are possible"));
    }
  }
  for (const double share : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(message([&](SynthOptions* o) { o->harder_prompts = share; }),
                HasSubstr("0 to 1 is possible"));
    EXPECT_THAT(message([&](SynthOptions* o) { o->longer_sft = share; }), HasSubstr("0 to 1 is possible"));
  }
  for (const int patterns : {-1, kSentencePatterns}) {
    EXPECT_THAT(message([&](SynthOptions* o) { o->held_out_wordings = patterns; }),
                HasSubstr("0 to 7 are possible"));
  }
  EXPECT_THAT(message([](SynthOptions* o) { o->out = ""; }), HasSubstr("no output directory"));
}

}  // namespace
}  // namespace tanren
