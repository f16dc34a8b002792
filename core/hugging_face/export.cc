#include "core/hugging_face/export.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/checkpoint/run_directory.h"
#include "core/checkpoint/safetensors.h"
#include "core/config/config.h"
#include "core/hugging_face/config.h"
#include "core/model_config/shape_config.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/tokenizer.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOwnFiles[] = {"config.json", "model.safetensors", "generation_config.json"};

class Exporter {
 public:
  Exporter(const CheckpointReader& reader, const HfExportOptions& options)
      : reader_(reader), options_(options) {}

  absl::StatusOr<HfExportReport> Run(const std::string& out);

 private:
  absl::Status ChooseModel();
  absl::Status ReadShape();
  void ReadTokenizerRoles();
  // Every parameter has a tensor in the checkpoint and every tensor a parameter.
  absl::Status MatchTensors();
  absl::Status WriteFiles(const Directory& directory);
  absl::Status WriteWeights(const Directory& directory);
  // One tensor of the family's, from its one or three parameters, as fp32.
  absl::Status Gather(const std::vector<const HfPlace*>& parts, std::vector<float>* values);
  absl::Status ReadParameter(const HfPlace& place, float* out);

  const CheckpointReader& reader_;
  HfExportOptions options_;
  ModelShape shape_;
  const HfFamily* family_ = nullptr;
  std::string config_text_;
  TokenizerFiles tokenizer_;
  TokenRoles roles_;
  std::vector<HfPlace> places_;
  HfExportReport report_;
};

absl::Status Exporter::ChooseModel() {
  std::set<std::string> models;
  for (const TensorInfo& tensor : reader_.tensors()) {
    if (tensor.role == Role::kWeight) models.insert(tensor.model);
  }
  if (options_.model.empty() && models.size() == 1) options_.model = *models.begin();
  if (models.count(options_.model) > 0) return absl::OkStatus();
  return InvalidInput(
      "%s: %s; name one of its models: %s", reader_.path(),
      options_.model.empty() ? "holds more than one model, or none" : "has no model " + options_.model,
      absl::StrJoin(models, ", "));
}

absl::Status Exporter::ReadShape() {
  TANREN_ASSIGN_OR_RETURN(const std::string text, reader_.ConfigText());
  TANREN_ASSIGN_OR_RETURN(const config::Config config,
                          config::LoadSavedConfig(text, reader_.path() + "/resolved.yaml"));
  // A vocabulary that the tokenizer decided is recorded in the embedding's shape only.
  const TensorInfo* embedding = reader_.Find(options_.model, "embedding.weight", Role::kWeight);
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return InvalidInput("%s: model %s has no tensor embedding.weight", reader_.path(), options_.model);
  }
  absl::StatusOr<ModelShape> shape = ShapeFromConfig(config.model(), embedding->shape[0]);
  if (!shape.ok()) return At(reader_.path() + "/resolved.yaml", shape.status());
  shape_ = *std::move(shape);
  return absl::OkStatus();
}

void Exporter::ReadTokenizerRoles() {
  if (tokenizer_.empty()) return;
  const absl::StatusOr<std::unique_ptr<Tokenizer>> loaded = LoadTokenizer(reader_.tokenizer_dir());
  if (!loaded.ok()) {
    report_.notes.push_back(
        absl::StrCat("config.json names no bos and eos token, for the tokenizer is not read: ",
                     loaded.status().message()));
    return;
  }
  roles_ = (*loaded)->roles();
  // What ends a document ends a generation where nothing else does.
  if (roles_.eos < 0) roles_.eos = roles_.end_of_text;
  if (std::max(roles_.bos, roles_.eos) < shape_.vocab_size) return;
  roles_ = TokenRoles();
  report_.notes.push_back(
      "config.json names no bos and eos token, for the tokenizer's are beyond the embedding");
}

