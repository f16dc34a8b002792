#include "launch/inference.h"

#include <algorithm>
#include <optional>
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

absl::Status FillFrom(Comm& world, Engine& engine, const std::string& name, const std::string& step) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader,
                          CheckpointReader::Open(world, step));
  return FillModel(world, engine, name, *reader);
}

// The scale of a reward model's scores.
absl::StatusOr<RewardScale> ScaleOf(const CheckpointModel& source) {
  if (!source.shape.scalar_head) return InvalidInput("%s is no reward model", source.path);
  absl::StatusOr<RewardScale> scale = RewardScale::FromState(source.state);
  if (!scale.ok()) return At(source.path, scale.status());
  return scale;
}

// The models beside the policy: what they are, before anything is loaded.
struct OtherModels {
  std::optional<CheckpointModel> reward, versus, reference;
};

absl::StatusOr<OtherModels> DescribeOthers(const InferenceOptions& options, const Tokenizer& tokenizer,
                                           RewardScale* scale) {
  OtherModels others;
  if (!options.reward.empty()) {
    TANREN_ASSIGN_OR_RETURN(others.reward, DescribeCheckpoint("reward", options.reward, tokenizer));
    absl::StatusOr<RewardScale> its = ScaleOf(*others.reward);
    if (!its.ok()) return At("reward", its.status());
    *scale = *its;
  }
  const auto language_model = [&](const char* name, const std::string& path,
                                  std::optional<CheckpointModel>* out) -> absl::Status {
    if (path.empty()) return absl::OkStatus();
    TANREN_ASSIGN_OR_RETURN(*out, DescribeCheckpoint(name, path, tokenizer));
    if (!(*out)->shape.scalar_head) return absl::OkStatus();
    return InvalidInput("%s: %s is a reward model; it writes no text", name, (*out)->path);
  };
  TANREN_RETURN_IF_ERROR(language_model("versus", options.versus, &others.versus));
  TANREN_RETURN_IF_ERROR(language_model("reference", options.reference, &others.reference));
  return others;
}

absl::StatusOr<int64_t> GenerationTokensOf(const InferenceOptions& options, const InferenceModel& model,
                                           const OtherModels& others) {
  int64_t context = model.config.model().context_length();
  for (const auto* other : {&others.versus, &others.reward, &others.reference}) {
    if (other->has_value()) context = std::min(context, (*other)->shape.context_length);
  }
  int64_t tokens = options.generation_tokens;
  if (options.plan) {
    TANREN_ASSIGN_OR_RETURN(tokens, options.plan(model.config, *model.tokenizer, context));
  }
  return std::min(tokens, context);
}

// What is scored is packed whole, so a micro-batch must hold the longest prompt with its answer.
void FitMicroBatch(int64_t sequence_tokens, config::Config* config) {
  const int64_t tile = 128 * config->parallel().tensor();
  const int64_t needed = (sequence_tokens + tile - 1) / tile * tile;
  if (needed > config->batch().micro_batch_tokens()) config->mutable_batch()->set_micro_batch_tokens(needed);
}

// Makes `own` the frozen model of the checkpoint itself: a policy, or a reward model.
absl::Status DeclareOwn(const InferenceOptions& options, InferenceModel* model, ModelOptions* own) {
  own->trainable = false;
  TANREN_ASSIGN_OR_RETURN(const CheckpointModel source,
                          DescribeCheckpoint("checkpoint", model->path, *model->tokenizer));
  if (!source.shape.scalar_head) return absl::OkStatus();
  if (options.generates || !options.reward.empty()) {
    return InvalidInput("%s is a reward model: it scores answers (tanren score) and generates none",
                        model->path);
  }
  TANREN_ASSIGN_OR_RETURN(model->scale, ScaleOf(source));
  SetScalarHead(/*has_score=*/true, own);
  if (model->scale.likelihood.has_value()) KeepVocabularyHead(own);
  own->name = "reward";
  return absl::OkStatus();
}

// Everything that can be said to be wrong before a weight is read.
absl::StatusOr<EngineOptions> Prepare(const InferenceOptions& options, const CheckpointReader& reader,
                                      InferenceModel* model, OtherModels* others) {
  TANREN_ASSIGN_OR_RETURN(const std::string text, reader.ConfigText());
  // The layout is this job's, not that of the job that saved.
  std::vector<std::string> overrides = {"parallel.data=0", "parallel.tensor=1", "parallel.threads=0"};
  overrides.insert(overrides.end(), options.overrides.begin(), options.overrides.end());
  TANREN_ASSIGN_OR_RETURN(model->config,
                          config::LoadSavedConfig(text, model->path + "/resolved.yaml", overrides));
  TANREN_ASSIGN_OR_RETURN(model->tokenizer, LoadTokenizer(reader.tokenizer_dir()));
  TANREN_ASSIGN_OR_RETURN(*others, DescribeOthers(options, *model->tokenizer, &model->scale));
  TANREN_ASSIGN_OR_RETURN(const int64_t generation_tokens, GenerationTokensOf(options, *model, *others));
  if (others->reward.has_value() || others->reference.has_value())
    FitMicroBatch(generation_tokens, &model->config);
  TANREN_ASSIGN_OR_RETURN(EngineOptions engine,
                          EngineOptionsFromConfig(model->config, model->tokenizer->vocab_size()));
  engine.generation_tokens = generation_tokens;
  engine.decode_slots = options.slots;
  TANREN_RETURN_IF_ERROR(DeclareOwn(options, model, &engine.models[0]));
  engine.models[0].generates = generation_tokens > 0;
  const ModelOptions policy = engine.models[0];
  if (others->reward.has_value()) {
    SetFrozen(*others->reward, "reward", &engine.models.emplace_back(policy));
  }
  if (others->versus.has_value()) {
    SetFrozen(*others->versus, "versus", &engine.models.emplace_back(policy));
    engine.models.back().generates = generation_tokens > 0;
  }
  if (others->reference.has_value()) {
    SetFrozen(*others->reference, "reference", &engine.models.emplace_back(policy));
    engine.models.back().generates = false;
  }
  return engine;
}

}  // namespace

absl::StatusOr<InferenceModel> LoadForInference(Runtime& runtime, const InferenceOptions& options) {
  InferenceModel model;
  Comm& world = runtime.world();
  TANREN_ASSIGN_OR_RETURN(model.path, ChooseStep(world, options.checkpoint));
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader,
                          CheckpointReader::Open(world, model.path));
  OtherModels others;
  const absl::StatusOr<EngineOptions> engine = Prepare(options, *reader, &model, &others);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "checkpoint", engine.status()));
  MeshShape shape;
  shape.data = static_cast<int>(model.config.parallel().data());
  shape.tensor = static_cast<int>(model.config.parallel().tensor());
  TANREN_RETURN_IF_ERROR(runtime.BuildMesh(shape, DeviceOf(model.config)));
  runtime.SetThreads(static_cast<int>(model.config.parallel().threads()));
  TANREN_ASSIGN_OR_RETURN(
      model.engine, MakeMeshEngine(*engine, runtime.mesh(),
                                   MemoryLimit(model.config, runtime.memory_sharing(), runtime.device())));
  TANREN_RETURN_IF_ERROR(FillModel(world, *model.engine, engine->models[0].name, *reader));
  for (const auto& [name, other] :
       {std::pair("reward", &others.reward), {"versus", &others.versus}, {"reference", &others.reference}}) {
    if (other->has_value()) {
      TANREN_RETURN_IF_ERROR(FillFrom(world, *model.engine, name, (*other)->path));
    }
  }
  return model;
}

}  // namespace tanren
