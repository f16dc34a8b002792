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
#include "stages/common/checkpoint_model.h"

namespace tanren {
namespace {

// The step directory that `path` names or, for a run directory, its newest commit. Chosen by rank 0.
absl::StatusOr<std::string> ChooseStep(Comm& world, const std::string& path) {
  absl::StatusOr<std::string> chosen = path;
  if (world.rank() == 0) chosen = FindStep(path);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "choose checkpoint", chosen.status()));
  return BroadcastString(world, "checkpoint", *chosen, 0);
}

}  // namespace

// Fills the weights of engine model `name` from the checkpoint's model "policy".
absl::Status FillModel(Comm& world, Engine& engine, const std::string& name, CheckpointReader& reader) {
  const std::unique_ptr<StateAccess> access = engine.State(name);
  std::vector<TensorPiece> pieces = ToTensorPieces(access->pieces());
  for (TensorPiece& piece : pieces) piece.model = "policy";
  ReadOptions read;
  read.may_be_dropped = [](const TensorInfo& tensor) {
    return tensor.role != Role::kWeight || tensor.model != "policy";
  };
  TANREN_RETURN_IF_ERROR(reader.Read(world, pieces, read).status());
  access->Commit();
  return absl::OkStatus();
}

// The scale of a reward model's scores.
absl::StatusOr<ScoreNormalizer> NormalizerOf(const CheckpointModel& source) {
  const auto normalization = source.state.find("stage.normalization");
  if (!source.shape.scalar_head || normalization == source.state.end()) {
    return InvalidInput("%s is no reward model", source.path);
  }
  return ScoreNormalizer::FromState(normalization->second);
}

// Adds the reward model to the engine's options and tells its scale.
absl::Status DeclareReward(const std::string& path, const Tokenizer& tokenizer, EngineOptions* engine,
                           InferenceModel* model, std::string* step) {
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source, DescribeCheckpoint("--reward", path, tokenizer));
  absl::StatusOr<ScoreNormalizer> scores = NormalizerOf(source);
  if (!scores.ok()) return At("--reward", scores.status());
  model->scores = *scores;
  ModelOptions reward = engine->models[0];
  SetFrozen(source, "reward", &reward);
  engine->models.push_back(std::move(reward));
  *step = source.path;
  return absl::OkStatus();
}

// Makes `own` the frozen model of the checkpoint itself: a policy, or a reward model.
absl::Status DeclareOwn(const InferenceOptions& options, InferenceModel* model, ModelOptions* own) {
  own->trainable = false;
  own->generates = options.generates;
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source,
                          DescribeCheckpoint("checkpoint", model->path, *model->tokenizer));
  if (!source.shape.scalar_head) return absl::OkStatus();
  if (options.generates || !options.reward.empty()) {
    return InvalidInput("%s is a reward model: it scores answers (tanren score) and generates none",
                        model->path);
  }
  TANREN_ASSIGN_OR_RETURN(model->scores, NormalizerOf(source));
  SetScalarHead(/*has_score=*/true, own);
  own->name = "reward";
  return absl::OkStatus();
}

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
                            config::LoadSavedConfig(text, model.path + "/resolved.yaml", overrides));
    TANREN_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(reader->tokenizer_dir()));
    TANREN_ASSIGN_OR_RETURN(engine, EngineOptionsFromConfig(model.config, model.tokenizer->vocab_size()));
    return DeclareOwn(options, &model, &engine.models[0]);
  };
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint", prepare()));
  MeshShape shape;
  shape.data = static_cast<int>(model.config.parallel().data());
  shape.tensor = static_cast<int>(model.config.parallel().tensor());
  TANREN_RETURN_IF_ERROR(runtime.BuildMesh(shape, DeviceOf(model.config)));
  runtime.SetThreads(static_cast<int>(model.config.parallel().threads()));
  const std::string own = engine.models[0].name;
  engine.generation_tokens = std::min(engine.models[0].shape.context_length, options.generation_tokens);
  engine.decode_slots = options.slots;
  std::string reward_step;
  if (!options.reward.empty()) {
    TANREN_RETURN_IF_ERROR(
        AgreeStatus(world, "reward model",
                    DeclareReward(options.reward, *model.tokenizer, &engine, &model, &reward_step)));
  }
  TANREN_ASSIGN_OR_RETURN(
      model.engine, MakeMeshEngine(engine, runtime.mesh(), MemoryLimit(model.config, runtime.node_size())));
  TANREN_RETURN_IF_ERROR(FillModel(world, *model.engine, own, *reader));
  if (reward_step.empty()) return model;
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reward_reader,
                          CheckpointReader::Open(world, reward_step));
  TANREN_RETURN_IF_ERROR(FillModel(world, *model.engine, "reward", *reward_reader));
  return model;
}

}  // namespace tanren
