#include "core/evaluation/figures.h"

#include <algorithm>
#include <cmath>

#include "core/base/status.h"
#include "core/evaluation/sampling.h"
#include "core/reward/sample_metrics.h"

namespace tanren {
namespace {

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void Add(double value) {
    sum += value;
    ++count;
  }
  double value() const { return sum / static_cast<double>(count); }
};

void Append(const std::string& name, const Mean& mean, Figures* figures) {
  if (mean.count > 0) figures->emplace_back(name, mean.value());
}

// The samples of a turn in blocks of `n`: how often the chosen one of a block is right.
double BlockAccuracy(const TurnRecord& turn, int64_t n, Strategy::Choice by) {
  Mean mean;
  const int64_t samples = static_cast<int64_t>(turn.answers.size());
  for (int64_t begin = 0; begin + n <= samples; begin += n) {
    Ballot ballot;
    for (int64_t s = begin; s < begin + n; ++s) {
      ballot.answers.push_back(turn.answers[s]);
      ballot.mean_logps.push_back(turn.replies.replies[s].mean_logp());
      ballot.scores.push_back(turn.replies.replies[s].score);
    }
    const int64_t chosen = Choose(by, ballot).reply;
    mean.Add(chosen >= 0 && turn.verdicts[begin + chosen].right);
  }
  return mean.count == 0 ? 0 : mean.value();
}

// Figures over the samples of checked turns.
class SampleFigures {
 public:
  SampleFigures(const Strategy& strategy, bool scores)
      : strategy_(strategy), scores_(scores), counts_(PassCounts(strategy.answers())) {
    passes_.resize(counts_.size());
    majority_.resize(strategy.curve.size());
    by_reward_.resize(strategy.curve.size());
    by_logp_.resize(strategy.curve.size());
  }

  void Add(const TurnRecord& turn) {
    consistency_.Add(Consistency(turn.answers));
    const int64_t given = static_cast<int64_t>(turn.answers.size());
    const int64_t right = std::ranges::count_if(turn.verdicts, [](const Verdict& v) { return v.right; });
    // A beam search may end with fewer answers than it may keep.
    for (size_t k = 0; k < counts_.size(); ++k) {
      passes_[k].Add(given == 0 ? 0 : PassAtK(given, right, std::min(counts_[k], given)));
    }
    AddWordings(turn);
    for (size_t i = 0; i < strategy_.curve.size(); ++i) {
      const int64_t n = std::min(strategy_.curve[i], std::max<int64_t>(given, 1));
      majority_[i].Add(BlockAccuracy(turn, n, Strategy::Choice::kMajority));
      by_reward_[i].Add(BlockAccuracy(turn, n, Strategy::Choice::kBestByReward));
      by_logp_[i].Add(BlockAccuracy(turn, n, Strategy::Choice::kBestByLogp));
    }
  }

  void AppendTo(Figures* figures) const {
    if (strategy_.answers() > 1) {
      Append("consistency", consistency_, figures);
      if (right_ > 0) figures->emplace_back("distinct_right", distinct_ / right_);
      Append("wordings_right", wordings_, figures);
      for (size_t k = 0; k < counts_.size(); ++k) {
        Append(absl::StrCat("pass_at_", counts_[k]), passes_[k], figures);
      }
    }
    for (size_t i = 0; i < strategy_.curve.size(); ++i) {
      const int64_t n = strategy_.curve[i];
      Append(absl::StrCat("majority_at_", n), majority_[i], figures);
      Append(absl::StrCat("best_by_logp_at_", n), by_logp_[i], figures);
      if (scores_) Append(absl::StrCat("best_by_reward_at_", n), by_reward_[i], figures);
    }
  }

 private:
  void AddWordings(const TurnRecord& turn) {
    std::vector<std::string> right;
    for (size_t r = 0; r < turn.verdicts.size(); ++r) {
      if (turn.verdicts[r].right) right.push_back(turn.replies.replies[r].text);
    }
    if (right.empty()) return;
    wordings_.Add(static_cast<double>(DistinctWordings(right)));
    if (right.size() < 2) return;  // one is always distinct
    distinct_ += static_cast<double>(DistinctTexts(right));
    right_ += static_cast<double>(right.size());
  }

  const Strategy& strategy_;
  bool scores_;
  double distinct_ = 0, right_ = 0;
  std::vector<int64_t> counts_;
  Mean consistency_, wordings_;
  std::vector<Mean> passes_, majority_, by_reward_, by_logp_;
};

// Figures over the chosen replies.
struct ReplyFigures {
  Mean no_answer, steps_valid, cut_off, forced, score, harmful;
  Mean kl;  // over all replies, chosen or not
  double checker_failures = 0;
  double tokens = 0;

  void Add(const TurnRecord& turn, bool judges_harm) {
    tokens += static_cast<double>(turn.replies.generated_tokens);
    checker_failures +=
        static_cast<double>(std::ranges::count_if(turn.verdicts, [](const Verdict& v) { return v.failed; }));
    for (const Reply& reply : turn.replies.replies) kl.Add(reply.logp - reply.reference_logp);
    if (turn.reference.has_value()) {
      no_answer.Add(turn.chosen() == nullptr || turn.answers[turn.choice.reply].empty());
      steps_valid.Add(turn.chosen() != nullptr && turn.verdict()->steps_valid);
    }
    if (turn.chosen() == nullptr) return;
    cut_off.Add(!turn.chosen()->ended);
    forced.Add(turn.chosen()->forced);
    score.Add(turn.chosen()->score);
    if (judges_harm) harmful.Add(turn.verdict()->harmful);
  }
};

bool Checks(const config::CheckConfig& check) { return check.checker() != config::CheckConfig::none; }

}  // namespace

