#include "core/reward/sample_metrics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/base/status.h"
#include "core/reward/checker.h"
#include "core/reward/numeric.h"

namespace tanren {
namespace {

// Equal for answers that are one: numbers by their value, whatever their unit, other text as it is.
std::string KeyOf(const std::string& answer) {
  Quantity quantity;
  if (!ParseQuantity(answer, &quantity)) return absl::StrCat("=", View(Trimmed(answer)));
  return absl::StrFormat("#%.12g", quantity.value == 0 ? 0.0 : quantity.value);
}

std::vector<std::string> WordsOf(std::string_view text) {
  std::vector<std::string> words;
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  for (size_t begin; (begin = text.find_first_not_of(kSpace)) != std::string_view::npos;) {
    text.remove_prefix(begin);
    const size_t end = std::min(text.find_first_of(kSpace), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return words;
}

}  // namespace

double PassAtK(int64_t n, int64_t c, int64_t k) {
  TANREN_CHECK_MSG(k >= 1 && k <= n && c >= 0 && c <= n, "n ", n, ", c ", c, ", k ", k);
  if (n - c < k) return 1;
  double all_wrong = 1;
  for (int64_t i = n - c + 1; i <= n; ++i) all_wrong *= 1 - static_cast<double>(k) / static_cast<double>(i);
  return 1 - all_wrong;
}

int64_t MajorityVote(std::span<const std::string> answers, std::span<const double> weights) {
  TANREN_CHECK_MSG(weights.empty() || weights.size() == answers.size(), answers.size(), " answers, ",
                   weights.size(), " weights");
  struct Candidate {
    int64_t first;
    double weight = 0;
  };
  std::map<std::string, Candidate> candidates;
  for (size_t i = 0; i < answers.size(); ++i) {
    if (Trimmed(answers[i]).empty()) continue;
    const double weight = weights.empty() ? 1 : weights[i];
    Candidate& candidate =
        candidates.try_emplace(KeyOf(answers[i]), Candidate{static_cast<int64_t>(i)}).first->second;
    if (!std::isnan(weight)) candidate.weight += weight;
  }
  const Candidate* best = nullptr;
  for (const auto& [key, candidate] : candidates) {
    if (best == nullptr || candidate.weight > best->weight ||
        (candidate.weight == best->weight && candidate.first < best->first)) {
      best = &candidate;
    }
  }
  if (best != nullptr) return best->first;
  return answers.empty() ? -1 : 0;
}

int64_t BestOf(std::span<const double> scores) {
  int64_t best = -1;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!std::isnan(scores[i]) && (best < 0 || scores[i] > scores[best])) best = static_cast<int64_t>(i);
  }
  return best;
}

double Consistency(std::span<const std::string> answers) {
  std::map<std::string, int64_t> counts;
  int64_t most = 0;
  for (const std::string& answer : answers) {
    if (!Trimmed(answer).empty()) most = std::max(most, ++counts[KeyOf(answer)]);
  }
  return answers.empty() ? 0 : static_cast<double>(most) / static_cast<double>(answers.size());
}

int64_t DistinctTexts(std::span<const std::string> texts) {
  std::set<std::vector<std::string>> distinct;
  for (const std::string& text : texts) distinct.insert(WordsOf(text));
  return static_cast<int64_t>(distinct.size());
}

int64_t DistinctWordings(std::span<const std::string> texts) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::vector<std::string> wordings;
  for (const std::string& text : texts) {
    std::string& wording = wordings.emplace_back();
    for (size_t i = 0; i < text.size(); ++i) {
      if (!is_digit(text[i])) wording += text[i];
      if (is_digit(text[i]) && (i == 0 || !is_digit(text[i - 1]))) wording += '0';
    }
  }
  return DistinctTexts(wordings);
}

double DistinctNgrams(std::span<const std::string> texts, int n) {
  std::set<std::vector<std::string>> distinct;
  int64_t all = 0;
  for (const std::string& text : texts) {
    const std::vector<std::string> words = WordsOf(text);
    for (size_t i = 0; n >= 1 && i + static_cast<size_t>(n) <= words.size(); ++i) {
      distinct.insert({words.begin() + static_cast<int64_t>(i), words.begin() + static_cast<int64_t>(i) + n});
      ++all;
    }
  }
  return all == 0 ? 0 : static_cast<double>(distinct.size()) / static_cast<double>(all);
}

}  // namespace tanren
