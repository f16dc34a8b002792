#include "core/tokenizer/bpe_vocabulary.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/status.h"
#include "core/tokenizer/byte_alphabet.h"
#include "core/tokenizer/files.h"

namespace tanren {

absl::Status VocabularyBuilder::AddAll(const nlohmann::json& object) {
  if (!object.is_object()) return InvalidInput("the vocabulary is not an object of token to id");
  for (const auto& [text, id] : object.items()) {
    if (!id.is_number_integer()) {
      return InvalidInput("the token %s has %s where its id should be", Quoted(text), Quoted(id.dump()));
    }
    if (id.is_number_unsigned() && id.get<uint64_t>() > uint64_t{std::numeric_limits<int32_t>::max()}) {
      return InvalidInput("the token %s has id %d; ids are below 2^31", Quoted(text), id.get<uint64_t>());
    }
    TANREN_RETURN_IF_ERROR(Add(text, id.get<int64_t>()));
  }
  return absl::OkStatus();
}

absl::Status VocabularyBuilder::Add(const std::string& text, int64_t id) {
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
    return InvalidInput("the token %s has id %d; ids are 0 to 2^31 - 1", Quoted(text), id);
  }
  if (text.empty()) return InvalidInput("the token with id %d is empty", id);
  const auto narrow = static_cast<int32_t>(id);
  const auto [known_id, new_text] = ids_.emplace(text, narrow);
  if (!new_text && known_id->second != narrow) {
    return InvalidInput("the token %s has two ids, %d and %d", Quoted(text), known_id->second, id);
  }
  const auto [known_text, new_id] = texts_.emplace(narrow, text);
  if (!new_id && known_text->second != text) {
    return InvalidInput("the tokens %s and %s share id %d", Quoted(known_text->second), Quoted(text), id);
  }
  return absl::OkStatus();
}

absl::Status VocabularyBuilder::CheckDense() const {
  for (const auto& [id, text] : texts_) {
    if (id >= size()) {
      return InvalidInput(
          "the token %s has id %d, but there are %d tokens: ids must be 0 to %d without holes", Quoted(text),
          id, size(), size() - 1);
    }
  }
  return absl::OkStatus();
}

int32_t VocabularyBuilder::Find(std::string_view text) const {
  const auto found = ids_.find(View(text));
  return found == ids_.end() ? -1 : found->second;
}

absl::StatusOr<std::pair<int32_t, int32_t>> VocabularyBuilder::ParseMerge(std::string_view line) const {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    return InvalidInput("a merge is two tokens with a space between them, not %s", Quoted(line));
  }
  return FindMerge(line.substr(0, space), line.substr(space + 1));
}

absl::StatusOr<std::pair<int32_t, int32_t>> VocabularyBuilder::FindMerge(std::string_view left,
                                                                         std::string_view right) const {
  for (const std::string_view part : {left, right}) {
    if (part.empty()) return InvalidInput("a merge with an empty part would make a token from itself");
    if (Find(part) < 0)
      return InvalidInput("the merge of %s and %s: %s is not in the vocabulary", Quoted(left), Quoted(right),
                          Quoted(part));
  }
  return std::make_pair(Find(left), Find(right));
}

absl::StatusOr<std::vector<std::string>> VocabularyBuilder::Bytes(
    const absl::flat_hash_set<int32_t>& verbatim) const {
  std::vector<std::string> tokens(size());
  for (int32_t id = 0; id < size(); ++id) {
    if (verbatim.contains(id)) {
      tokens[id] = text(id);
    } else if (!AlphabetToBytes(text(id), &tokens[id])) {
      return InvalidInput(
          "token %d, %s, has a character outside of GPT-2's byte alphabet: not a byte-level BPE", id,
          Quoted(text(id)));
    }
  }
  return tokens;
}

}  // namespace tanren
