// Continuous batching over fixed decode slots.
//
// Requests are dealt to data ranks round robin. On each, a request waits for a free slot, the prompts of the
// requests that begin together are run through the model one behind the other, `prefill_tokens` rows a step,
// and then every decode step advances all busy slots by one token. Products always have the same number of
// rows and kernels treat rows alike, so an answer does not depend on its neighbours, its slot or its rank.
#ifndef TANREN_PARALLEL_ENGINE_GENERATOR_H_
#define TANREN_PARALLEL_ENGINE_GENERATOR_H_

#include <span>
#include <vector>

#include "core/engine/engine.h"
#include "parallel/engine/model.h"

namespace tanren {

absl::StatusOr<std::vector<GenerationResult>> GenerateOnMesh(Model& model, const EngineOptions& options,
                                                             const Mesh& mesh,
                                                             std::span<const GenerationRequest> requests);

}  // namespace tanren

#endif  // TANREN_PARALLEL_ENGINE_GENERATOR_H_
