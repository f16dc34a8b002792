#include "core/corpus/synth_recall.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/base/status.h"
#include "core/corpus/synth_wordings.h"

namespace tanren {
namespace {

enum RecallStream : uint64_t {
  kRecallExampleStream = 201,
  kRecallRankingStream = 202,
  kRecallPromptStream = 203,
  kRecallHeldOutStream = 204,
  kRecallPatternStream = 205,
  kRecallTextStream = 206,
};

enum class Side : uint8_t { kTraining, kPrompts, kHeldOut };

constexpr uint64_t kSides = 20;  // one prompt in twenty is held out, one in twenty is for practice
constexpr int kWordingsOfAnExample = 4;
constexpr int kWordingsOfARanking = kRecallErrors;
constexpr int kRecallTriesForNew = 20;
constexpr int kRecallTriesForSide = 100'000;
constexpr int kTextsPerRecord = 4;

constexpr std::array<const char*, 16> kRecallNames = {"Ann", "Ben", "Mia", "Tom", "Eva", "Leo", "Ida", "Max",
                                                      "Amy", "Dan", "Eli", "Fay", "Gus", "Jon", "Kim", "Zoe"};
constexpr std::array<const char*, 16> kRecallObjects = {
    "apples", "books", "coins", "pens",  "cards", "stamps", "keys",  "rings",
    "cups",   "hats",  "balls", "boats", "bells", "drums",  "flags", "shells"};

// "$N has $r $o" is not among them: the prompt says it.
constexpr std::array<const char*, kRecallPatterns> kPatterns = {
    "$N owns $r $o.",
    "The number of $o that $N has is $r.",
    "$r $o belong to $N.",
    "$r is how many $o $N has.",
    "If you count the $o of $N, you get $r.",
    "It is $N who has $r $o.",
    "$r $o are what $N has.",
    "There are $r $o in the hands of $N.",
    "Counting the $o of $N gives $r.",
    "$N is the owner of $r $o.",
    "The $o of $N come to $r.",
    "Of all the $o, $r are with $N.",
    "With $N you find $r $o.",
    "You reach $r when you count the $o of $N.",
    "$N can show you $r $o.",
    "$r: that many $o has $N.",
    "$N holds $r $o in all.",
    "To $N belong $r $o.",
    "A total of $r $o is what $N has.",
    "Count what $N has: $r $o.",
    "Look at $N and you see $r $o.",
    "As for $o, $N has $r of them.",
    "The $r $o are all with $N.",
    "$r is the count of $o for $N.",
    "In the house of $N lie $r $o.",
    "Ask $N for $o and you are shown $r.",
    "$N would say: I have $r $o.",
    "What $N keeps is $r $o.",
    "One finds $r $o at the place of $N.",
    "Add up the $o of $N to get $r.",
    "$o: $N has $r.",
    "No one but $N has the $r $o.",
};

std::string Fill(const char* pattern, const std::string& name, const std::string& number,
                 const std::string& objects) {
  return absl::StrReplaceAll(pattern, {{"$N", name}, {"$r", number}, {"$o", objects}});
}

std::vector<int> Shuffled(std::vector<int> values, RandomStream* random) {
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[static_cast<size_t>(random->Between(0, static_cast<int64_t>(i) - 1))]);
  }
  return values;
}

