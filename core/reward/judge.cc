#include "core/reward/judge.h"

#include <algorithm>

#include "core/base/status.h"
#include "core/reward/checker.h"

namespace tanren {
namespace {

constexpr std::string_view kMarker = "####";

int32_t TierOf(std::string_view response, bool right) {
  const StepReport steps = CheckSteps(response, kMarker);
  if (right) return steps.valid() ? 1 : 2;
  Quantity quantity;
  if (!ParseQuantity(ExtractAnswer(response, kMarker), &quantity)) return 5;
  return steps.right >= 1 && steps.right >= steps.steps - 1 ? 3 : 4;
}

}  // namespace

std::vector<int32_t> JudgeArithmetic(std::string_view prompt, std::string_view answer,
                                     std::span<const std::string> responses) {
  CheckerOptions options;
  options.marker = std::string(kMarker);
  auto checker = MakeChecker(options);
  TANREN_CHECK(checker.ok());
  std::vector<int32_t> ranks;
  for (const std::string& response : responses) {
    ranks.push_back(TierOf(response, (*checker)->Check(prompt, response, answer).right));
  }
  std::vector<int32_t> tiers = ranks;
  std::sort(tiers.begin(), tiers.end());
  tiers.erase(std::unique(tiers.begin(), tiers.end()), tiers.end());
  for (int32_t& rank : ranks) {
    rank = static_cast<int32_t>(std::lower_bound(tiers.begin(), tiers.end(), rank) - tiers.begin()) + 1;
  }
  return ranks;
}

}  // namespace tanren