absl::Status Exporter::MatchTensors() {
  std::vector<std::string> without_place;
  places_ = MapParameters(*family_, shape_, &without_place);
  std::set<std::string> names;
  for (const HfPlace& place : places_) {
    names.insert(place.name);
    const TensorInfo* tensor = reader_.Find(options_.model, place.name, Role::kWeight);
    if (tensor == nullptr) {
      return InvalidInput("%s: model %s has no tensor %s, which its config asks for", reader_.path(),
                          options_.model, place.name);
    }
    if (tensor->shape != place.shape) {
      return InvalidInput("%s: tensor %s has shape %s; its config makes it %s", reader_.path(),
                          TensorKey(*tensor), ShapeToString(tensor->shape), ShapeToString(place.shape));
    }
  }
  for (const TensorInfo& tensor : reader_.tensors()) {
    if (tensor.role != Role::kWeight || tensor.model != options_.model || names.count(tensor.name) > 0)
      continue;
    return InvalidInput("%s: tensor %s of shape %s has no place in a language model of family %s",
                        reader_.path(), TensorKey(tensor), ShapeToString(tensor.shape), family_->name);
  }
  return absl::OkStatus();
}

absl::Status Exporter::ReadParameter(const HfPlace& place, float* out) {
  const TensorInfo& info = *reader_.Find(options_.model, place.name, Role::kWeight);
  TensorPiece piece = TensorPiece::Whole(info.model, info.name, info.role, info.dtype, info.shape, out);
  if (info.dtype == DType::kF32) return reader_.ReadLocal(absl::MakeConstSpan(&piece, 1));
  if (info.dtype != DType::kBF16 && info.dtype != DType::kF16) {
    return InvalidInput("%s: tensor %s has type %s, which is not exported", reader_.path(), TensorKey(info),
                        NameOf(info.dtype));
  }
  std::vector<char> stored(static_cast<size_t>(piece.bytes()));
  piece.data = stored.data();
  TANREN_RETURN_IF_ERROR(reader_.ReadLocal(absl::MakeConstSpan(&piece, 1)));
  kernels::Cast(Stream(), piece.elements(), ConstBuffer(stored.data(), info.dtype), Buffer(out));
  return absl::OkStatus();
}

absl::Status Exporter::Gather(const std::vector<const HfPlace*>& parts, std::vector<float>* values) {
  std::vector<float> rows;
  for (const HfPlace* place : parts) {
    const int64_t columns = place->shape.size() == 1 ? 1 : place->shape[1];
    if (!place->transposed) {
      TANREN_RETURN_IF_ERROR(ReadParameter(*place, values->data() + place->row_begin * columns));
      continue;
    }
    rows.resize(static_cast<size_t>(place->shape[0] * columns));
    TANREN_RETURN_IF_ERROR(ReadParameter(*place, rows.data()));
    const int64_t stride = place->tensor_shape[1];
    for (int64_t row = 0; row < place->shape[0]; ++row) {
      float* column = values->data() + place->row_begin + row;
      for (int64_t c = 0; c < columns; ++c) column[c * stride] = rows[row * columns + c];
    }
  }
  return absl::OkStatus();
}

absl::Status Exporter::WriteWeights(const Directory& directory) {
  std::map<std::string, std::vector<const HfPlace*>> parts;
  for (const HfPlace& place : places_) parts[place.tensor].push_back(&place);
  std::vector<SafetensorsSpec> specs;
  for (const auto& [name, places] : parts) specs.push_back({name, options_.dtype, places[0]->tensor_shape});
  TANREN_ASSIGN_OR_RETURN(const SafetensorsPlan plan, PlanSafetensors(specs, {{"format", "pt"}}));
  TANREN_ASSIGN_OR_RETURN(NewFile file,
                          NewFile::Create(directory, "model.safetensors", plan.file_bytes, nullptr));
  TANREN_RETURN_IF_ERROR(file.Append(plan.header.data(), static_cast<int64_t>(plan.header.size())));
  std::vector<float> values;
  std::vector<BFloat16> rounded;
  for (int i : plan.order) {
    TANREN_ASSIGN_OR_RETURN(const int64_t elements, CountElements(specs[i].shape));
    values.resize(static_cast<size_t>(elements));
    TANREN_RETURN_IF_ERROR(Gather(parts[specs[i].name], &values));
    const void* data = values.data();
    if (options_.dtype == DType::kBF16) {
      rounded.resize(values.size());
      kernels::Cast(Stream(), elements, ConstBuffer(values.data()), Buffer(rounded.data()));
      data = rounded.data();
    }
    const int64_t bytes = elements * SizeOf(options_.dtype);
    TANREN_RETURN_IF_ERROR(file.Append(data, bytes));
    report_.bytes += bytes;
    if (options_.on_written) options_.on_written(bytes);
  }
  report_.tensors = static_cast<int64_t>(specs.size());
  return file.Finish();
}

