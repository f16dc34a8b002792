// The files of one synthetic curriculum together: right, in their formats, and never a calculation of one
// side on another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/corpus/synth.h"
#include "core/examples/read_examples.h"
#include "core/reward/checker.h"
#include "tests/core/corpus/synth_reading.h"

namespace tanren {
namespace {

using namespace synth_reading;  // NOLINT: short, and only here

struct Curriculum {
  TemporaryDirectory directory;
  SynthOptions options;
  std::map<std::string, std::vector<json>> files;  // by name without .jsonl
};

constexpr const char* kFiles[] = {"pretrain", "train",   "sft",     "sft_answers",
                                  "wordings", "prompts", "heldout", "heldout_wordings"};

void Generate(Curriculum* curriculum) {
  curriculum->options.out = curriculum->directory / "s";
  const absl::StatusOr<SynthSummary> summary = WriteSynthCorpus(curriculum->options);
  ASSERT_TRUE(summary.ok()) << summary.status();
  for (const char* file : kFiles) {
    curriculum->files[file] = Lines(curriculum->options.out + "/" + file + ".jsonl");
  }
}

// Of every size that is asked for in the tests below; one digit only with a seed that is known to suffice,
// since a few calculations exist and each goes to a side by chance.
std::vector<SynthOptions> AllOptions() {
  std::vector<SynthOptions> all;
  const uint64_t fresh = FreshSeed();
  for (const auto& [seed, digits] : {std::pair(fresh, 2), std::pair(fresh, 4), std::pair(uint64_t{1}, 1)}) {
    SynthOptions options;
    options.seed = seed;
    options.digits = digits;
    options.problems = 3000;
    options.pretrain = 3000;
    options.sft = 2000;
    options.wordings = 500;
    options.prompts = 800;
    options.held_out = digits == 1 ? 25 : 200;
    all.push_back(options);
  }
  return all;
}

std::vector<std::string> Fields(const json& record) {
  std::vector<std::string> fields;
  for (const auto& [name, value] : record.items()) fields.push_back(name);
  return fields;
}

std::string Text(const json& record, const char* field) { return record.at(field).get<std::string>(); }

// What a pre-training document asks or states, in any of its layouts.
std::vector<Calculation> ReadDocument(const std::string& text) {
  static const std::regex facts("(\\d+[-+*]\\d+=\\d+\n?)+");
  std::vector<Calculation> found;
  if (std::regex_match(text, facts)) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      const size_t equals = line.find('=');
      found.push_back(ReadExpression(line.substr(0, equals)));
      EXPECT_EQ(found.back().Value(), std::stoll(line.substr(equals + 1))) << text;
    }
    return found;
  }
  if (text.rfind("Question: ", 0) == 0) {
    found.push_back(ReadQuestion(text.substr(10, text.find('\n') - 10)));
    const size_t begin = text.find("\nSteps:\n") + 8;
    CheckWork(text.substr(begin, text.rfind("\n#### ") - begin), found[0]);
    EXPECT_EQ(text.substr(text.rfind(' ') + 1), std::to_string(found[0].Value())) << text;
  } else if (text.rfind("Work out ", 0) == 0) {
    const std::string expression = text.substr(9, text.find('.') - 9);
    found.push_back(ReadExpression(expression));
    const size_t begin = text.find('\n') + 1;
    const size_t end = text.rfind("\nSo ");
    CheckWork(text.substr(begin, end - begin), found[0]);
    EXPECT_EQ(text.substr(end), "\nSo " + expression + "=" + std::to_string(found[0].Value()) + ".");
  } else if (const size_t asked = text.find('?'); asked != std::string::npos) {
    found.push_back(ReadQuestion(text.substr(0, asked)));
    CheckWork(text.substr(asked + 2, text.size() - asked - 3), found[0]);
  } else if (Has(text, " apple") || Has(text, " book") || Has(text, " coin") || Has(text, " pen")) {
    const size_t end = text.rfind(". ");
    found.push_back(ReadQuestion(text.substr(0, end)));
    EXPECT_EQ(NumbersIn(text.substr(end)).at(0), std::to_string(found[0].Value())) << text;
  } else {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('.', begin) + 1;
      const auto sentence = ReadSentence(text.substr(begin, end - begin));
      EXPECT_TRUE(sentence.has_value() && sentence->right) << text;
      if (sentence.has_value()) found.push_back(sentence->calculation);
      if (end == 0) break;
      begin = end + 1;
    }
  }
  return found;
}

