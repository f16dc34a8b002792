// Slices of tokenised documents: the source of pre-training and of replay.
#ifndef TANREN_STAGES_COMMON_DOCUMENT_SOURCE_H_
#define TANREN_STAGES_COMMON_DOCUMENT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/corpus/token_store.h"
#include "core/data/source.h"

namespace tanren {

// A unit is a slice of `sequence_length` input tokens; position t predicts token t + 1.
//
// Training is endless. Each epoch of a store goes through it once, in a new order, on a grid of whole slices
// that is shifted by a new random amount, so that boundaries do not repeat and every token gets its turn;
// what the grid leaves over at both ends, less than two slices, waits for another epoch. Several stores are
// blended: the next unit comes from the store that is furthest behind its share. Validation is one pass in
// order, the last slice of a store being shorter.
class DocumentSource final : public Source {
 public:
  struct Options {
    int64_t sequence_length = 0;
    bool isolate_documents = true;  // a segment a document: no attention and no prediction across boundaries
    bool shuffle = true;
    bool endless = true;  // training; else one pass
    uint64_t seed = 1;
  };
  struct Part {
    std::shared_ptr<const TokenStore> store;
    double weight = 1;
  };

  // InvalidArgument when a store has fewer than two tokens or a weight is not positive.
  static absl::StatusOr<std::unique_ptr<DocumentSource>> Make(std::vector<Part> parts,
                                                              const Options& options);

  absl::StatusOr<UnitRef> Next() override;
  absl::Status Load(const UnitRef& ref, Unit* unit) override;
  std::string SaveState() const override;
  absl::Status RestoreState(const std::string& state) override;

  // Back to the first unit.
  void Rewind();

 private:
  // The slice grid of one store. `index` of a unit counts the slices taken from its store.
  struct Grid {
    int64_t slice_tokens = 0;  // at most sequence_length
    int64_t slices = 0;        // an epoch
    int64_t shifts = 1;        // places where the grid may begin
  };
  struct Slice {
    int64_t begin = 0;  // offset of the first input token
    int64_t tokens = 0;
  };

  DocumentSource(std::vector<Part> parts, const Options& options);
  Slice SliceOf(const UnitRef& ref) const;
  std::string Identity() const;

  std::vector<Part> parts_;
  Options options_;
  std::vector<Grid> grids_;
  std::vector<int64_t> taken_;  // slices taken from each store
};

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_DOCUMENT_SOURCE_H_