std::vector<int> UpTo(int count) {
  std::vector<int> values(count);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

Side SideOf(const RecallProblem& problem, uint64_t seed) {
  uint64_t hash = seed;
  for (const char c : RecallPrompt(problem)) hash = CounterRandom(hash, static_cast<unsigned char>(c));
  const uint64_t side = hash % kSides;
  return side == 0 ? Side::kHeldOut : side == 1 ? Side::kPrompts : Side::kTraining;
}

std::string FactOf(const RecallProblem& problem, int person) {
  return absl::StrCat(problem.names[person], " has ", problem.numbers[person], " ", problem.objects);
}

std::string FactsOf(const RecallProblem& problem) {
  const int people = static_cast<int>(problem.names.size());
  std::string facts;
  for (int i = 0; i < people; ++i) {
    const char* before = i == 0 ? "" : i + 1 < people ? ", " : " and ";
    absl::StrAppend(&facts, before, FactOf(problem, i));
  }
  return absl::StrCat(facts, ".");
}

std::string AnotherName(const std::string& name, RandomStream* random) {
  std::string other = name;
  while (other == name)
    other = kRecallNames[static_cast<size_t>(random->Between(0, kRecallNames.size() - 1))];
  return other;
}

// How many people problem i is about.
using People = absl::FunctionRef<int(int64_t)>;

// `count` problems of a side. Held-out ones are distinct; others where that is not hard.
absl::StatusOr<std::vector<RecallProblem>> DrawSide(const RecallOptions& options, Side side, People people,
                                                    int64_t count, RandomStream* random) {
  std::vector<RecallProblem> problems;
  absl::flat_hash_set<std::string> prompts;
  for (int tried = 0, known = 0; static_cast<int64_t>(problems.size()) < count; ++tried) {
    if (tried == kRecallTriesForSide) {
      return InvalidInput(
          "only %d questions who has how many were found with %d digits, not %d; ask for fewer",
          problems.size(), options.digits, count);
    }
    RecallProblem problem =
        MakeRecallProblem(people(static_cast<int64_t>(problems.size())), options.digits, random);
    if (SideOf(problem, options.seed) != side) continue;
    const bool is_new = prompts.insert(RecallPrompt(problem)).second;
    if (!is_new && (side == Side::kHeldOut || ++known < kRecallTriesForNew)) continue;
    problems.push_back(std::move(problem));
    tried = known = 0;
  }
  return problems;
}

// kRecallErrors of them, in a random order: each once, or, where there is no other person's number, another
// of the rest.
std::vector<RecallError> ErrorsOf(const RecallProblem& problem, RandomStream* random) {
  std::vector<RecallError> errors;
  for (const int i : Shuffled(UpTo(kRecallErrors), random)) errors.push_back(static_cast<RecallError>(i));
  if (problem.names.size() > 1) return errors;
  const RecallError rest = random->Between(0, 1) == 0 ? RecallError::kDigit : RecallError::kName;
  std::replace(errors.begin(), errors.end(), RecallError::kNumber, rest);
  return errors;
}

// Wrong ones: in the wordings of the right ones but for the last, each wrong in another way.
RecallExample MakeRanking(RecallProblem problem, const std::vector<int>& seen, RandomStream* random) {
  RecallExample example{std::move(problem), {}, {}, {}};
  const std::vector<int> patterns = Shuffled(seen, random);
  const std::vector<RecallError> errors = ErrorsOf(example.problem, random);
  const size_t wordings = std::min<size_t>(kWordingsOfARanking, patterns.size());
  for (size_t i = 0; i < wordings; ++i) {
    example.right.push_back(RecallSentence(example.problem, patterns[i]));
    const size_t other = (i + 1 < wordings ? i : i + 1) % patterns.size();
    example.errors.push_back(errors[i]);
    example.wrong.push_back(WrongRecallSentence(example.problem, patterns[other], errors[i], random));
  }
  return example;
}

RecallCase MakeCase(RecallProblem problem, const RecallPatterns& patterns, RandomStream* random) {
  RecallCase out{std::move(problem), {}, {}, {}, {}};
  for (const auto& [indices, sentences] :
       {std::pair(&patterns.seen, &out.seen), std::pair(&patterns.unseen, &out.unseen)}) {
    for (const int pattern : *indices) {
      const RecallError error = ErrorsOf(out.problem, random)[0];
      sentences->push_back(RecallSentence(out.problem, pattern));
      out.wrong.push_back(WrongRecallSentence(out.problem, pattern, error, random));
      out.errors.push_back(error);
    }
  }
  return out;
}

}  // namespace

RecallProblem MakeRecallProblem(int people, int digits, RandomStream* random) {
  TANREN_CHECK(digits >= 1 && digits <= 7 && people >= 1 && people <= kRecallPeople);
  int64_t most = 9;
  for (int i = 1; i < digits; ++i) most = 10 * most + 9;
  RecallProblem problem;
  const std::vector<int> names = Shuffled(UpTo(kRecallNames.size()), random);
  for (int i = 0; i < people; ++i) {
    problem.names.emplace_back(kRecallNames[names[i]]);
    int64_t number = 0;
    do {
      number = random->Between(2, most);
    } while (std::count(problem.numbers.begin(), problem.numbers.end(), number) > 0);
    problem.numbers.push_back(number);
  }
  problem.objects = kRecallObjects[static_cast<size_t>(random->Between(0, kRecallObjects.size() - 1))];
  problem.asked = static_cast<int>(random->Between(0, people - 1));
  return problem;
}

std::string RecallPrompt(const RecallProblem& problem) {
  return absl::StrCat(FactsOf(problem), " Say how many ", problem.objects, " ", problem.names[problem.asked],
                      " has.");
}

std::string RecallText(const RecallProblem& problem, RandomStream* random) {
  std::string text = FactsOf(problem);
  for (const int i : Shuffled(UpTo(static_cast<int>(problem.names.size())), random)) {
    absl::StrAppend(&text, " ", FactOf(problem, i), ".");
  }
  return text;
}

