// tanren annotate agreement: two files of decisions about the same answers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/examples/read_examples.h"
#include "core/reward/agreement.h"
#include "launch/annotate_verb.h"
#include "launch/annotation_file.h"
#include "launch/text_verbs.h"

namespace tanren {
namespace {

// What one file says of the answers to a prompt: ranks in the order of the answers' texts, or one label.
struct Decision {
  std::vector<int32_t> ranks;
  bool good = false;
  std::string place;
};

struct Decisions {
  bool labels = false;
  std::map<std::string, Decision> by_key;
};

std::vector<int32_t> RanksByText(const Example& example) {
  std::vector<std::pair<std::string, int32_t>> ranked;
  for (size_t i = 0; i < example.responses.size(); ++i)
    ranked.emplace_back(example.responses[i], example.ranks[i]);
  std::sort(ranked.begin(), ranked.end());
  std::vector<int32_t> ranks;
  for (const auto& [text, rank] : ranked) ranks.push_back(rank);
  return ranks;
}

absl::StatusOr<Decisions> Read(const std::string& path) {
  ExampleOptions options;
  options.max_damaged_fraction = 0;
  ExampleReport report;
  TANREN_ASSIGN_OR_RETURN(const std::vector<Example> examples, ReadExamples(path, options, &report));
  Decisions decisions;
  decisions.labels = examples.front().format == ExampleFormat::kLabelled;
  for (const Example& example : examples) {
    const bool labelled = example.format == ExampleFormat::kLabelled;
    if ((!labelled && example.ranks.empty()) || labelled != decisions.labels) {
      return InvalidInput("%s: a record of format %s; a file to compare holds rankings only, or labels only",
                          example.source, NameOf(example.format));
    }
    Decision decision;
    if (!labelled) decision.ranks = RanksByText(example);
    decision.good = example.label;
    decision.place = example.source;
    const auto [found, added] = decisions.by_key.emplace(AnnotationKey(example), std::move(decision));
    if (!added) {
      return InvalidInput("%s: decides about the same answers as %s", example.source, found->second.place);
    }
  }
  return decisions;
}

// A figure, or why there is none.
std::string Figure(double value, const char* why) {
  return std::isnan(value) ? absl::StrCat("undefined: ", why) : absl::StrFormat("%.4f", value);
}

void PrintRankings(const std::vector<std::pair<const Decision*, const Decision*>>& common) {
  PairAgreement all;
  double tau_sum = 0;
  for (const auto& [first, second] : common) {
    const PairAgreement pairs = ComparePairs(first->ranks, second->ranks);
    tau_sum += pairs.tau_b();  // a ranking that is all ties is no example, so there is one
    all.Add(pairs);
  }
  std::printf(
      "%lld pairs of answers: %lld in the same order, %lld in opposite orders, %lld tied by one only, %lld "
      "by both\n",
      static_cast<long long>(all.pairs()), static_cast<long long>(all.same),
      static_cast<long long>(all.opposite), static_cast<long long>(all.tied_first + all.tied_second),
      static_cast<long long>(all.tied_both));
  std::printf("pairwise agreement %s\n", Figure(all.agreement(), "no pair").c_str());
  std::printf("Kendall's tau-b %.4f, the mean over prompts\n", tau_sum / static_cast<double>(common.size()));
}

void PrintLabels(const std::vector<std::pair<const Decision*, const Decision*>>& common) {
  LabelAgreement labels;
  for (const auto& [first, second] : common) labels.Add(first->good, second->good);
  std::printf(
      "%lld answers: %lld good for both, %lld bad for both, %lld good for the first only, %lld for the "
      "second "
      "only\n",
      static_cast<long long>(labels.answers()), static_cast<long long>(labels.both_good),
      static_cast<long long>(labels.both_bad), static_cast<long long>(labels.only_first_good),
      static_cast<long long>(labels.only_second_good));
  std::printf("agreement %s\n", Figure(labels.agreement(), "no answer").c_str());
  std::printf("Cohen's kappa %s\n", Figure(labels.kappa(), "both give one and the same label only").c_str());
}

absl::Status Compare(const std::string& first_path, const std::string& second_path) {
  TANREN_ASSIGN_OR_RETURN(const Decisions first, Read(first_path));
  TANREN_ASSIGN_OR_RETURN(const Decisions second, Read(second_path));
  if (first.labels != second.labels) {
    return InvalidInput("%s holds %s and %s holds %s; compare two files of one kind", first_path,
                        first.labels ? "labels" : "rankings", second_path,
                        second.labels ? "labels" : "rankings");
  }
  std::vector<std::pair<const Decision*, const Decision*>> common;
  for (const auto& [key, decision] : first.by_key) {
    const auto other = second.by_key.find(key);
    if (other != second.by_key.end()) common.emplace_back(&decision, &other->second);
  }
  if (common.empty()) {
    return InvalidInput("%s and %s decide about no answers in common: the same prompt with the same answers",
                        first_path, second_path);
  }
  std::printf("%zu decisions about the same answers in both files, %zu only in %s, %zu only in %s\n",
              common.size(), first.by_key.size() - common.size(), first_path.c_str(),
              second.by_key.size() - common.size(), second_path.c_str());
  first.labels ? PrintLabels(common) : PrintRankings(common);
  return absl::OkStatus();
}

}  // namespace

int AnnotateAgreement(const AgreementOptions& options) {
  const absl::Status status = Compare(options.first, options.second);
  return status.ok() ? 0 : WrongInput(status);
}

}  // namespace tanren
