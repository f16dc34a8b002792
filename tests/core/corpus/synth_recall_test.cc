// One right answer in many wordings: right and wrong as they should be, and held out whole.
#include "core/corpus/synth_recall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>

#include "core/base/sha256.h"
#include "core/corpus/synth.h"
#include "core/examples/read_examples.h"
#include "core/reward/checker.h"
#include "tests/core/corpus/synth_reading.h"

namespace tanren {
namespace {

using namespace synth_reading;  // NOLINT: short, and only here
using ::testing::HasSubstr;

// Read from the prompt's text alone.
struct Asked {
  std::map<std::string, std::string> numbers;  // by name
  std::string name, objects;
  const std::string& number() const { return numbers.at(name); }
};

Asked ReadRecallPrompt(const std::string& prompt) {
  static const std::regex fact("([A-Z][a-z]+) has ([0-9]+) ([a-z]+)");
  static const std::regex question("Say how many ([a-z]+) ([A-Z][a-z]+) has\\.$");
  Asked asked;
  for (std::sregex_iterator at(prompt.begin(), prompt.end(), fact), end; at != end; ++at) {
    EXPECT_TRUE(asked.numbers.emplace((*at)[1], (*at)[2]).second) << prompt;
    asked.objects = (*at)[3];
  }
  std::smatch found;
  EXPECT_TRUE(std::regex_search(prompt, found, question)) << prompt;
  asked.name = found[2];
  EXPECT_EQ(found[1], asked.objects) << prompt;
  std::set<std::string> numbers;
  for (const auto& [name, number] : asked.numbers) numbers.insert(number);
  EXPECT_EQ(numbers.size(), asked.numbers.size()) << prompt;
  return asked;
}

// Of the first fact.
std::string ObjectsIn(const std::string& text) {
  static const std::regex fact("has [0-9]+ ([a-z]+)");
  std::smatch found;
  EXPECT_TRUE(std::regex_search(text, found, fact)) << text;
  return found[1];
}

// The one name that a sentence has.
std::string NameIn(const std::string& sentence) {
  std::string name;
  for (const char* one : {"Ann", "Ben", "Mia", "Tom", "Eva", "Leo", "Ida", "Max", "Amy", "Dan", "Eli", "Fay",
                          "Gus", "Jon", "Kim", "Zoe"}) {
    if (!Has(sentence, one)) continue;
    EXPECT_TRUE(name.empty()) << sentence;
    name = one;
  }
  return name;
}

bool IsRight(const Asked& asked, const std::string& sentence) {
  EXPECT_TRUE(Has(sentence, asked.objects)) << sentence;
  return NameIn(sentence) == asked.name && NumbersIn(sentence) == std::vector<std::string>{asked.number()};
}

// A sentence without what its prompt gave.
std::string RecallPatternOf(const Asked& asked, const std::string& sentence) {
  std::string pattern = PatternOf(sentence);
  for (const std::string& word : {NameIn(sentence), asked.objects}) {
    const size_t at = pattern.find(word);
    if (at != std::string::npos) pattern.replace(at, word.size(), word == asked.objects ? "O" : "P");
  }
  return pattern;
}

// What is wrong about it, from the text.
void CheckWrong(const Asked& asked, const std::string& sentence, const std::string& error) {
  ASSERT_FALSE(IsRight(asked, sentence)) << sentence;
  const std::string number = NumbersIn(sentence).at(0);
  if (error == "name") {
    ASSERT_NE(NameIn(sentence), asked.name) << sentence;
    ASSERT_TRUE(asked.numbers.size() == 1 || asked.numbers.contains(NameIn(sentence))) << sentence;
    ASSERT_EQ(number, asked.number()) << sentence;
    return;
  }
  ASSERT_EQ(NameIn(sentence), asked.name) << sentence;
  if (error == "number") {
    const auto is_anothers = [&](const auto& entry) { return entry.second == number; };
    ASSERT_TRUE(std::any_of(asked.numbers.begin(), asked.numbers.end(), is_anothers)) << sentence;
    return;
  }
  ASSERT_EQ(error, "digit");
  ASSERT_EQ(number.size(), asked.number().size()) << sentence;
  int different = 0;
  for (size_t i = 0; i < number.size(); ++i) different += number[i] != asked.number()[i];
  ASSERT_EQ(different, 1) << sentence;
}

TEST(SynthRecall, SentencesAreRightOrWrongAsTheyShouldBe) {
  RandomStream random(FreshSeed(), 1);
  CheckerOptions options;
  options.kind = CheckerOptions::Kind::kRegex;
  options.marker = "";
  const std::unique_ptr<Checker> checker = *MakeChecker(options);
  for (int i = 0; i < 500; ++i) {
    const RecallProblem problem = MakeRecallProblem(1 + i % 3, 1 + i % 4, &random);
    const std::string prompt = RecallPrompt(problem);
    const Asked asked = ReadRecallPrompt(prompt);
    ASSERT_EQ(asked.numbers.size(), 1 + i % 3) << prompt;
    const std::string expression = RecallExpression(problem);
    std::set<std::string> sentences;
    for (int pattern = 0; pattern < kRecallPatterns; ++pattern) {
      const std::string right = RecallSentence(problem, pattern);
      ASSERT_TRUE(IsRight(asked, right)) << right;
      ASSERT_FALSE(Has(prompt, right.substr(0, right.size() - 1))) << "the prompt says it: " << right;
      ASSERT_TRUE(checker->Check(prompt, right, expression).right) << right;
      sentences.insert(right);
      for (int e = 0; e < kRecallErrors; ++e) {
        const auto error = static_cast<RecallError>(e);
        if (error == RecallError::kNumber && asked.numbers.size() == 1) continue;
        const std::string wrong = WrongRecallSentence(problem, pattern, error, &random);
        ASSERT_NO_FATAL_FAILURE(CheckWrong(asked, wrong, NameOf(error)));
        ASSERT_EQ(RecallPatternOf(asked, wrong), RecallPatternOf(asked, right));
        ASSERT_FALSE(checker->Check(prompt, wrong, expression).right) << wrong;
      }
    }
    ASSERT_EQ(sentences.size(), kRecallPatterns);
  }
}

// Else a sentence that is held out could be read in training.
TEST(SynthRecall, NoPatternIsPartOfAnother) {
  RecallProblem problem;
  problem.names = {"P"};
  problem.numbers = {7};
  problem.objects = "O";
  for (int i = 0; i < kRecallPatterns; ++i) {
    for (int k = 0; k < kRecallPatterns; ++k) {
      EXPECT_TRUE(i == k || !Has(RecallSentence(problem, i), RecallSentence(problem, k))) << i << " " << k;
    }
  }
}

TEST(SynthRecall, TheSeedChoosesWhatIsHeldOut) {
  std::set<std::vector<int>> chosen;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const RecallPatterns patterns(seed, 4);
    std::set<int> all(patterns.seen.begin(), patterns.seen.end());
    all.insert(patterns.unseen.begin(), patterns.unseen.end());
    EXPECT_EQ(patterns.seen.size(), kRecallPatterns - 4);
    EXPECT_EQ(all.size(), kRecallPatterns);
    chosen.insert(patterns.unseen);
  }
  EXPECT_GT(chosen.size(), 10);
}

SynthOptions Options(const std::string& out, int64_t recall) {
  SynthOptions options;
  options.out = out;
  options.problems = options.pretrain = options.sft = options.wordings = options.prompts = 200;
  options.held_out = 100;
  options.recall = recall;
  options.recall_people = 3;
  return options;
}

TEST(SynthRecall, LeavesTheOtherFilesAsTheyAre) {
  TemporaryDirectory directory;
  const auto without = WriteSynthCorpus(Options(directory / "without", 0));
  const auto with = WriteSynthCorpus(Options(directory / "with", 300));
  ASSERT_TRUE(without.ok() && with.ok());
  ASSERT_EQ(without->files.size(), 8);
  ASSERT_EQ(with->files.size(), 13);
  for (size_t i = 0; i < without->files.size(); ++i) {
    EXPECT_EQ(ReadAll(without->files[i].path), ReadAll(with->files[i].path)) << without->files[i].path;
  }
  EXPECT_FALSE(Has(ReadAll(directory / "without/synth.json"), "recall"));
  EXPECT_TRUE(Has(ReadAll(directory / "with/synth.json"), "heldout_recall.jsonl"));
  EXPECT_TRUE(WriteSynthCorpus(Options(directory / "with", 300))->up_to_date);
  EXPECT_THAT(std::string(WriteSynthCorpus(Options(directory / "s", -1)).status().message()),
              HasSubstr("0 to 100000000 are possible"));
  for (const int people : {0, 4}) {
    SynthOptions options = Options(directory / "s", 1);
    options.recall_people = people;
    EXPECT_THAT(std::string(WriteSynthCorpus(options).status().message()), HasSubstr("1 to 3 are possible"));
  }
}

TEST(SynthRecall, RefusesMoreThanThereIs) {
  RecallOptions options;
  options.digits = 1;
  options.records = 100;
  options.held_out = 3;
  options.people = 3;
  ASSERT_TRUE(MakeRecallSets(options).ok());
  options.held_out = 900;  // three hundred of them of one person, where some 2,000 exist on all sides
  EXPECT_THAT(std::string(MakeRecallSets(options).status().message()), HasSubstr("not 900; ask for fewer"));
}

struct Recall {
  TemporaryDirectory directory;
  std::map<std::string, std::vector<json>> files;