const char* NameOf(RecallError error) {
  switch (error) {
    case RecallError::kDigit:
      return "digit";
    case RecallError::kNumber:
      return "number";
    case RecallError::kName:
      return "name";
  }
  return "";
}

std::string RecallSentence(const RecallProblem& problem, int pattern) {
  return Fill(kPatterns.at(pattern), problem.names[problem.asked],
              absl::StrCat(problem.numbers[problem.asked]), problem.objects);
}

std::string WrongRecallSentence(const RecallProblem& problem, int pattern, RecallError error,
                                RandomStream* random) {
  const int people = static_cast<int>(problem.names.size());
  const bool alone = people == 1;
  const int other = alone ? 0 : (problem.asked + static_cast<int>(random->Between(1, people - 1))) % people;
  TANREN_CHECK(error != RecallError::kNumber || !alone);
  std::string name = problem.names[problem.asked];
  std::string number = absl::StrCat(problem.numbers[problem.asked]);
  switch (error) {
    case RecallError::kDigit:
      number = ChangeDigit(problem.numbers[problem.asked], random);
      break;
    case RecallError::kNumber:
      number = absl::StrCat(problem.numbers[other]);
      break;
    case RecallError::kName:
      name = alone ? AnotherName(name, random) : problem.names[other];
      break;
  }
  return Fill(kPatterns.at(pattern), name, number, problem.objects);
}

std::string RecallExpression(const RecallProblem& problem) {
  std::vector<std::string> sentences;
  for (int pattern = 0; pattern < kRecallPatterns; ++pattern) {
    sentences.push_back(absl::StrReplaceAll(RecallSentence(problem, pattern), {{".", "\\."}}));
  }
  return absl::StrJoin(sentences, "|");
}

RecallPatterns::RecallPatterns(uint64_t seed, int held_out) {
  TANREN_CHECK(held_out >= 0 && held_out < kRecallPatterns);
  RandomStream random(seed, kRecallPatternStream);
  const std::vector<int> patterns = Shuffled(UpTo(kRecallPatterns), &random);
  unseen.assign(patterns.begin(), patterns.begin() + held_out);
  seen.assign(patterns.begin() + held_out, patterns.end());
  std::sort(unseen.begin(), unseen.end());
  std::sort(seen.begin(), seen.end());
}

absl::StatusOr<RecallSets> MakeRecallSets(const RecallOptions& options) {
  const int people = options.people;
  const auto equally = [people](int64_t i) { return static_cast<int>(i % people) + 1; };
  // A model learns to copy from the shortest first, and without that never to choose.
  const auto mostly_one = [people](int64_t i) {
    return std::max(1, static_cast<int>(i % (2 * people)) - people + 1);
  };
  const RecallPatterns patterns(options.seed, options.held_out_patterns);
  RecallSets sets;
  std::vector<RecallProblem> problems;

  RandomStream text(options.seed, kRecallTextStream);
  TANREN_ASSIGN_OR_RETURN(
      problems, DrawSide(options, Side::kTraining, mostly_one, kTextsPerRecord * options.records, &text));
  for (const RecallProblem& problem : problems) sets.texts.push_back(RecallText(problem, &text));

  RandomStream example(options.seed, kRecallExampleStream);
  TANREN_ASSIGN_OR_RETURN(problems, DrawSide(options, Side::kTraining, equally, options.records, &example));
  for (RecallProblem& problem : problems) {
    RecallExample one{std::move(problem), {}, {}, {}};
    for (const int pattern : Shuffled(patterns.seen, &example)) {
      if (one.right.size() == kWordingsOfAnExample) break;
      one.right.push_back(RecallSentence(one.problem, pattern));
    }
    sets.examples.push_back(std::move(one));
  }

  RandomStream ranking(options.seed, kRecallRankingStream);
  TANREN_ASSIGN_OR_RETURN(problems, DrawSide(options, Side::kTraining, equally, options.records, &ranking));
  for (RecallProblem& problem : problems) {
    sets.rankings.push_back(MakeRanking(std::move(problem), patterns.seen, &ranking));
  }

  RandomStream prompt(options.seed, kRecallPromptStream);
  TANREN_ASSIGN_OR_RETURN(sets.prompts, DrawSide(options, Side::kPrompts, equally, options.records, &prompt));

  RandomStream held_out(options.seed, kRecallHeldOutStream);
  TANREN_ASSIGN_OR_RETURN(problems, DrawSide(options, Side::kHeldOut, equally, options.held_out, &held_out));
  for (RecallProblem& problem : problems) {
    sets.held_out.push_back(MakeCase(std::move(problem), patterns, &held_out));
  }
  return sets;
}

}  // namespace tanren
