#include "core/corpus/synth.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/corpus/staged_directory.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr const char* kRecordFile = "synth.json";
constexpr uint64_t kTrainStream = 1;
constexpr uint64_t kHeldOutStream = 2;
constexpr uint64_t kHarderStream = 3;
constexpr uint64_t kHeldOutOf = 10;  // one key in ten is held out

absl::Status CheckOptions(const SynthOptions& options) {
  constexpr int64_t kMost = 100'000'000;
  if (options.problems < 1 || options.problems > kMost) {
    return InvalidInput("%d training problems; 1 to %d are possible", options.problems, kMost);
  }
  if (options.held_out < 1 || options.held_out > kMost) {
    return InvalidInput("%d held-out problems; 1 to %d are possible", options.held_out, kMost);
  }
  if (options.digits < 1 || options.digits > 7) {
    return InvalidInput("operands of %d digits; 1 to 7 are possible", options.digits);
  }
  return absl::OkStatus();
}

bool IsHeldOut(const Problem& problem, uint64_t seed) {
  uint64_t hash = seed;
  for (const char c : CanonicalKey(problem)) hash = CounterRandom(hash, static_cast<unsigned char>(c));
  return hash % kHeldOutOf == 0;
}

ProblemKind DrawKind(RandomStream* random) {
  return static_cast<ProblemKind>(random->Between(0, kProblemKinds - 1));
}

// Distinct held-out problems: `count` of them that `accept`.
template <class Draw, class Accept>
absl::Status DrawDistinct(int64_t count, const char* what, Draw draw, Accept accept, bool harder,
                          std::vector<SynthProblem>* problems) {
  absl::flat_hash_set<std::string> questions;
  int64_t misses = 0;
  while (static_cast<int64_t>(questions.size()) < count) {
    Problem problem = draw();
    if (accept(problem) && questions.insert(problem.question).second) {
      problems->push_back({std::move(problem), harder});
      misses = 0;
    } else if (++misses > 100'000) {
      return InvalidInput(
          "only %d distinct %s problems exist at this number of digits, not %d; ask for fewer, or for "
          "more digits",
          questions.size(), what, count);
    }
  }
  return absl::OkStatus();
}

json ToJson(const SynthProblem& entry) {
  return {{"text", TextOf(entry.problem)},
          {"question", entry.problem.question},
          {"answer", absl::StrCat(AnswerOf(entry.problem))},
          {"kind", NameOf(entry.problem.kind)},
          {"difficulty", entry.harder ? "harder" : "same"}};
}

std::string ToJsonl(const std::vector<SynthProblem>& problems) {
  std::string lines;
  for (const SynthProblem& problem : problems) absl::StrAppend(&lines, ToJson(problem).dump(), "\n");
  return lines;
}

json Record(const SynthOptions& options) {
  return {{"format", "tanren.synth"},     {"version", 1},
          {"seed", options.seed},         {"problems", options.problems},
          {"held_out", options.held_out}, {"digits", options.digits}};
}

// True when `out` holds what these options make, false when it may be written.
absl::StatusOr<bool> LookForEarlier(const SynthOptions& options) {
  if (IsAbsentOrEmpty(options.out)) return false;
  const std::string path = absl::StrCat(options.out, "/", kRecordFile);
  if (access(path.c_str(), F_OK) != 0) {
    return InvalidInput("%s is there already and was not made by `tanren data synth`; choose another --out",
                        options.out);
  }
  absl::StatusOr<json> earlier = ReadJsonFile(path);
  if (earlier.ok() && earlier->is_object()) {
    bool same = true;
    for (const char* file : {"train.jsonl", "heldout.jsonl"}) {
      const auto hash = earlier->find(file);
      const absl::StatusOr<std::string> text =
          ReadSmallFile(absl::StrCat(options.out, "/", file), int64_t{1} << 36);
      same &= text.ok() && hash != earlier->end() && *hash == Sha256Hex(*text);
      if (hash != earlier->end()) earlier->erase(hash);
    }
    if (same && *earlier == Record(options)) return true;
  }
  if (options.force) return false;
  return InvalidInput(
      "%s holds other problems, or was changed; choose another --out, or replace it with --force",
      options.out);
}

}  // namespace

absl::StatusOr<SynthSets> MakeSynthSets(const SynthOptions& options) {
  TANREN_RETURN_IF_ERROR(CheckOptions(options));
  SynthSets sets;
  RandomStream train(options.seed, kTrainStream);
  while (static_cast<int64_t>(sets.train.size()) < options.problems) {
    Problem problem = MakeProblem(DrawKind(&train), options.digits, false, &train);
    if (!IsHeldOut(problem, options.seed)) sets.train.push_back({std::move(problem), false});
  }
  const int64_t harder = options.held_out / 5;
  RandomStream held_out(options.seed, kHeldOutStream);
  TANREN_RETURN_IF_ERROR(DrawDistinct(
      options.held_out - harder, "held-out",
      [&] { return MakeProblem(DrawKind(&held_out), options.digits, false, &held_out); },
      [&](const Problem& problem) { return IsHeldOut(problem, options.seed); }, false, &sets.held_out));
  RandomStream longer(options.seed, kHarderStream);
  TANREN_RETURN_IF_ERROR(DrawDistinct(
      harder, "harder", [&] { return MakeProblem(DrawKind(&longer), options.digits + 1, true, &longer); },
      [](const Problem&) { return true; }, true, &sets.held_out));
  return sets;
}

absl::StatusOr<SynthSummary> WriteSynthCorpus(const SynthOptions& options) {
  if (options.out.empty()) return InvalidInput("no output directory");
  TANREN_ASSIGN_OR_RETURN(const SynthSets sets, MakeSynthSets(options));
  SynthSummary summary;
  summary.train_path = absl::StrCat(options.out, "/train.jsonl");
  summary.held_out_path = absl::StrCat(options.out, "/heldout.jsonl");
  summary.train_problems = static_cast<int64_t>(sets.train.size());
  summary.held_out_problems = static_cast<int64_t>(sets.held_out.size());
  summary.harder_problems = options.held_out / 5;
  summary.example = TextOf(sets.train[0].problem);
  TANREN_ASSIGN_OR_RETURN(summary.up_to_date, LookForEarlier(options));
  if (summary.up_to_date) return summary;

  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged,
                          StagedDirectory::Create(options.out));
  json record = Record(options);
  const std::string train = ToJsonl(sets.train);
  const std::string held_out = ToJsonl(sets.held_out);
  record["train.jsonl"] = Sha256Hex(train);
  record["heldout.jsonl"] = Sha256Hex(held_out);
  TANREN_RETURN_IF_ERROR(WriteSmallFile(staged->path() + "/train.jsonl", train));
  TANREN_RETURN_IF_ERROR(WriteSmallFile(staged->path() + "/heldout.jsonl", held_out));
  TANREN_RETURN_IF_ERROR(
      WriteSmallFile(absl::StrCat(staged->path(), "/", kRecordFile), record.dump(1) + "\n"));
  TANREN_RETURN_IF_ERROR(staged->Commit(options.force));
  return summary;
}

}  // namespace tanren