  explicit Recall(uint64_t seed) {
    SynthOptions options = Options(directory / "s", 400);
    options.seed = seed;
    const absl::StatusOr<SynthSummary> summary = WriteSynthCorpus(options);
    EXPECT_TRUE(summary.ok()) << summary.status();
    for (const char* file :
         {"recall_pretrain", "recall", "recall_rankings", "recall_prompts", "heldout_recall"}) {
      files[file] = Lines(path(file));
    }
  }
  std::string path(const std::string& file) const { return directory / ("s/" + file + ".jsonl"); }
};

TEST(SynthRecall, HeldOutPromptsAndPatternsAreInNoTrainingFile) {
  Recall c(FreshSeed());
  std::map<std::string, std::string> side;  // of a prompt
  const auto place = [&](const json& record, const std::string& name) {
    const auto [at, added] = side.emplace(record.at("prompt"), name);
    ASSERT_EQ(at->second, name) << record;
  };
  std::set<std::string> seen, unseen;
  for (const json& record : c.files["recall_pretrain"]) {
    const std::string text = record.at("text");
    const size_t end = text.find(". ") + 1;
    const Asked asked = ReadRecallPrompt(text.substr(0, end) + " Say how many " + ObjectsIn(text) + " " +
                                         text.substr(0, 3) + " has.");
    std::set<std::string> told;
    for (size_t at = end + 1; at < text.size();) {
      const size_t stop = text.find('.', at) + 1;
      const std::string sentence = text.substr(at, stop - at);
      const std::string name = NameIn(sentence);
      ASSERT_EQ(sentence, name + " has " + asked.numbers.at(name) + " " + asked.objects + ".") << text;
      ASSERT_TRUE(told.insert(name).second) << text;
      at = stop + 1;
    }
    ASSERT_EQ(told.size(), asked.numbers.size()) << text;
  }
  for (const char* file : {"recall", "recall_rankings"}) {
    ASSERT_EQ(c.files[file].size(), 400);
    for (const json& record : c.files[file]) {
      ASSERT_NO_FATAL_FAILURE(place(record, "training"));
      const Asked asked = ReadRecallPrompt(record.at("prompt"));
      const bool ranked = record.contains("responses");
      const json& sentences = record.at(ranked ? "responses" : "completions");
      std::set<std::string> own;
      for (size_t i = 0; i < sentences.size(); ++i) {
        const std::string sentence = sentences[i];
        ASSERT_EQ(IsRight(asked, sentence), !ranked || record.at("ranking")[i] == 1) << sentence;
        ASSERT_TRUE(own.insert(sentence).second) << record;
        seen.insert(RecallPatternOf(asked, sentence));
        if (ranked && i >= 3) {
          ASSERT_NO_FATAL_FAILURE(CheckWrong(asked, sentence, record.at("errors")[i - 3]));
        }
      }
      ASSERT_EQ(sentences.size(), ranked ? 6 : 4);
    }
  }
  for (const json& record : c.files["recall_prompts"]) {
    ASSERT_NO_FATAL_FAILURE(place(record, "prompts"));
  }
  ASSERT_EQ(c.files["heldout_recall"].size(), 50);
  std::set<std::string> errors;
  for (const json& record : c.files["heldout_recall"]) {
    ASSERT_NO_FATAL_FAILURE(place(record, "held out"));
    const Asked asked = ReadRecallPrompt(record.at("prompt"));
    json right = record.at("seen");
    ASSERT_EQ(right.size(), 24);
    for (const std::string sentence : right) ASSERT_TRUE(seen.contains(RecallPatternOf(asked, sentence)));
    for (const std::string sentence : record.at("unseen")) {
      unseen.insert(RecallPatternOf(asked, sentence));
      right.push_back(sentence);
    }
    for (size_t i = 0; i < right.size(); ++i) {
      const std::string wrong = record.at("wrong").at(i);
      ASSERT_TRUE(IsRight(asked, right[i]));
      ASSERT_NO_FATAL_FAILURE(CheckWrong(asked, wrong, record.at("errors").at(i)));
      ASSERT_EQ(RecallPatternOf(asked, wrong), RecallPatternOf(asked, right[i]));
      errors.insert(record.at("errors").at(i));
    }
  }
  EXPECT_EQ(errors.size(), kRecallErrors);
  EXPECT_EQ(seen.size(), 24);
  EXPECT_EQ(unseen.size(), 8);
  for (const std::string& pattern : unseen) EXPECT_FALSE(seen.contains(pattern)) << pattern;
}

TEST(SynthRecall, FilesAreExamplesOfTheirFormats) {
  const Recall c(1);
  for (const auto& [file, format] : {std::pair("recall", ExampleFormat::kReferences),
                                     {"recall_pretrain", ExampleFormat::kText},
                                     {"recall_rankings", ExampleFormat::kRanking},
                                     {"recall_prompts", ExampleFormat::kAnswer}}) {
    ExampleReport report;
    const auto examples = ReadExamples(c.path(file), {}, &report);
    ASSERT_TRUE(examples.ok()) << examples.status();
    ASSERT_EQ(examples->size(), format == ExampleFormat::kText ? 1600 : 400) << file;
    for (const Example& example : *examples) ASSERT_EQ(example.format, format) << file;
  }
}

}  // namespace
}  // namespace tanren
