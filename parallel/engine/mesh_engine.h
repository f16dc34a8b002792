// The engine on a data x tensor mesh.
#ifndef TANREN_PARALLEL_ENGINE_MESH_ENGINE_H_
#define TANREN_PARALLEL_ENGINE_MESH_ENGINE_H_

#include <memory>

#include "core/engine/engine.h"

namespace tanren {

// Plans the memory of this rank without allocating it. InvalidArgument when the shape cannot be split over
// the mesh's tensor axis or the options are inconsistent.
absl::StatusOr<MemoryPlan> PlanMemory(const EngineOptions& options, const Mesh& mesh);

// OK when the plan fits `limit_bytes` and, beside a GPU, `host_limit_bytes` (0: no limit); otherwise names
// the largest consumers and two ways out.
absl::Status CheckMemory(const MemoryPlan& plan, int64_t limit_bytes, int64_t host_limit_bytes = 0);

// Plans, checks against the limits on all ranks, allocates and initialises. Weights start at their random
// values. The mesh's communicators outlive the engine.
absl::StatusOr<std::unique_ptr<Engine>> MakeMeshEngine(const EngineOptions& options, const Mesh& mesh,
                                                       int64_t limit_bytes, int64_t host_limit_bytes = 0);

}  // namespace tanren

#endif  // TANREN_PARALLEL_ENGINE_MESH_ENGINE_H_
