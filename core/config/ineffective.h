// Keys that are spelt right, are set, and do nothing beside the others.
#ifndef TANREN_CORE_CONFIG_INEFFECTIVE_H_
#define TANREN_CORE_CONFIG_INEFFECTIVE_H_

#include <string>
#include <vector>

namespace tanren::config {

class Config;

// Of a resolved config: the keys of its stage that are not at their defaults and that the chosen algorithm or
// loss does not read, each with why: "rl.lambda: 0.9 has no effect with rl.algorithm grpo, which has no
// critic". No errors, so that one config can be tried with several algorithms; to be said as warnings.
std::vector<std::string> IneffectiveKeys(const Config& config);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_INEFFECTIVE_H_
