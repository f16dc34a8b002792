// A model that another run left in a checkpoint: what it is, before anything is loaded.
#ifndef TANREN_STAGES_COMMON_CHECKPOINT_MODEL_H_
#define TANREN_STAGES_COMMON_CHECKPOINT_MODEL_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "core/engine/engine.h"
#include "core/model/shape.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

namespace config {
class Config;
}

struct CheckpointModel {
  std::string path;                          // the step directory
  std::string stage;                         // that saved it
  std::string chat_template;                 // of its run
  ModelShape shape;                          // of its model "policy", with the heads that it has
  std::map<std::string, std::string> state;  // the run's rank-free state
};

// Reads the manifest and the config of the checkpoint at `path` (a step, or a run: its newest commit). Not
// collective. Errors begin with `key`, the config key that named it. InvalidArgument when the checkpoint was
// made with another tokenizer than `tokenizer`: its tokens would mean something else.
absl::StatusOr<CheckpointModel> DescribeCheckpoint(const std::string& key, const std::string& path,
                                                   const Tokenizer& tokenizer);

// InvalidArgument when a stage of post-training made the checkpoint with another chat.template than this
// run's: the end of turn of this one was never trained there, and its answers would not end.
absl::Status CheckTemplate(const std::string& key, const CheckpointModel& model,
                           const config::Config& config);

// Whether both paths lead to one step directory; a run stands for its newest commit.
bool SameCheckpoint(const std::string& one, const std::string& other);

// Makes `model` a frozen copy of the checkpoint's model that is read anew at every start.
void SetFrozen(const CheckpointModel& source, const std::string& name, ModelOptions* model);

// Gives `model` a scalar head instead of its vocabulary head. `has_score`: the weights that it starts from
// have one.
void SetScalarHead(bool has_score, ModelOptions* model);

// Beside its scalar head, a model that scores by the answer's log-probability too.
void KeepVocabularyHead(ModelOptions* model);

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_CHECKPOINT_MODEL_H_
