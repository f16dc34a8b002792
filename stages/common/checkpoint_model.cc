#include "stages/common/checkpoint_model.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <memory>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/run_directory.h"
#include "core/config/config.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"
#include "stages/reward_model/reward_scale.h"

namespace tanren {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;
constexpr const char* kScoreWeight = "score.weight";
constexpr const char* kHeadWeight = "head.weight";

absl::StatusOr<CheckpointModel> Describe(const std::string& path, const Tokenizer& tokenizer) {
  CheckpointModel model;
  TANREN_ASSIGN_OR_RETURN(model.path, FindStep(path));
  TANREN_ASSIGN_OR_RETURN(const Directory directory, Directory::Open(model.path));
  TANREN_ASSIGN_OR_RETURN(const std::string bytes,
                          ReadSmallFile(directory, "manifest.pb", kMaxManifestBytes));
  TANREN_ASSIGN_OR_RETURN(const Manifest manifest, DecodeManifest(bytes));
  model.stage = manifest.stage;
  model.state = manifest.state;
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(directory, "resolved.yaml", kMaxConfigBytes));
  TANREN_ASSIGN_OR_RETURN(const config::Config config,
                          config::LoadSavedConfig(text, model.path + "/resolved.yaml"));
  model.chat_template = config::ChatConfig::Template_Name(config.chat().template_());
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> its, LoadTokenizer(directory.PathOf("tokenizer")));
  TANREN_RETURN_IF_ERROR(CheckSameTokenizer(model.path, *its, tokenizer));
  TANREN_ASSIGN_OR_RETURN(model.shape, ShapeFromConfig(config.model(), tokenizer.vocab_size()));
  const auto has = [&](const char* name) {
    return std::ranges::any_of(manifest.tensors, [&](const TensorInfo& tensor) {
      return tensor.model == "policy" && tensor.name == name && tensor.role == Role::kWeight;
    });
  };
  model.shape.scalar_head = has(kScoreWeight);
  model.shape.vocabulary_head = !model.shape.scalar_head || ScoresLikelihood(model.state);
  return model;
}

}  // namespace

absl::StatusOr<CheckpointModel> DescribeCheckpoint(const std::string& key, const std::string& path,
                                                   const Tokenizer& tokenizer) {
  absl::StatusOr<CheckpointModel> model = Describe(path, tokenizer);
  if (!model.ok()) return At(key, model.status());
  return model;
}

absl::Status CheckTemplate(const std::string& key, const CheckpointModel& model,
                           const config::Config& config) {
  const std::string wanted = config::ChatConfig::Template_Name(config.chat().template_());
  const std::initializer_list<const char*> kTemplated = {"sft", "reward_model", "preference", "rl"};
  if (model.chat_template == wanted || std::ranges::count(kTemplated, model.stage) == 0)
    return absl::OkStatus();
  return InvalidInput(
      "chat.template: %s, but %s %s was trained by stage %s with %s, and never learnt this template's end of "
      "turn; set chat.template: %s, or run stage sft with %s first",
      wanted, key, model.path, model.stage, model.chat_template, model.chat_template, wanted);
}

bool SameCheckpoint(const std::string& one, const std::string& other) {
  const absl::StatusOr<std::string> a = FindStep(one), b = FindStep(other);
  std::error_code error;
  return a.ok() && b.ok() && std::filesystem::equivalent(*a, *b, error);
}

void SetFrozen(const CheckpointModel& source, const std::string& name, ModelOptions* model) {
  model->name = name;
  model->shape = source.shape;
  model->trainable = false;
  model->generates = false;
  model->saved = false;
  model->init_from = source.path;
  model->init_model = "policy";
}

void SetScalarHead(bool has_score, ModelOptions* model) {
  model->shape.scalar_head = true;
  model->shape.vocabulary_head = false;
  model->generates = false;
  if (!has_score) model->new_tensors.push_back(kScoreWeight);
  model->dropped_tensors.push_back(kHeadWeight);
}

void KeepVocabularyHead(ModelOptions* model) {
  model->shape.vocabulary_head = true;
  std::erase(model->dropped_tensors, kHeadWeight);
}

}  // namespace tanren
