#include "core/hugging_face/model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr int64_t kBlockElements = int64_t{1} << 20;
constexpr int64_t kTransposeRows = 64;
constexpr size_t kShownErrors = 20;
constexpr int64_t kConfigBytes = int64_t{4} << 20;

bool IsRead(const std::optional<DType>& dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF64;
}

// Elements [begin, begin + count) of the stored tensor as fp32.
absl::Status ReadElements(const SafetensorsFile& file, const SafetensorsEntry& entry, int64_t begin,
                          int64_t count, float* out) {
  const int64_t size = SizeOf(*entry.dtype);
  if (*entry.dtype == DType::kF32) return file.ReadPart(entry, begin * size, out, count * size);
  std::vector<char> staging(static_cast<size_t>(std::min(count, kBlockElements) * size));
  for (int64_t done = 0; done < count; done += kBlockElements) {
    const int64_t block = std::min(kBlockElements, count - done);
    TANREN_RETURN_IF_ERROR(file.ReadPart(entry, (begin + done) * size, staging.data(), block * size));
    kernels::Cast(Stream(), block, ConstBuffer(staging.data(), *entry.dtype), Buffer(out + done));
  }
  return absl::OkStatus();
}

absl::Status Joined(const std::string& directory, std::vector<std::string> errors) {
  if (errors.empty()) return absl::OkStatus();
  const size_t more = errors.size() > kShownErrors ? errors.size() - kShownErrors : 0;
  errors.resize(errors.size() - more);
  if (more > 0) errors.push_back(absl::StrCat("and ", more, " more"));
  for (std::string& error : errors) error = absl::StrCat(directory, ": ", error);
  return absl::InvalidArgumentError(absl::StrJoin(errors, "\n"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<HfModel>> HfModel::Open(const std::string& directory) {
  std::unique_ptr<HfModel> model(new HfModel());
  model->directory_ = directory;
  const std::string path = directory + "/config.json";
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kConfigBytes));
  TANREN_ASSIGN_OR_RETURN(model->config_, ReadHfConfig(text, path));
  if (!model->config_.unknown.empty()) {
    model->notes_.push_back(absl::StrCat(path, ": settings that Tanren does not know and does not apply: ",
                                         absl::StrJoin(model->config_.unknown, ", ")));
  }
  TANREN_RETURN_IF_ERROR(model->OpenFiles());
  TANREN_RETURN_IF_ERROR(model->MatchTensors());
  return model;
}

absl::Status HfModel::OpenFiles() {
  const auto exists = [&](const char* name) {
    std::error_code error;
    return std::filesystem::exists(std::filesystem::path(directory_) / name, error);
  };
  if (exists("model.safetensors")) return AddFile("model.safetensors");
  if (exists("model.safetensors.index.json"))
    return OpenSharded(directory_ + "/model.safetensors.index.json");
  const bool pickled = exists("pytorch_model.bin") || exists("pytorch_model.bin.index.json");
  return InvalidInput(
      "%s: neither model.safetensors nor model.safetensors.index.json is there%s", directory_,
      pickled ? "; pytorch_model.bin is a pickle, which can hold code and is not read: save the model "
                "with safe_serialization=True"
              : "");
}

absl::Status HfModel::AddFile(const std::string& name) {
  TANREN_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::Open(directory_ + "/" + name));
  files_.push_back(std::make_unique<SafetensorsFile>(std::move(opened)));
  for (const SafetensorsEntry& entry : files_.back()->entries()) {
    if (!stored_.try_emplace(entry.name, Stored{files_.back().get(), &entry}).second) {
      return InvalidInput("%s: tensor \"%s\" is in two files, the second is %s", directory_,
                          Escaped(entry.name), name);
    }
  }
  return absl::OkStatus();
}

absl::Status HfModel::OpenSharded(const std::string& index_path) {
  TANREN_ASSIGN_OR_RETURN(const nlohmann::json index, ReadJsonFile(index_path));
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    return InvalidInput("%s: has no object weight_map", index_path);
  }
  std::map<std::string, std::string> file_of;
  std::set<std::string> names;
  for (const auto& item : map->items()) {
    if (!item.value().is_string() || !IsPlainBasename(item.value().get<std::string>())) {
      return InvalidInput("%s: weight_map: \"%s\" is in %s, which is not a plain file name", index_path,
                          Escaped(item.key()), item.value().dump(-1, ' ', true).substr(0, 80));
    }
    file_of[item.key()] = item.value().get<std::string>();
    names.insert(file_of[item.key()]);
  }
  for (const std::string& name : names) TANREN_RETURN_IF_ERROR(AddFile(name));
  for (const auto& [tensor, file] : file_of) {
    const auto found = stored_.find(tensor);
    if (found == stored_.end() || !absl::EndsWith(found->second.file->file().path(), file)) {
      return InvalidInput("%s: weight_map: \"%s\" is not in %s", index_path, Escaped(tensor), file);
    }
  }
  return absl::OkStatus();
}

