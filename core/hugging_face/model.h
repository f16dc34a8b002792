// A model directory of Hugging Face's: config.json and safetensors, whole or sharded, read under Tanren's
// names.
#ifndef TANREN_CORE_HUGGING_FACE_MODEL_H_
#define TANREN_CORE_HUGGING_FACE_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/region.h"
#include "core/checkpoint/safetensors.h"
#include "core/engine/engine.h"
#include "core/hugging_face/config.h"
#include "core/hugging_face/family.h"

namespace tanren {

class HfModel {
 public:
  // On OK the directory holds, in float types that are read, a tensor of the right shape for every parameter
  // of the model that config.json describes, and nothing else but buffers that are known to be unused.
  // Otherwise InvalidArgument with one line for each tensor that is missing, unexpected or of another shape.
  // No weight has been read, except a head that a model with tied embeddings stores again, which must equal
  // the embedding.
  static absl::StatusOr<std::unique_ptr<HfModel>> Open(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const ModelShape& shape() const { return config_.shape; }
  const HfFamily& family() const { return *config_.family; }
  // In the order of ParameterSet.
  const std::vector<HfPlace>& places() const { return places_; }
  // Settings and tensors that were passed over, one line each, to be shown.
  const std::vector<std::string>& notes() const { return notes_; }

  // Elements of the parameter as fp32, row-major as the region says: exactly F32, BF16 and F16, rounded F64.
  // Memory beside `out` is a few MiB. May be called from several threads. Aborts when there is no such
  // parameter.
  absl::Status Read(std::string_view name, const Region& region, float* out) const;

 private:
  struct Stored {
    const SafetensorsFile* file = nullptr;
    const SafetensorsEntry* entry = nullptr;
  };

  HfModel() = default;
  absl::Status OpenFiles();
  absl::Status OpenSharded(const std::string& index_path);
  absl::Status AddFile(const std::string& name);
  absl::Status MatchTensors();
  void DropPrefix();
  void CheckPlaces(std::vector<std::string>* errors);
  void CheckRest(std::vector<std::string>* errors);
  absl::Status CheckTiedHead() const;
  absl::Status ReadBox(const HfPlace& place, const Stored& stored, const Box& box, float* out) const;
  absl::Status ReadTransposed(const HfPlace& place, const Stored& stored, const Box& box, float* out) const;

  std::string directory_;
  HfConfig config_;
  std::vector<HfPlace> places_;
  std::map<std::string, int, std::less<>> place_of_;  // by canonical name
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Stored, std::less<>> stored_;  // by the tensor's name
  std::vector<std::string> notes_;
};

// Fills the weights among the pieces of one model's StateAccess, whatever its layout; call its Commit()
// afterwards. InvalidArgument when a piece's tensor is not in the model or has another shape there, and when
// no piece is a weight although the model has some.
absl::Status FillPieces(const HfModel& model, std::span<const StatePiece> pieces);

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_MODEL_H_