bool MeasuresKl(const config::SuiteConfig& suite, const Strategy& strategy) {
  return !suite.reference().empty() && !strategy.beams && DrawsFromModel(strategy.sample);
}

std::vector<int64_t> PassCounts(int64_t n) {
  std::vector<int64_t> counts;
  for (int64_t k = 1; k < n; k *= 2) counts.push_back(k);
  counts.push_back(n);
  return counts;
}

bool JudgesHarm(const config::TestConfig& test, const EvaluationCase& one) {
  return !test.harmful().command().empty() || !one.harmful.empty();
}

Figures FiguresOf(const config::SuiteConfig& suite, const config::TestConfig& test, const Strategy& strategy,
                  const std::vector<EvaluationCase>& cases, const StrategyRecord& record,
                  const std::vector<int64_t>& chosen) {
  const bool scores = !suite.reward().empty();
  Mean accuracy, win;
  ReplyFigures replies;
  SampleFigures samples(strategy, scores);
  double oversize = 0;
  for (const int64_t i : chosen) {
    const CaseRecord& one = record.cases[i];
    oversize += one.oversize;
    if (one.checked) accuracy.Add(one.right);
    if (one.win.has_value()) win.Add(*one.win);
    for (const TurnRecord& turn : one.turns) {
      replies.Add(turn, JudgesHarm(test, cases[i]));
      if (turn.reference.has_value()) samples.Add(turn);
    }
  }
  Figures figures = {{"cases", static_cast<double>(chosen.size())}, {"oversize", oversize}};
  if (accuracy.count > 0 && Checks(strategy.check)) {
    const double share = accuracy.value(), count = static_cast<double>(accuracy.count);
    figures.emplace_back("accuracy", share);
    figures.emplace_back("accuracy_standard_error", std::sqrt(share * (1 - share) / count));
    figures.emplace_back("error_rate", 1 - share);
    Append("no_answer", replies.no_answer, &figures);
    Append("steps_valid", replies.steps_valid, &figures);
    samples.AppendTo(&figures);
  }
  Append("cut_off", replies.cut_off, &figures);
  if (!strategy.beams && strategy.sample.thinking_tokens() > 0) Append("forced", replies.forced, &figures);
  if (scores) Append("reward_score", replies.score, &figures);
  if (MeasuresKl(suite, strategy)) Append("reference_kl", replies.kl, &figures);
  Append("harmful_rate", replies.harmful, &figures);
  if (!suite.versus().empty()) Append("win_rate", win, &figures);
  figures.emplace_back("checker_failures", replies.checker_failures);
  figures.emplace_back("tokens", replies.tokens);
  figures.emplace_back("tokens_per_case", replies.tokens / static_cast<double>(chosen.size()));
  if (chosen.size() == cases.size()) figures.emplace_back("seconds", record.seconds);
  return figures;
}

std::vector<std::string> FigureNames(const config::SuiteConfig& suite, const config::TestConfig& test,
                                     const config::StrategyConfig* config) {
  if (test.has_perplexity()) {
    std::vector<std::string> names = {"loss", "perplexity"};
    if (!test.perplexity().tokens().empty()) names.push_back("bits_per_byte");
    return names;
  }
  if (config == nullptr) {
    return {"reward_accuracy", "reward_margin", "reward_brier", "reward_calibration_error", "rankings"};
  }
  const Strategy strategy = ResolveStrategy(suite, test, *config);
  std::vector<std::string> names = {"cases", "oversize"};
  if (Checks(strategy.check)) {
    for (const char* name :
         {"accuracy", "accuracy_standard_error", "error_rate", "no_answer", "steps_valid"}) {
      names.push_back(name);
    }
    if (strategy.answers() > 1) {
      for (const char* name : {"consistency", "distinct_right", "wordings_right"}) names.push_back(name);
      for (const int64_t k : PassCounts(strategy.answers())) names.push_back(absl::StrCat("pass_at_", k));
    }
    for (const int64_t n : strategy.curve) {
      names.push_back(absl::StrCat("majority_at_", n));
      names.push_back(absl::StrCat("best_by_logp_at_", n));
      if (!suite.reward().empty()) names.push_back(absl::StrCat("best_by_reward_at_", n));
    }
  }
  names.push_back("cut_off");
  if (!strategy.beams && strategy.sample.thinking_tokens() > 0) names.push_back("forced");
  if (!suite.reward().empty()) names.push_back("reward_score");
  if (MeasuresKl(suite, strategy)) names.push_back("reference_kl");
  names.push_back("harmful_rate");
  if (!suite.versus().empty()) names.push_back("win_rate");
  for (const char* name : {"checker_failures", "tokens", "tokens_per_case", "seconds"}) names.push_back(name);
  return names;
}

std::optional<double> FindFigure(const Figures& figures, const std::string& name) {
  for (const auto& [own, value] : figures) {
    if (own == name) return value;
  }
  return std::nullopt;
}

}  // namespace tanren
