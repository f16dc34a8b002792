#include "core/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

// Finds special tokens in text: the longest one at the leftmost place.
class SpecialFinder {
 public:
  explicit SpecialFinder(const std::vector<SpecialToken>& specials) {
    for (const SpecialToken& special : specials) {
      by_first_byte_[static_cast<unsigned char>(special.text[0])].push_back(&special);
    }
    for (auto& bucket : by_first_byte_) {
      std::sort(bucket.begin(), bucket.end(),
                [](const auto* a, const auto* b) { return a->text.size() > b->text.size(); });
    }
  }

  const SpecialToken* At(std::string_view text, size_t offset) const {
    for (const SpecialToken* special : by_first_byte_[static_cast<unsigned char>(text[offset])]) {
      if (text.compare(offset, special->text.size(), special->text) == 0) return special;
    }
    return nullptr;
  }

 private:
  std::array<std::vector<const SpecialToken*>, 256> by_first_byte_;
};

}  // namespace

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> ids;
  TANREN_RETURN_IF_ERROR(EncodeTo(text, &ids));
  return ids;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeWithSpecials(std::string_view text) const {
  const SpecialFinder finder(specials_);
  std::vector<int32_t> ids;
  size_t plain_begin = 0;
  for (size_t i = 0; i < text.size();) {
    const SpecialToken* special = finder.At(text, i);
    if (special == nullptr) {
      ++i;
      continue;
    }
    if (i > plain_begin) TANREN_RETURN_IF_ERROR(EncodeTo(text.substr(plain_begin, i - plain_begin), &ids));
    ids.push_back(special->id);
    i += special->text.size();
    plain_begin = i;
  }
  if (plain_begin < text.size()) TANREN_RETURN_IF_ERROR(EncodeTo(text.substr(plain_begin), &ids));
  return ids;
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids) const {
  TANREN_RETURN_IF_ERROR(CheckIds(ids));
  std::string text;
  for (const int32_t id : ids) text += DecodeToken(id);
  return text;
}

int32_t Tokenizer::SpecialId(std::string_view text) const {
  for (const SpecialToken& special : specials_) {
    if (special.text == text) return special.id;
  }
  return -1;
}

std::string Tokenizer::Hash() const {
  Sha256 hash;
  hash.UpdateField("tanren tokenizer 1");
  hash.UpdateField(kind());
  hash.UpdateNumber(vocab_size());
  hash.UpdateNumber(static_cast<int64_t>(specials_.size()));
  for (const SpecialToken& special : specials_) {
    hash.UpdateField(special.text);
    hash.UpdateNumber(special.id);
  }
  for (const int32_t id : {roles_.bos, roles_.eos, roles_.end_of_text, roles_.pad, roles_.unknown}) {
    hash.UpdateNumber(id);
  }
  hash.UpdateNumber(roles_.prepend_bos ? 1 : 0);
  HashContent(&hash);
  return hash.HexDigest();
}

absl::Status Tokenizer::CheckIds(absl::Span<const int32_t> ids) const {
  const int64_t size = vocab_size();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= size) {
      return InvalidInput("token %d of the sequence is id %d, but the vocabulary has ids 0 to %d", i, ids[i],
                          size - 1);
    }
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::SetSpecials(std::vector<SpecialToken> specials, const TokenRoles& roles) {
  std::sort(specials.begin(), specials.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  absl::flat_hash_set<std::string> texts;
  for (size_t i = 0; i < specials.size(); ++i) {
    const SpecialToken& special = specials[i];
    if (special.text.empty()) return InvalidInput("special token %d has no text", special.id);
    if (!texts.insert(special.text).second) {
      return InvalidInput("the special token %s appears twice", Quoted(special.text));
    }
    if (special.id < 0 || special.id >= vocab_size()) {
      return InvalidInput("the special token %s has id %d, but the vocabulary has ids 0 to %d",
                          Quoted(special.text), special.id, vocab_size() - 1);
    }
    if (i > 0 && specials[i - 1].id == special.id) {
      return InvalidInput("the special tokens %s and %s share id %d", Quoted(specials[i - 1].text),
                          Quoted(special.text), special.id);
    }
  }
  for (const int32_t id : {roles.bos, roles.eos, roles.end_of_text, roles.pad, roles.unknown}) {
    if (id < -1 || id >= vocab_size()) return InvalidInput("a role names id %d of %d", id, vocab_size());
  }
  specials_ = std::move(specials);
  roles_ = roles;
  return absl::OkStatus();
}

TokenRoles RolesByName(const std::vector<SpecialToken>& specials) {
  const auto first_of = [&](std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) {
      for (const SpecialToken& special : specials) {
        if (special.text == name) return special.id;
      }
    }
    return int32_t{-1};
  };
  TokenRoles roles;
  roles.end_of_text = first_of({"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"});
  roles.eos = roles.end_of_text;
  roles.bos = first_of({"<|begin_of_text|>", "<s>", "<bos>", "<|endoftext|>"});
  roles.pad = first_of({"<pad>", "<|pad|>", "[PAD]"});
  roles.unknown = first_of({"<unk>", "[UNK]"});
  return roles;
}

absl::Status CheckSameTokenizer(const std::string& path, const Tokenizer& its, const Tokenizer& own) {
  if (its.Hash() == own.Hash()) return absl::OkStatus();
  return InvalidInput(
      "%s was made with another tokenizer (a %s of %d tokens) than this run's (a %s of %d); use models of "
      "one "
      "tokenizer: %s/tokenizer is that one",
      path, std::string(its.kind()), its.vocab_size(), std::string(own.kind()), own.vocab_size(), path);
}

}  // namespace tanren
