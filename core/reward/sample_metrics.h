// Figures over several answers to one question: what evaluation and test-time scaling report.
#ifndef TANREN_CORE_REWARD_SAMPLE_METRICS_H_
#define TANREN_CORE_REWARD_SAMPLE_METRICS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tanren {

// Unbiased pass@k from n samples of which c are right (Chen et al. 2021): 1 - prod_{i=n-c+1..n} (1 - k/i).
// 1 <= k <= n.
double PassAtK(int64_t n, int64_t c, int64_t k);

// The answer with the largest sum of weights, samples without an answer ("") not counted (unless there is no
// other); ties go to the one that came first. Empty weights: all 1. Returns the index of the first sample
// that gave it, -1 when there is none. Numerically equal answers ("12", "12.0") are one.
int64_t MajorityVote(std::span<const std::string> answers, std::span<const double> weights);

// The index of the largest score, the first among equals, NaN never; -1 for none.
int64_t BestOf(std::span<const double> scores);

// Share of the most common answer among all samples: 1 when all agree.
double Consistency(std::span<const std::string> answers);

// Distinct texts after white space is squeezed, and distinct n-grams of words divided by all (Li et al.
// 2016).
int64_t DistinctTexts(std::span<const std::string> texts);
double DistinctNgrams(std::span<const std::string> texts, int n);

// Distinct texts where each run of digits counts as the same number: "Ann has 4." and "Ann has 12." are one
// wording.
int64_t DistinctWordings(std::span<const std::string> texts);

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_SAMPLE_METRICS_H_