// A model saved without its head has no prefix: then the tensor of the first rule is there under its bare
// name.
void HfModel::DropPrefix() {
  const std::string_view prefix = family().prefix;
  const auto first = std::find_if(places_.begin(), places_.end(),
                                  [](const HfPlace& p) { return p.name == "embedding.weight"; });
  if (first == places_.end() || stored_.count(first->tensor) > 0) return;
  if (stored_.count(first->tensor.substr(prefix.size())) == 0) return;
  for (HfPlace& place : places_) {
    if (place.tensor.rfind(prefix, 0) == 0) place.tensor.erase(0, prefix.size());
  }
}

void HfModel::CheckPlaces(std::vector<std::string>* errors) {
  std::set<std::string> seen;
  for (const HfPlace& place : places_) {
    if (!seen.insert(place.tensor).second) continue;  // one line for a fused tensor, not three
    const auto found = stored_.find(place.tensor);
    if (found == stored_.end()) {
      errors->push_back(absl::StrCat("tensor \"", place.tensor, "\" (", place.name,
                                     ") is missing; its shape would be ", ShapeToString(place.tensor_shape)));
      continue;
    }
    const SafetensorsEntry& entry = *found->second.entry;
    if (entry.shape != place.tensor_shape) {
      errors->push_back(absl::StrCat("tensor \"", place.tensor, "\" has shape ", ShapeToString(entry.shape),
                                     "; config.json makes it ", ShapeToString(place.tensor_shape)));
    } else if (!IsRead(entry.dtype)) {
      errors->push_back(absl::StrCat("tensor \"", place.tensor, "\" has type ", entry.dtype_name,
                                     "; F32, F16, BF16 and F64 are read"));
    }
  }
}

void HfModel::CheckRest(std::vector<std::string>* errors) {
  std::set<std::string> wanted;
  for (const HfPlace& place : places_) wanted.insert(place.tensor);
  const std::string_view prefix = family().prefix;
  std::string skipped;
  int64_t count = 0;
  for (const auto& [name, stored] : stored_) {
    if (wanted.count(name) > 0 || (shape().tied_embeddings && name == "lm_head.weight")) continue;
    const std::string_view bare =
        name.rfind(prefix, 0) == 0 ? std::string_view(name).substr(prefix.size()) : name;
    if (IsIgnoredTensor(family(), bare)) {
      if (count++ == 0) skipped = name;
      continue;
    }
    errors->push_back(absl::StrCat("tensor \"", Escaped(name), "\" of shape ",
                                   ShapeToString(stored.entry->shape), " has no place in a model of family ",
                                   family().name, " with this config.json"));
  }
  if (count > 0)
    notes_.push_back(
        absl::StrCat(directory_, ": ", count, " unused buffers passed over, ", skipped, " first"));
}

absl::Status HfModel::MatchTensors() {
  std::vector<std::string> without_place, errors;
  places_ = MapParameters(family(), shape(), &without_place);
  for (const std::string& name : without_place) {
    errors.push_back(absl::StrCat("family ", family().name, " has no tensor for parameter ", name));
  }
  DropPrefix();
  for (size_t i = 0; i < places_.size(); ++i) place_of_[places_[i].name] = static_cast<int>(i);
  CheckPlaces(&errors);
  CheckRest(&errors);
  TANREN_RETURN_IF_ERROR(Joined(directory_, std::move(errors)));
  return CheckTiedHead();
}