// The calculation of a record that has a question as its prompt; its answer is right.
Calculation ReadPrompt(const json& record, const std::string& question) {
  const Calculation calculation = ReadQuestion(question);
  EXPECT_EQ(Text(record, "answer"), std::to_string(calculation.Value())) << record;
  return calculation;
}

const std::string kSayIt = "Say in a sentence: ";

using Keys = std::set<std::string>;

void AddKeys(const Calculation& calculation, Keys* keys) {
  for (const std::string& key : calculation.KeysOfParts()) keys->insert(key);
}

Keys TrainingKeys(const Curriculum& c) {
  Keys keys;
  const std::vector<json>& pretrain = c.files.at("pretrain");
  for (size_t i = 1; i < pretrain.size(); ++i) {
    const std::vector<Calculation> found = ReadDocument(Text(pretrain[i], "text"));
    EXPECT_FALSE(found.empty()) << pretrain[i];
    for (const Calculation& calculation : found) AddKeys(calculation, &keys);
  }
  for (const json& record : c.files.at("train")) AddKeys(ReadPrompt(record, Text(record, "question")), &keys);
  for (const char* file : {"sft", "sft_answers"}) {
    for (const json& record : c.files.at(file)) AddKeys(ReadPrompt(record, Text(record, "prompt")), &keys);
  }
  for (const json& record : c.files.at("wordings")) {
    AddKeys(ReadPrompt(record, Text(record, "prompt").substr(kSayIt.size())), &keys);
  }
  return keys;
}

TEST(SynthCurriculum, SidesAreDisjoint) {
  for (const SynthOptions& options : AllOptions()) {
    Curriculum c;
    c.options = options;
    ASSERT_NO_FATAL_FAILURE(Generate(&c));
    const Keys training = TrainingKeys(c);
    Keys held_out;
    for (const json& record : c.files["heldout"]) {
      EXPECT_EQ(record.at("prompt"), record.at("question"));
      held_out.insert(ReadPrompt(record, Text(record, "question")).Key());
    }
    for (const json& record : c.files["heldout_wordings"]) {
      held_out.insert(ReadPrompt(record, Text(record, "prompt").substr(kSayIt.size())).Key());
    }
    Keys prompts;
    for (const json& record : c.files["prompts"]) {
      prompts.insert(ReadPrompt(record, Text(record, "prompt")).Key());
    }
    for (const std::string& key : held_out) {
      ASSERT_FALSE(training.contains(key)) << key;
      ASSERT_FALSE(prompts.contains(key)) << key;
    }
    for (const std::string& key : prompts) ASSERT_FALSE(training.contains(key)) << key;
    if (HasFailure()) return;
  }
}

// Harder: two operations, or an operand with one digit more than usual.
void CheckHarder(const json& record, int digits, std::map<std::string, int>* counts) {
  const bool two_step = record.at("kind") == "two_step";
  size_t longest = 0;
  const std::vector<std::string> numbers = NumbersIn(Text(record, "prompt"));
  for (const std::string& number : numbers) longest = std::max(longest, number.size());
  const bool longer = longest == digits + 1;
  ASSERT_TRUE(longer || longest <= digits) << record;
  ASSERT_EQ(numbers.size(), two_step ? 3 : 2) << record;
  ASSERT_EQ(record.at("difficulty"), longer || two_step ? "harder" : "same") << record;
  ++(*counts)[longer ? "longer" : two_step ? "two_step" : "same"];
}

TEST(SynthCurriculum, RecordsAreRight) {
  for (const SynthOptions& options : AllOptions()) {
    Curriculum c;
    c.options = options;
    ASSERT_NO_FATAL_FAILURE(Generate(&c));
    std::map<std::string, int> kinds;
    for (const json& record : c.files["train"]) {
      ASSERT_EQ(Fields(record),
                (std::vector<std::string>{"answer", "difficulty", "kind", "question", "text"}));
      ASSERT_EQ(ReadDocument(Text(record, "text")).at(0).Key(), ReadQuestion(Text(record, "question")).Key());
      ASSERT_EQ(record.at("difficulty"), "same");
      ++kinds[record.at("kind")];
    }
    EXPECT_EQ(kinds.size(), 4);
    kinds.clear();
    std::map<std::string, int> counts;
    ASSERT_EQ(c.files["sft"].size(), options.sft);
    ASSERT_EQ(c.files["sft_answers"].size(), options.sft);
    for (int64_t i = 0; i < options.sft; ++i) {
      json record = c.files["sft"][i];
      ASSERT_EQ(Fields(record),
                (std::vector<std::string>{"answer", "completion", "difficulty", "kind", "prompt"}));
      const std::string end = "\n#### " + Text(record, "answer");
      const std::string completion = Text(record, "completion");
      ASSERT_GT(completion.size(), end.size());
      ASSERT_EQ(completion.substr(completion.size() - end.size()), end);
      CheckWork(completion.substr(0, completion.size() - end.size()),
                ReadPrompt(record, record.at("prompt")));
      ASSERT_NO_FATAL_FAILURE(CheckHarder(record, options.digits, &counts));
      ++kinds[record.at("kind")];
      record["completion"] = end.substr(1);
      ASSERT_EQ(c.files["sft_answers"][i], record);
    }
    EXPECT_EQ(kinds.size(), 5);
    EXPECT_EQ(counts["longer"], static_cast<int>(options.longer_sft * static_cast<double>(options.sft)));
    if (HasFailure()) return;
  }
}

