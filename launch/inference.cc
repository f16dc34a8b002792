#include "launch/inference.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"
#include "core/checkpoint/reader.h"
#include "core/checkpoint/run_directory.h"
#include "core/config/config.h"
#include "core/trainer/pieces.h"
#include "core/trainer/setup.h"
#include "parallel/engine/mesh_engine.h"

namespace tanren {
namespace {

// The step directory that `path` names or, for a run directory, its newest commit. Chosen by rank 0.
absl::StatusOr<std::string> ChooseStep(Comm& world, const std::string& path) {
  std::string chosen = path;
  absl::Status status;
  if (world.rank() == 0) {
    const size_t slash = path.find_last_not_of('/');
    const std::string trimmed = path.substr(0, slash + 1);
    const std::string name = trimmed.substr(trimmed.find_last_of('/') + 1);
    if (ParseStepName(name) < 0) {
      absl::StatusOr<Directory> run = Directory::Open(path);
      if (!run.ok()) {
        status = run.status();
      } else {
        absl::StatusOr<std::vector<std::string>> steps = ListSteps(*run);
        status = steps.status();
        chosen.clear();
        if (steps.ok()) {
          for (const std::string& step : *steps) {
            if (chosen.empty() && LooksCommitted(*run, step)) chosen = trimmed + "/" + step;
          }
        }
        if (status.ok() && chosen.empty()) {
          // Not a run: perhaps a step directory under another name.
          chosen = path;
        }
      }
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "choose checkpoint", status));
  return BroadcastString(world, "checkpoint", chosen, 0);
}

}  // namespace

absl::StatusOr<InferenceModel> LoadForInference(Runtime& runtime, const InferenceOptions& options) {
  InferenceModel model;
  Comm& world = runtime.world();
  TANREN_ASSIGN_OR_RETURN(model.path, ChooseStep(world, options.checkpoint));
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader,
                          CheckpointReader::Open(world, model.path));
  EngineOptions engine;
  const auto prepare = [&]() -> absl::Status {
    TANREN_ASSIGN_OR_RETURN(const std::string text, reader->ConfigText());
    // The layout is this job's, not that of the job that saved.
    std::vector<std::string> overrides = {"parallel.data=0", "parallel.tensor=1", "parallel.threads=0"};
    overrides.insert(overrides.end(), options.overrides.begin(), options.overrides.end());
    TANREN_ASSIGN_OR_RETURN(model.config,
                            config::LoadConfigText(text, model.path + "/resolved.yaml", overrides));
    TANREN_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(reader->tokenizer_dir()));
    TANREN_ASSIGN_OR_RETURN(engine, EngineOptionsFromConfig(model.config, model.tokenizer->vocab_size()));
    return absl::OkStatus();
  };
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint", prepare()));
  MeshShape shape;
  shape.data = static_cast<int>(model.config.parallel().data());
  shape.tensor = static_cast<int>(model.config.parallel().tensor());
  TANREN_RETURN_IF_ERROR(runtime.BuildMesh(shape));
  runtime.SetThreads(static_cast<int>(model.config.parallel().threads()));
  ModelOptions& policy = engine.models[0];
  policy.trainable = false;
  policy.generates = true;
  engine.generation_tokens = std::min(policy.shape.context_length, options.generation_tokens);
  engine.decode_slots = options.slots;
  TANREN_ASSIGN_OR_RETURN(
      model.engine, MakeMeshEngine(engine, runtime.mesh(), MemoryLimit(model.config, runtime.node_size())));
  const std::unique_ptr<StateAccess> access = model.engine->State(policy.name);
  const std::vector<TensorPiece> pieces = ToTensorPieces(access->pieces());
  ReadOptions read;
  read.may_be_dropped = [](const TensorInfo& tensor) {
    return tensor.role != Role::kWeight || tensor.model != "policy";
  };
  TANREN_RETURN_IF_ERROR(reader->Read(world, pieces, read).status());
  access->Commit();
  return model;
}

}  // namespace tanren
