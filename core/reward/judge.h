// A scripted judge of answers to problems of arithmetic: preferences without a person.
#ifndef TANREN_CORE_REWARD_JUDGE_H_
#define TANREN_CORE_REWARD_JUDGE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tanren {

// Ranks of the responses to one prompt, 1 the best, equal for ties, without gaps. From best to worst:
//   the right answer with all steps right and leading to it,
//   the right answer with a wrong step or without steps,
//   a wrong answer with at most one step wrong and at least one right,
//   any other wrong answer that is a number,
//   no answer behind "####".
std::vector<int32_t> JudgeArithmetic(std::string_view prompt, std::string_view answer,
                                     std::span<const std::string> responses);

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_JUDGE_H_