TEST(SynthCurriculum, AShareIsHarder) {
  for (const SynthOptions& options : AllOptions()) {
    for (const double share : {0.0, 0.3, 1.0}) {
      Curriculum c;
      c.options = options;
      c.options.harder_prompts = share;
      ASSERT_NO_FATAL_FAILURE(Generate(&c));
      std::map<std::string, int> counts;
      for (const json& record : c.files["prompts"]) {
        ASSERT_EQ(Fields(record), (std::vector<std::string>{"answer", "difficulty", "kind", "prompt"}));
        ASSERT_NO_FATAL_FAILURE(CheckHarder(record, options.digits, &counts));
      }
      const int harder = counts["longer"] + counts["two_step"];
      EXPECT_EQ(harder, static_cast<int>(share * 800 + 0.5));
      EXPECT_LE(std::abs(counts["longer"] - counts["two_step"]), 1);
      EXPECT_EQ(harder + counts["same"], options.prompts);
      counts.clear();
      std::set<std::string> questions;
      for (const json& record : c.files["heldout"]) {
        ASSERT_NO_FATAL_FAILURE(CheckHarder(record, options.digits, &counts));
        ASSERT_TRUE(questions.insert(Text(record, "question")).second) << record;
      }
      EXPECT_EQ(counts["longer"] + counts["two_step"], options.held_out / 5);
      EXPECT_LE(std::abs(counts["longer"] - counts["two_step"]), 1);
      EXPECT_EQ(questions.size(), options.held_out);
    }
  }
}

TEST(SynthCurriculum, HeldOutPatternsAreInNoTrainingFile) {
  for (SynthOptions options : AllOptions()) {
    options.held_out_wordings = 3;
    Curriculum c;
    c.options = options;
    ASSERT_NO_FATAL_FAILURE(Generate(&c));
    std::set<std::string> seen;
    std::set<std::string> unseen;
    for (const json& record : c.files["wordings"]) {
      ASSERT_EQ(Fields(record), (std::vector<std::string>{"answer", "completions", "kind", "prompt"}));
      ASSERT_EQ(record.at("completions").size(), 5);
      const std::string key = ReadQuestion(Text(record, "prompt").substr(kSayIt.size())).Key();
      std::set<std::string> patterns;
      for (const std::string sentence : record.at("completions")) {
        const auto read = ReadSentence(sentence);
        ASSERT_TRUE(read.has_value() && read->right) << sentence;
        ASSERT_EQ(read->calculation.Key(), key) << record;
        ASSERT_TRUE(patterns.insert(PatternOf(sentence)).second) << record;
      }
      seen.insert(patterns.begin(), patterns.end());
    }
    ASSERT_FALSE(c.files["heldout_wordings"].empty());
    for (const json& record : c.files["heldout_wordings"]) {
      ASSERT_EQ(Fields(record),
                (std::vector<std::string>{"answer", "kind", "prompt", "seen", "unseen", "wrong"}));
      for (const std::string sentence : record.at("seen")) ASSERT_TRUE(seen.contains(PatternOf(sentence)));
      for (const std::string sentence : record.at("unseen")) {
        ASSERT_TRUE(ReadSentence(sentence)->right) << sentence;
        unseen.insert(PatternOf(sentence));
      }
      for (const std::string sentence : record.at("wrong"))
        ASSERT_FALSE(ReadSentence(sentence)->right) << sentence;
      ASSERT_EQ(record.at("wrong").size(), 8);
      ASSERT_EQ(record.at("unseen").size(), 3);
    }
    EXPECT_EQ(seen.size(), 15);
    for (const char* file : {"pretrain", "train", "sft", "sft_answers", "wordings", "prompts"}) {
      const std::string text = PatternOf(ReadAll(c.options.out + "/" + file + ".jsonl"));
      for (const std::string& pattern : unseen) ASSERT_FALSE(Has(text, pattern)) << file << ": " << pattern;
    }
  }
}

