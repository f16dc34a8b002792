#include "core/tokenizer/bpe_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/base/status.h"
#include "core/tokenizer/bpe_vocabulary.h"
#include "core/tokenizer/byte_alphabet.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"
#include "core/tokenizer/split_pattern.h"

namespace tanren {
namespace {

constexpr int64_t kMergesFileBytes = int64_t{64} << 20;

absl::StatusOr<std::vector<std::pair<int32_t, int32_t>>> ReadMerges(const std::string& path,
                                                                    const VocabularyBuilder& vocabulary) {
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMergesFileBytes));
  std::vector<std::pair<int32_t, int32_t>> merges;
  size_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    std::string_view line(text.data() + begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    begin = end + 1;
    ++line_number;
    if (line.empty() || (line_number == 1 && line.substr(0, 8) == "#version")) continue;
    absl::StatusOr<std::pair<int32_t, int32_t>> merge = vocabulary.ParseMerge(line);
    if (!merge.ok()) return At(absl::StrCat(path, ":", line_number), merge.status());
    merges.push_back(*merge);
  }
  return merges;
}

}  // namespace

absl::StatusOr<BpeDefinition> ReadGpt2Files(const std::string& vocabulary_path,
                                            const std::string& merges_path) {
  TANREN_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(vocabulary_path));
  VocabularyBuilder vocabulary;
  absl::Status status = vocabulary.AddAll(json);
  if (status.ok()) status = vocabulary.CheckDense();
  if (!status.ok()) return At(vocabulary_path, status);
  BpeDefinition definition;
  TANREN_ASSIGN_OR_RETURN(definition.merges, ReadMerges(merges_path, vocabulary));

  std::vector<bool> made(vocabulary.size(), false);
  for (const auto& [left, right] : definition.merges) {
    const int32_t product = vocabulary.Find(absl::StrCat(vocabulary.text(left), vocabulary.text(right)));
    if (product >= 0) made[product] = true;
  }
  absl::flat_hash_set<int32_t> special_ids;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    std::string bytes;
    const bool is_byte = AlphabetToBytes(vocabulary.text(id), &bytes) && bytes.size() == 1;
    if (made[id] || is_byte) continue;
    special_ids.insert(id);
    definition.specials.push_back({vocabulary.text(id), id});
  }
  definition.roles = RolesByName(definition.specials);
  definition.split_patterns = {std::string(kGpt2Pattern)};
  absl::StatusOr<std::vector<std::string>> tokens = vocabulary.Bytes(special_ids);
  if (!tokens.ok()) return At(vocabulary_path, tokens.status());
  definition.tokens = *std::move(tokens);
  return definition;
}

}  // namespace tanren
