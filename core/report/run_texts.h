// The texts of a run for its page: samples.jsonl and logs/rank_*.log, thinned.
#ifndef TANREN_CORE_REPORT_RUN_TEXTS_H_
#define TANREN_CORE_REPORT_RUN_TEXTS_H_

#include <cstdint>
#include <string>

#include "core/report/run_contents.h"

namespace tanren {

// At most 24 steps, evenly chosen with the newest among them, and 8 samples of each. Fills samples and
// all_samples; damaged lines are noted. Lines without a step are not samples of a training run.
void ReadSamples(RunContents* out);

// The first 100 warnings and errors, of all ranks, by time. Fills warnings and all_warnings.
void ReadWarnings(RunContents* out);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_RUN_TEXTS_H_
