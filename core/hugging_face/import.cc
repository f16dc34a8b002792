#include "core/hugging_face/import.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "core/base/status.h"
#include "core/checkpoint/save.h"
#include "core/comm/comm.h"
#include "core/config/config.h"
#include "core/hugging_face/model.h"
#include "core/hugging_face/tokenizer_files.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;

// The tokenizer section that reads these files. What cannot be read is noted, for its files are kept all the
// same.
void DescribeTokenizer(const HfModel& model, const TokenizerFiles& files, config::Config* config,
                       std::vector<std::string>* notes) {
  if (files.empty()) {
    notes->push_back(absl::StrCat(model.directory(), ": no tokenizer files lie beside the model"));
    return;
  }
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(model.directory());
  config::TokenizerConfig::Kind kind;
  if (!tokenizer.ok()) {
    notes->push_back(
        absl::StrCat("the tokenizer's files are kept, but not read: ", tokenizer.status().message()));
    return;
  }
  if ((*tokenizer)->vocab_size() > model.shape().vocab_size) {
    notes->push_back(absl::StrCat("the tokenizer has ", (*tokenizer)->vocab_size(),
                                  " tokens and the embedding ", model.shape().vocab_size,
                                  " rows: ids beyond them cannot be used"));
  }
  const std::string_view name = (*tokenizer)->kind();
  if (!config::TokenizerConfig::Kind_Parse(std::string(name), &kind) ||
      kind == config::TokenizerConfig::bytes)
    return;
  config->mutable_tokenizer()->set_kind(kind);
  std::error_code error;
  const fs::path absolute = fs::absolute(model.directory(), error).lexically_normal();
  config->mutable_tokenizer()->set_path(error ? model.directory() : absolute.string());
}

std::string ConfigText(const ModelShape& shape, config::Config config) {
  *config.mutable_model() = ConfigFromShape(shape);
  // The resolved config must hold on its own: a slice fits the default capacity.
  const int64_t capacity = config.batch().micro_batch_tokens();
  config.mutable_data()->set_sequence_length(std::min(shape.context_length, capacity));
  return config::ToYaml(config::Resolve(config), true);
}

}  // namespace

absl::StatusOr<HfImportReport> ImportHuggingFace(const std::string& directory, const std::string& out,
                                                 const HfImportOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<HfModel> model, HfModel::Open(directory));
  HfImportReport report;
  report.notes = model->notes();
  report.family = model->family().name;
  SaveRequest request;
  TANREN_ASSIGN_OR_RETURN(request.tokenizer, ReadTokenizerFiles(directory));
  config::Config config;
  DescribeTokenizer(*model, request.tokenizer, &config, &report.notes);
  request.config_text = ConfigText(model->shape(), std::move(config));
  TANREN_RETURN_IF_ERROR(At("the imported model's config",
                            config::LoadConfigText(request.config_text, "resolved.yaml").status()));

  std::vector<TensorPiece> pieces;
  for (const HfPlace& place : model->places()) {
    pieces.push_back(
        TensorPiece::Whole(options.model, place.name, Role::kWeight, DType::kF32, place.shape, nullptr));
    report.parameters += pieces.back().elements();
  }
  report.tensors = static_cast<int64_t>(pieces.size());
  fs::path step = fs::path(out).lexically_normal();
  if (!step.has_filename()) step = step.parent_path();  // a trailing slash
  request.run_dir = step.has_parent_path() ? step.parent_path().string() : ".";
  request.directory_name = step.filename().string();
  request.run_id = absl::StrCat("import-", RandomSuffix());
  request.stage = "import-hf";
  request.pieces = pieces;
  request.produce = [&](const TensorPiece& part) {
    const absl::Status status = model->Read(part.name, part.region(), static_cast<float*>(part.data));
    if (status.ok() && options.on_written) options.on_written(part.bytes());
    return status;
  };
  TANREN_RETURN_IF_ERROR(MakeDirectories(request.run_dir));
  const std::unique_ptr<Comm> world = MakeSoloComm("world");
  TANREN_ASSIGN_OR_RETURN(const SaveReport saved, SaveCheckpoint(*world, request));
  report.path = saved.path;
  if (saved.already_committed) report.notes.push_back(saved.path + " held these weights already");
  report.notes.insert(report.notes.end(), saved.warnings.begin(), saved.warnings.end());
  return report;
}

}  // namespace tanren