absl::Status Exporter::WriteFiles(const Directory& directory) {
  TANREN_RETURN_IF_ERROR(WriteWeights(directory));
  TANREN_RETURN_IF_ERROR(WriteSmallFile(directory, "config.json", config_text_, nullptr));
  if (roles_.eos >= 0) {
    const std::string bos = roles_.bos >= 0 ? absl::StrCat("  \"bos_token_id\": ", roles_.bos, ",\n") : "";
    const std::string text = absl::StrCat("{\n", bos, "  \"eos_token_id\": ", roles_.eos, "\n}\n");
    TANREN_RETURN_IF_ERROR(WriteSmallFile(directory, "generation_config.json", text, nullptr));
  }
  for (const auto& [name, contents] : tokenizer_) {
    if (std::find(std::begin(kOwnFiles), std::end(kOwnFiles), name) != std::end(kOwnFiles)) {
      return InvalidInput("%s: a tokenizer file is called %s, which is a name of the model's own",
                          reader_.path(), name);
    }
    TANREN_RETURN_IF_ERROR(WriteSmallFile(directory, name, contents, nullptr));
  }
  return directory.Sync();
}

absl::StatusOr<HfExportReport> Exporter::Run(const std::string& out) {
  if (options_.dtype != DType::kF32 && options_.dtype != DType::kBF16) {
    return InvalidInput("dtype: %s is not exported; float32 and bfloat16 are", NameOf(options_.dtype));
  }
  TANREN_RETURN_IF_ERROR(ChooseModel());
  TANREN_RETURN_IF_ERROR(ReadShape());
  TANREN_ASSIGN_OR_RETURN(tokenizer_, reader_.ReadTokenizer());
  ReadTokenizerRoles();
  TANREN_ASSIGN_OR_RETURN(config_text_,
                          WriteHfConfig(shape_, {options_.dtype, roles_.bos, roles_.eos}, &family_));
  TANREN_RETURN_IF_ERROR(MatchTensors());
  report_.family = family_->name;

  fs::path path = fs::path(out).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a trailing slash
  const std::string parent_path = path.has_parent_path() ? path.parent_path().string() : ".";
  const std::string name = path.filename().string();
  if (!IsPlainBasename(name)) return InvalidInput("%s: choose a name of letters, digits and ._-", out);
  TANREN_RETURN_IF_ERROR(MakeDirectories(parent_path));
  TANREN_ASSIGN_OR_RETURN(const Directory parent, Directory::Open(parent_path));
  TANREN_ASSIGN_OR_RETURN(const bool taken, parent.Has(name));
  if (taken) return absl::AlreadyExistsError(absl::StrCat(path.string(), " exists and is not replaced"));
  const std::string temporary = absl::StrCat(name, ".tmp-", RandomSuffix());
  TANREN_ASSIGN_OR_RETURN(const Directory directory, parent.CreateChild(temporary));
  absl::Status status = WriteFiles(directory);
  if (status.ok()) status = parent.Rename(temporary, name);
  if (status.ok()) status = parent.Sync();
  if (!status.ok()) {
    (void)parent.Remove(temporary);  // best effort: the first error is the one to report
    return status;
  }
  report_.path = path.string();
  return std::move(report_);
}

}  // namespace

absl::StatusOr<HfExportReport> ExportHuggingFace(const CheckpointReader& reader, const std::string& out,
                                                 const HfExportOptions& options) {
  return Exporter(reader, options).Run(out);
}

}  // namespace tanren
