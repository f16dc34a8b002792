// Sampled answers, prompt by prompt: what annotators and judges rank.
#ifndef TANREN_LAUNCH_SAMPLE_GROUPS_H_
#define TANREN_LAUNCH_SAMPLE_GROUPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace tanren {

struct SampleGroup {
  std::string prompt;
  std::vector<std::string> responses;       // distinct, in order
  std::vector<std::string> models;          // who wrote each of them; empty where the line does not say
  nlohmann::ordered_json answer;            // as the line has them; null without
  nlohmann::ordered_json kind, difficulty;  // as the line has them; null without
};

struct SampleCounts {
  int64_t duplicates = 0;  // responses left out because another one is the same
  int64_t unusable = 0;  // responses left out because they are blank or hold a NUL: no stage learns from them
};

// JSONL, plain or compressed, a group a line: {"prompt", "responses": [..]} and perhaps "answer", "models":
// [..], "kind", "difficulty"; other fields are passed over. An error names the file and the line.
absl::StatusOr<std::vector<SampleGroup>> ReadSampleGroups(const std::string& path, SampleCounts* counts);

// Adds what a group says beside its prompt and responses to a record made from it.
void AddGroupFields(const SampleGroup& group, nlohmann::ordered_json* record);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SAMPLE_GROUPS_H_