absl::Status HfModel::CheckTiedHead() const {
  const auto head = stored_.find("lm_head.weight");
  if (!shape().tied_embeddings || head == stored_.end()) return absl::OkStatus();
  const Stored& embedding = stored_.find(places_[place_of_.find("embedding.weight")->second].tensor)->second;
  const SafetensorsEntry& a = *embedding.entry;
  const SafetensorsEntry& b = *head->second.entry;
  bool equal = a.shape == b.shape && a.dtype == b.dtype;
  std::vector<char> left(kBlockElements), right(kBlockElements);
  for (int64_t at = 0; equal && at < a.bytes(); at += kBlockElements) {
    const int64_t bytes = std::min(kBlockElements, a.bytes() - at);
    TANREN_RETURN_IF_ERROR(embedding.file->ReadPart(a, at, left.data(), bytes));
    TANREN_RETURN_IF_ERROR(head->second.file->ReadPart(b, at, right.data(), bytes));
    equal = std::memcmp(left.data(), right.data(), static_cast<size_t>(bytes)) == 0;
  }
  if (equal) return absl::OkStatus();
  return InvalidInput(
      "%s: tie_word_embeddings is true, but \"lm_head.weight\" differs from \"%s\"; set it to false to "
      "import both",
      directory_, a.name);
}

absl::Status HfModel::Read(std::string_view name, const Region& region, float* out) const {
  const auto found = place_of_.find(name);
  TANREN_CHECK_MSG(found != place_of_.end(), "no parameter ", View(name));
  const HfPlace& place = places_[found->second];
  TANREN_RETURN_IF_ERROR(At(place.name, CheckRegion(place.shape, region)));
  const Stored& stored = stored_.find(place.tensor)->second;
  std::vector<Box> boxes;
  AppendBoxes(region, &boxes);
  for (const Box& box : boxes) {
    TANREN_RETURN_IF_ERROR(place.transposed ? ReadTransposed(place, stored, box, out)
                                            : ReadBox(place, stored, box, out));
    out += box.elements();
  }
  return absl::OkStatus();
}

absl::Status HfModel::ReadBox(const HfPlace& place, const Stored& stored, const Box& box, float* out) const {
  const int64_t first_row = place.row_begin + box.offset[0];
  const int64_t columns = place.shape.size() == 1 ? 1 : place.shape[1];
  const int64_t first_column = place.shape.size() == 1 ? 0 : box.offset[1];
  const int64_t count = place.shape.size() == 1 ? 1 : box.size[1];
  if (count == columns) {
    return ReadElements(*stored.file, *stored.entry, first_row * columns, box.size[0] * columns, out);
  }
  for (int64_t row = 0; row < box.size[0]; ++row) {
    TANREN_RETURN_IF_ERROR(ReadElements(
        *stored.file, *stored.entry, (first_row + row) * columns + first_column, count, out + row * count));
  }
  return absl::OkStatus();
}

absl::Status HfModel::ReadTransposed(const HfPlace& place, const Stored& stored, const Box& box,
                                     float* out) const {
  const int64_t stored_columns = place.tensor_shape[1];
  const int64_t first_row = place.row_begin + box.offset[0];
  const int64_t rows = box.size[0], columns = box.size[1];
  std::vector<float> staging(static_cast<size_t>(std::min(kTransposeRows, columns) * rows));
  for (int64_t begin = 0; begin < columns; begin += kTransposeRows) {
    const int64_t block = std::min(kTransposeRows, columns - begin);
    for (int64_t c = 0; c < block; ++c) {
      const int64_t at = (box.offset[1] + begin + c) * stored_columns + first_row;
      TANREN_RETURN_IF_ERROR(ReadElements(*stored.file, *stored.entry, at, rows, staging.data() + c * rows));
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < block; ++c) out[r * columns + begin + c] = staging[c * rows + r];
    }
  }
  return absl::OkStatus();
}

absl::Status FillPieces(const HfModel& model, std::span<const StatePiece> pieces) {
  bool any = pieces.empty();
  for (const StatePiece& piece : pieces) {
    if (piece.role != StatePiece::Role::kWeight) continue;
    any = true;
    const auto place = std::find_if(model.places().begin(), model.places().end(),
                                    [&](const HfPlace& p) { return p.name == piece.name; });
    if (place == model.places().end()) {
      return InvalidInput("%s: has no parameter %s, which model %s needs", model.directory(), piece.name,
                          piece.model);
    }
    if (place->shape != piece.shape) {
      return InvalidInput("%s: parameter %s has shape %s; model %s needs %s", model.directory(), piece.name,
                          ShapeToString(place->shape), piece.model, ShapeToString(piece.shape));
    }
    const Region region{Box{piece.box_begin, piece.box_size}, piece.range_begin, piece.range_end};
    TANREN_RETURN_IF_ERROR(model.Read(piece.name, region, piece.data.as<float>()));
  }
  if (!any) return InvalidInput("%s: the pieces to fill hold no weight", model.directory());
  return absl::OkStatus();
}

}  // namespace tanren
