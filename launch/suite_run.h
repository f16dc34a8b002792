// Runs a suite on the ranks of a job: what `tanren eval` does in both of its forms.
#ifndef TANREN_LAUNCH_SUITE_RUN_H_
#define TANREN_LAUNCH_SUITE_RUN_H_

#include <string>

#include "absl/status/statusor.h"
#include "core/evaluation/report.h"
#include "core/proto/suite.pb.h"
#include "parallel/runtime/runtime.h"

namespace tanren {

// Everything that is wrong with the input is said before anything is generated, but for a scenario that
// outgrows the context. `trace`: the directory of the trace, empty: none. `suite` outlives the result. The
// same on every rank, but for seconds. Collective.
absl::StatusOr<SuiteResult> RunSuite(Runtime& runtime, const config::SuiteConfig& suite,
                                     const std::string& trace);

// Runs one part again from the trace in `trace` and prints for every test and strategy whether the outputs
// are the same. True when all are. Loads the model only for parts that need it. Collective.
absl::StatusOr<bool> ReplaySuite(Runtime& runtime, const config::SuiteConfig& suite, const std::string& trace,
                                 const std::string& part);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SUITE_RUN_H_