void AddCharacters(const json& value, std::set<char>* characters) {
  if (value.is_string()) {
    for (const char c : value.get<std::string>()) characters->insert(c);
  } else if (value.is_structured()) {
    for (const json& part : value) AddCharacters(part, characters);
  }
}

// A tokenizer of characters made from pretrain.jsonl encodes everything, however small the files are; the
// texts of heldout.jsonl are encoded by one made from train.jsonl, too.
TEST(SynthCurriculum, NoFileHasCharactersOfItsOwn) {
  std::vector<SynthOptions> all = AllOptions();
  SynthOptions smallest;
  smallest.problems = smallest.pretrain = smallest.sft = smallest.wordings = smallest.prompts =
      smallest.held_out = 1;
  all.push_back(smallest);
  for (const SynthOptions& options : all) {
    Curriculum c;
    c.options = options;
    ASSERT_NO_FATAL_FAILURE(Generate(&c));
    std::set<char> pretrain, any, train, held_out;
    for (const json& record : c.files["pretrain"]) AddCharacters(record, &pretrain);
    for (const auto& [name, records] : c.files) {
      for (const json& record : records) AddCharacters(record, &any);
    }
    EXPECT_THAT(any, ::testing::ContainerEq(pretrain));
    // Sums of one digit carry nothing: only harder ones have a comma.
    if (options.problems == 1 || options.digits == 1) continue;
    for (const json& record : c.files["train"]) AddCharacters(record.at("text"), &train);
    for (const json& record : c.files["heldout"]) AddCharacters(record.at("text"), &held_out);
    EXPECT_TRUE(std::includes(train.begin(), train.end(), held_out.begin(), held_out.end()));
  }
}

// What reads post-training data takes each file for what it is meant to be.
TEST(SynthCurriculum, FilesAreExamplesOfTheirFormats) {
  Curriculum c;
  c.options = AllOptions()[0];
  ASSERT_NO_FATAL_FAILURE(Generate(&c));
  const std::pair<const char*, ExampleFormat> formats[] = {{"pretrain", ExampleFormat::kText},
                                                           {"sft", ExampleFormat::kPromptCompletion},
                                                           {"sft_answers", ExampleFormat::kPromptCompletion},
                                                           {"wordings", ExampleFormat::kReferences},
                                                           {"prompts", ExampleFormat::kAnswer},
                                                           {"heldout", ExampleFormat::kAnswer},
                                                           {"heldout_wordings", ExampleFormat::kAnswer}};
  for (const auto& [file, format] : formats) {
    ExampleReport report;
    const auto examples = ReadExamples(c.options.out + "/" + file + ".jsonl", {}, &report);
    ASSERT_TRUE(examples.ok()) << file << ": " << examples.status();
    EXPECT_EQ(report.damaged, 0) << file;
    ASSERT_EQ(examples->size(), c.files[file].size());
    for (size_t i = 0; i < examples->size(); ++i) {
      const Example& example = (*examples)[i];
      const json& record = c.files[file][i];
      ASSERT_EQ(example.format, format) << record;
      ASSERT_EQ(example.answer, record.value("answer", "")) << record;
      if (format == ExampleFormat::kText) continue;
      ASSERT_EQ(example.prompt.size(), 1) << record;
      ASSERT_EQ(example.prompt[0].content, record.at("prompt"));
    }
  }
}

// Rewards for steps find the steps of every answer right, and a changed one wrong.
TEST(SynthCurriculum, StepsCanBeRewarded) {
  for (const SynthOptions& options : AllOptions()) {
    Curriculum c;
    c.options = options;
    ASSERT_NO_FATAL_FAILURE(Generate(&c));
    for (const json& record : c.files["sft"]) {
      const std::string completion = Text(record, "completion");
      const StepReport report = CheckSteps(completion, "####");
      ASSERT_TRUE(report.valid()) << record;
      std::string wrong = completion;
      char& digit = wrong[wrong.find('=') + 1];
      digit = digit == '9' ? '1' : static_cast<char>(digit + 1);
      ASSERT_EQ(CheckSteps(wrong, "####").right, report.steps - 1) << wrong;
    }
  }
}

}  // namespace
}  // namespace tanren
