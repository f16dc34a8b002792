// What a run costs on a stated machine: floors of its steps, its checkpoints, and what failures take.
//
// A step's floor (docs/estimate.md): 6 N + 6 L h S flops a trained token, a third of that a scored one, over
// the stated rate; 28 bytes a weight of the optimizer (20 with moments in bf16), of this rank's share, over
// the stated bandwidth; the ring's bytes over the stated links. Floors of work that does not overlap are
// added; nothing here was measured.
#ifndef TANREN_CORE_ESTIMATE_PRICE_H_
#define TANREN_CORE_ESTIMATE_PRICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/comm/mesh.h"
#include "core/engine/engine.h"
#include "core/estimate/stage_work.h"
#include "core/estimate/traffic.h"
#include "core/proto/config.pb.h"

namespace tanren {

// Stated by the user; of one rank where nothing else is said.
struct Machine {
  double flops_per_second = 0;  // of matrix products in the model's dtype
  double memory_bytes_per_second = 0;
  double node_link_bytes_per_second = 0;  // to the ranks of the same node, each way
  double network_bytes_per_second = 0;    // to other nodes, each way
  double hop_seconds = 0;                 // of a message, whatever its size
  double storage_bytes_per_second = 0;    // of the whole job
  int64_t ranks_per_node = 1;
  double utilization = 1;  // share of flops_per_second that is reached
  double failures_per_rank_day = 0;
  double restart_seconds = 0;  // from a failure to the first step, without reading the checkpoint
};

struct AxisPrice {
  std::string axis;
  int size = 1;
  bool crosses_nodes = false;
  double sent_bytes = 0;  // by a rank in a step
  double calls = 0;
  double seconds = 0;
};

struct Price {
  double parameters = 0;  // of the first model
  double step_tokens = 0;
  double flops = 0;            // of a step, all ranks
  double compute_seconds = 0;  // of the fullest rank, at the utilization
  double optimizer_seconds = 0;
  double sampling_seconds = 0;  // of stage rl
  std::vector<AxisPrice> axes;
  double step_seconds = 0;  // the sum: nothing overlaps
  double tokens_per_second = 0;
  double steps = 0;
  double run_seconds = 0;  // of all steps and saves
  double rank_hours = 0;

  double checkpoint_bytes = 0;
  double save_seconds = 0;
  double saves = 0;

  double failures_per_day = 0;
  double lost_hours_per_day = 0;  // steps done twice, restarts and saves, of 24
  double best_interval_steps =
      0;  // 0: nothing fails; else between saves: sqrt(2 * save * time between failures), Young 1974
  std::string assumption;
};

// `config` is resolved; `engine` what its stage declared.
Price PriceRun(const config::Config& config, const EngineOptions& engine, const MeshShape& mesh,
               const Machine& machine, const AnswerLengths& lengths = {});

// The bytes of tensors in one checkpoint: weights in fp32, and of trained models both moments as they are
// stored; frozen ones where they are kept in it.
double CheckpointBytes(const EngineOptions& engine);

}  // namespace tanren

#endif  // TANREN_CORE_ESTIMATE_PRICE_H_
