#include "core/corpus/synth_sets.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "core/base/status.h"
#include "core/corpus/synth_pretrain.h"
#include "core/corpus/synth_wordings.h"

namespace tanren {
namespace {

// One stream of random numbers per set: a set's size changes no other set.
enum SynthStream : uint64_t {
  kTrainStream = 1,
  kHeldOutStream = 2,
  kLongerStream = 3,
  kTwoStepStream = 4,
  kPretrainStream = 5,
  kSftStream = 6,
  kWordingStream = 7,
  kPromptStream = 8,
  kHeldOutWordingStream = 9,
};

constexpr uint64_t kNotTrainedOf = 10;  // one key in ten is not trained on: half for prompts, half held out
constexpr int kTriesForNew = 20;
constexpr int kTriesForSide = 5000;
constexpr int64_t kMissesAllowed = 100'000;

using Draw = absl::FunctionRef<Problem()>;
using Accept = absl::FunctionRef<bool(const Problem&)>;

absl::Status CheckOptions(const SynthOptions& options) {
  constexpr int64_t kMost = 100'000'000;
  struct Count {
    int64_t records;
    const char* what;
  };
  for (const Count& count : {Count{options.problems, "training problems"},
                             {options.pretrain, "pre-training documents"},
                             {options.sft, "fine-tuning examples"},
                             {options.wordings, "instructions with several wordings"},
                             {options.prompts, "prompts"},
                             {options.held_out, "held-out problems"}}) {
    if (count.records < 1 || count.records > kMost) {
      return InvalidInput("%d %s; 1 to %d are possible", count.records, count.what, kMost);
    }
  }
  if (options.recall < 0 || options.recall > kMost) {
    return InvalidInput("%d questions who has how many; 0 to %d are possible", options.recall, kMost);
  }
  if (options.recall_people < 1 || options.recall_people > kRecallPeople) {
    return InvalidInput("questions about up to %d people; 1 to %d are possible", options.recall_people,
                        kRecallPeople);
  }
  if (options.digits < 1 || options.digits > 7) {
    return InvalidInput("operands of %d digits; 1 to 7 are possible", options.digits);
  }
  if (!(options.harder_prompts >= 0 && options.harder_prompts <= 1)) {
    return InvalidInput("a share of harder prompts of %g; 0 to 1 is possible", options.harder_prompts);
  }
  if (!(options.longer_sft >= 0 && options.longer_sft <= 1)) {
    return InvalidInput("a share of longer fine-tuning examples of %g; 0 to 1 is possible",
                        options.longer_sft);
  }
  if (options.held_out_wordings < 0 || options.held_out_wordings >= kSentencePatterns) {
    return InvalidInput("%d sentence patterns held out of each operation's %d; 0 to %d are possible",
                        options.held_out_wordings, kSentencePatterns, kSentencePatterns - 1);
  }
  return absl::OkStatus();
}

uint64_t HashOf(const Problem& problem, uint64_t seed) {
  uint64_t hash = seed;
  for (const char c : CanonicalKey(problem)) hash = CounterRandom(hash, static_cast<unsigned char>(c));
  return hash;
}

bool IsTraining(const Problem& problem, uint64_t seed) {
  if (HashOf(problem, seed) % kNotTrainedOf == 0) return false;
  if (problem.then == 0) return true;
  for (const Problem& part : PartsOf(problem)) {
    if (HashOf(part, seed) % kNotTrainedOf == 0) return false;
  }
  return true;
}

bool IsHeldOut(const Problem& problem, uint64_t seed) {
  return HashOf(problem, seed) % (2 * kNotTrainedOf) == 0;
}
bool IsPrompt(const Problem& problem, uint64_t seed) {
  return HashOf(problem, seed) % (2 * kNotTrainedOf) == kNotTrainedOf;
}

ProblemKind KindBelow(int kinds, RandomStream* random) {
  return static_cast<ProblemKind>(random->Between(0, kinds - 1));
}
Problem DrawTraining(const SynthOptions& options, ProblemKind kind, RandomStream* random,
                     ProblemSize size = ProblemSize::kUsual) {
  const int digits = size == ProblemSize::kOneDigit ? 1 : options.digits + (size == ProblemSize::kLonger);
  while (true) {
    Problem problem = MakeProblem(kind, digits, size == ProblemSize::kLonger, random);
    if (IsTraining(problem, options.seed)) return problem;
  }
}

// A question not asked yet, or, where those are hard to find, one that was.
Problem PreferNew(Draw draw, absl::flat_hash_set<std::string>* questions) {
  for (int i = 1;; ++i) {
    Problem problem = draw();
    if (questions->insert(problem.question).second || i == kTriesForNew) return problem;
  }
}

// Up to `count` problems with distinct questions that `accept`.
void DrawDistinct(int64_t count, Draw draw, Accept accept, std::vector<Problem>* problems) {
  absl::flat_hash_set<std::string> questions;
  for (int64_t misses = 0; static_cast<int64_t>(problems->size()) < count && misses < kMissesAllowed;) {
    Problem problem = draw();
    if (accept(problem) && questions.insert(problem.question).second) {
      problems->push_back(std::move(problem));
      misses = 0;
    } else {
      ++misses;
    }
  }
}

absl::Status DrawHeldOutPart(int64_t count, const char* what, Draw draw, Accept accept, bool harder,
                             std::vector<SynthProblem>* held_out) {
  std::vector<Problem> problems;
  DrawDistinct(count, draw, accept, &problems);
  if (static_cast<int64_t>(problems.size()) < count) {
    return InvalidInput(
        "only %d distinct %s problems exist at this number of digits, not %d; ask for fewer, or for more "
        "digits",
        problems.size(), what, count);
  }
  for (Problem& problem : problems) held_out->push_back({std::move(problem), harder});
  return absl::OkStatus();
}

absl::Status DrawHeldOut(const SynthOptions& options, std::vector<SynthProblem>* held_out) {
  const uint64_t seed = options.seed;
  const int digits = options.digits;
  const int64_t harder = options.held_out / 5;
  const auto accept = [&](const Problem& problem) { return IsHeldOut(problem, seed); };
  RandomStream same(seed, kHeldOutStream);
  TANREN_RETURN_IF_ERROR(DrawHeldOutPart(
      options.held_out - harder, "held-out",
      [&] { return MakeProblem(KindBelow(kOneStepKinds, &same), digits, false, &same); }, accept, false,
      held_out));
  RandomStream longer(seed, kLongerStream);
  TANREN_RETURN_IF_ERROR(DrawHeldOutPart(
      harder - harder / 2, "harder",
      [&] { return MakeProblem(KindBelow(kOneStepKinds, &longer), digits + 1, true, &longer); }, accept, true,
      held_out));
  RandomStream two_step(seed, kTwoStepStream);
  return DrawHeldOutPart(
      harder / 2, "two-operation",
      [&] { return MakeProblem(ProblemKind::kTwoStep, digits, false, &two_step); }, accept, true, held_out);
}

// Nothing when this side has no such problem.
std::optional<Problem> DrawPrompt(const SynthOptions& options, ProblemKind kind, bool longer,
                                  absl::flat_hash_set<std::string>* questions, RandomStream* random) {
  bool exists = true;
  Problem problem = PreferNew(
      [&] {
        Problem drawn;
        for (int i = 0; exists && i < kTriesForSide; ++i) {
          drawn = MakeProblem(kind, options.digits + (longer ? 1 : 0), longer, random);
          if (IsPrompt(drawn, options.seed)) return drawn;
        }
        exists = false;
        return drawn;
      },
      questions);
  if (!exists) return std::nullopt;
  return problem;
}

// Harder ones are spread evenly, and are in turn of two operations and longer.
absl::Status DrawPrompts(const SynthOptions& options, std::vector<SynthProblem>* prompts) {
  RandomStream random(options.seed, kPromptStream);
  absl::flat_hash_set<std::string> questions;
  const auto count = static_cast<double>(options.prompts);
  const int64_t harder = std::llround(options.harder_prompts * count);
  int64_t harder_before = 0;
  for (int64_t i = 0; i < options.prompts; ++i) {
    const bool is_harder = (i + 1) * harder / options.prompts > harder_before;
    const bool two_step = is_harder && harder_before++ % 2 == 0;
    std::optional<Problem> problem;
    for (int tries = 0; !problem.has_value() && tries < 100; ++tries) {
      const ProblemKind kind = two_step ? ProblemKind::kTwoStep : KindBelow(kOneStepKinds, &random);
      problem = DrawPrompt(options, kind, is_harder && !two_step, &questions, &random);
    }
    if (!problem.has_value()) {
      return InvalidInput("no problem of %d digits is left for prompts with the seed %d; ask for more digits",
                          options.digits, options.seed);
    }
    prompts->push_back({*std::move(problem), is_harder});
  }
  return absl::OkStatus();
}

void DrawWordings(const SynthOptions& options, const Wordings& wordings, std::vector<WordingProblem>* sets) {
  RandomStream random(options.seed, kWordingStream);
  absl::flat_hash_set<std::string> questions;
  while (static_cast<int64_t>(sets->size()) < options.wordings) {
    const ProblemKind kind = PlainKind(&random);
    WordingProblem entry;
    entry.problem = PreferNew([&] { return DrawTraining(options, kind, &random); }, &questions);
    entry.seen = wordings.Seen(entry.problem);
    Shuffle(&entry.seen, &random);
    sets->push_back(std::move(entry));
  }
}

absl::Status DrawHeldOutWordings(const SynthOptions& options, const Wordings& wordings,
                                 std::vector<WordingProblem>* sets) {
  RandomStream random(options.seed, kHeldOutWordingStream);
  std::vector<Problem> problems;
  DrawDistinct(
      std::max<int64_t>(1, options.held_out / 2),
      [&] { return MakeProblem(PlainKind(&random), options.digits, false, &random); },
      [&](const Problem& problem) { return IsHeldOut(problem, options.seed); }, &problems);
  if (problems.empty()) {
    return InvalidInput("no problem of %d digits is held out with the seed %d; ask for more digits",
                        options.digits, options.seed);
  }
  for (Problem& problem : problems) {
    WordingProblem entry{std::move(problem), {}, {}, {}};
    entry.seen = wordings.Seen(entry.problem);
    entry.unseen = wordings.Unseen(entry.problem);
    entry.wrong = wordings.Wrong(entry.problem, &random);
    sets->push_back(std::move(entry));
  }
  return absl::OkStatus();
}

void DrawTrainingSets(const SynthOptions& options, const Wordings& wordings, SynthSets* sets) {
  // The kind is drawn anew for each try, and there are only those of one operation.
  RandomStream train(options.seed, kTrainStream);
  while (static_cast<int64_t>(sets->train.size()) < options.problems) {
    Problem problem = MakeProblem(KindBelow(kOneStepKinds, &train), options.digits, false, &train);
    if (IsTraining(problem, options.seed)) sets->train.push_back({std::move(problem), false});
  }
  RandomStream pretrain(options.seed, kPretrainStream);
  sets->pretrain.push_back(AlphabetDocument());
  while (static_cast<int64_t>(sets->pretrain.size()) < options.pretrain) {
    sets->pretrain.push_back(PretrainDocument(
        [&](ProblemKind kind, ProblemSize size) { return DrawTraining(options, kind, &pretrain, size); },
        wordings, &pretrain));
  }
  RandomStream sft(options.seed, kSftStream);
  absl::flat_hash_set<std::string> questions;
  for (int64_t i = 0; i < options.sft; ++i) {
    // Evenly spread, whatever the number of examples.
    const auto before = static_cast<double>(i);
    const bool is_longer =
        std::floor((before + 1) * options.longer_sft) > std::floor(before * options.longer_sft);
    const ProblemKind kind = KindBelow(is_longer ? kOneStepKinds : kProblemKinds, &sft);
    const ProblemSize size = is_longer ? ProblemSize::kLonger : ProblemSize::kUsual;
    Problem problem = PreferNew([&] { return DrawTraining(options, kind, &sft, size); }, &questions);
    sets->sft.push_back({std::move(problem), is_longer || kind == ProblemKind::kTwoStep});
  }
}

}  // namespace

absl::StatusOr<SynthSets> MakeSynthSets(const SynthOptions& options) {
  TANREN_RETURN_IF_ERROR(CheckOptions(options));
  const Wordings wordings(options.seed, options.held_out_wordings);
  SynthSets sets;
  // The small sets first: they find out soon when there are too few problems.
  TANREN_RETURN_IF_ERROR(DrawHeldOut(options, &sets.held_out));
  TANREN_RETURN_IF_ERROR(DrawHeldOutWordings(options, wordings, &sets.held_out_wordings));
  TANREN_RETURN_IF_ERROR(DrawPrompts(options, &sets.prompts));
  if (options.recall > 0) {
    RecallOptions recall;
    recall.seed = options.seed;
    recall.people = options.recall_people;
    recall.digits = options.digits;
    recall.records = options.recall;
    recall.held_out = std::max<int64_t>(1, options.held_out / 2);
    recall.held_out_patterns = options.held_out_wordings * kRecallPatterns / kSentencePatterns;
    TANREN_ASSIGN_OR_RETURN(sets.recall, MakeRecallSets(recall));
  }
  DrawTrainingSets(options, wordings, &sets);
  DrawWordings(options, wordings, &sets.wordings);
  return sets;
}

}  // namespace tanren
