// Rules between the keys of a suite. Internal to core/evaluation.
#ifndef TANREN_CORE_EVALUATION_SUITE_RULES_H_
#define TANREN_CORE_EVALUATION_SUITE_RULES_H_

#include "core/config/error_report.h"
#include "core/proto/suite.pb.h"

namespace tanren {

// Names, kinds of tests, the order of parts, models that are needed, and gates: every figure that a gate
// names must be one that its test can have.
void CheckSuiteRules(const config::SuiteConfig& suite, config::ErrorReport* report);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_SUITE_RULES_H_
