// A vocabulary while it is read from JSON. Internal to the readers of BPE files.
#ifndef TANREN_CORE_TOKENIZER_BPE_VOCABULARY_H_
#define TANREN_CORE_TOKENIZER_BPE_VOCABULARY_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tanren {

// Ids must be 0 .. size - 1 without holes: a file with ids beyond its own size is broken, and an id of 2^31
// must not become an allocation.
class VocabularyBuilder {
 public:
  // An object of token to id.
  absl::Status AddAll(const nlohmann::json& object);
  // The same token at the same id again is no error.
  absl::Status Add(const std::string& text, int64_t id);
  absl::Status CheckDense() const;

  int32_t size() const { return static_cast<int32_t>(texts_.size()); }
  const std::string& text(int32_t id) const { return texts_.at(id); }  // after CheckDense
  int32_t Find(std::string_view text) const;                           // -1 when unknown

  // "left right", both known.
  absl::StatusOr<std::pair<int32_t, int32_t>> ParseMerge(std::string_view line) const;
  absl::StatusOr<std::pair<int32_t, int32_t>> FindMerge(std::string_view left, std::string_view right) const;

  // By id: the bytes behind the byte alphabet; the text itself for ids in `verbatim`.
  absl::StatusOr<std::vector<std::string>> Bytes(const absl::flat_hash_set<int32_t>& verbatim) const;

 private:
  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<int32_t, std::string> texts_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_BPE_VOCABULARY_H_
