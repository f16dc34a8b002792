// An evaluation suite: its YAML, the rules between its keys, and what a strategy consists of.
#ifndef TANREN_CORE_EVALUATION_SUITE_H_
#define TANREN_CORE_EVALUATION_SUITE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/proto/suite.pb.h"
#include "core/reward/checker.h"

namespace tanren {

// Reads a suite as config::LoadConfig reads a run: the same YAML, includes, overrides, strictness and form of
// errors (InvalidArgument, one line for each thing that is wrong, with its place).
absl::StatusOr<config::SuiteConfig> LoadSuite(const std::string& path,
                                              std::span<const std::string> overrides = {});
absl::StatusOr<config::SuiteConfig> LoadSuiteText(const std::string& text, const std::string& name,
                                                  std::span<const std::string> overrides = {});

// The same rules for a suite made in code, without places.
absl::Status ValidateSuite(const config::SuiteConfig& suite);

// A strategy with everything that it leaves to its test or to the suite filled in.
struct Strategy {
  enum class Choice { kMajority, kVoteByReward, kVoteByLogp, kFirst, kBestByReward, kBestByLogp };

  std::string name;
  config::PromptConfig prompt;
  bool beams = false;           // else samples
  config::SampleConfig sample;  // seed and max_tokens set
  config::BeamConfig beam;      // seed and max_tokens set
  std::string marker;           // of the extraction
  config::CheckConfig check;
  Choice choice = Choice::kFirst;
  std::vector<int64_t> curve;

  int64_t answers() const { return beams ? beam.width() : sample.n(); }
  int64_t most_tokens() const;  // of an answer, with a marker that is appended
  bool votes() const { return choice <= Choice::kVoteByLogp; }  // its last part is `vote`, else `select`
};
Strategy ResolveStrategy(const config::SuiteConfig& suite, const config::TestConfig& test,
                         const config::StrategyConfig& strategy);

// The options of the checker that a check describes. Its `checker` is not none.
CheckerOptions CheckerOptionsOf(const config::CheckConfig& check);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_SUITE_H_
