#include "stages/common/scoring.h"

#include "core/base/status.h"

namespace tanren {

absl::Status AddLogProbabilities(Engine& engine, const std::string& model, const std::string& column,
                                 float temperature, std::vector<MicroBatch>* batches) {
  for (MicroBatch& batch : *batches) {
    TANREN_ASSIGN_OR_RETURN(const Statistics statistics,
                            engine.Score(model, batch, kLogp, /*per_segment=*/false, temperature));
    std::vector<float>& values = batch.columns.Get(column, batch.capacity);
    for (size_t i = 0; i < batch.trained.size(); ++i) values[batch.trained[i]] = statistics.logp[i];
  }
  return absl::OkStatus();
}

}  // namespace tanren
