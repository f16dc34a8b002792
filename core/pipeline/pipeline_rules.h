// Rules between the keys of a pipeline. Internal to core/pipeline.
#ifndef TANREN_CORE_PIPELINE_PIPELINE_RULES_H_
#define TANREN_CORE_PIPELINE_PIPELINE_RULES_H_

#include "core/config/error_report.h"
#include "core/proto/pipeline.pb.h"

namespace tanren {

// Names, kinds of stages, their order, and what a scheduler or a shell could misread.
void CheckPipelineRules(const config::PipelineConfig& pipeline, config::ErrorReport* report);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_PIPELINE_RULES_H_
