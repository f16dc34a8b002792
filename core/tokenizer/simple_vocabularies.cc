#include "core/tokenizer/simple_vocabularies.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "tanren.vocabulary";
constexpr size_t kMaxTokens = 4'000'000;

absl::Status NotUtf8(std::string_view text, size_t offset) {
  return InvalidInput("byte %d of the text, 0x%02x, is not UTF-8", offset,
                      static_cast<int>(static_cast<unsigned char>(text[offset])));
}

// Calls visit(begin, end) for each word between white space.
template <class Visit>
absl::Status ForEachWord(std::string_view text, Visit visit) {
  size_t word_begin = 0;
  for (size_t i = 0; i <= text.size();) {
    const Utf8Character character = DecodeUtf8(text, i);
    if (i < text.size() && character.bytes == 0) return NotUtf8(text, i);
    if (i == text.size() || IsUnicodeSpace(character.code_point)) {
      if (i > word_begin) TANREN_RETURN_IF_ERROR(visit(word_begin, i));
      word_begin = i + character.bytes;
    }
    i += std::max(character.bytes, 1);
  }
  return absl::OkStatus();
}

// What the three kinds share: a list of ordinary tokens, then special ones.
class SimpleTokenizer : public Tokenizer {
 public:
  absl::Status Initialise(std::vector<std::string> tokens, const std::vector<std::string>& special_texts) {
    tokens_ = std::move(tokens);
    ordinary_ = tokens_.size();
    if (ordinary_ + special_texts.size() > kMaxTokens) return InvalidInput("more than %d tokens", kMaxTokens);
    for (size_t id = 0; id < ordinary_; ++id) {
      TANREN_RETURN_IF_ERROR(CheckToken(tokens_[id]));
      if (!ids_.emplace(tokens_[id], static_cast<int32_t>(id)).second) {
        return InvalidInput("the token %s appears twice", Quoted(tokens_[id]));
      }
    }
    std::vector<SpecialToken> specials;
    for (const std::string& text : special_texts) {
      if (!IsValidUtf8(text)) return InvalidInput("the special token %s is not UTF-8", Quoted(text));
      specials.push_back({text, static_cast<int32_t>(tokens_.size())});
      tokens_.push_back(text);
    }
    if (tokens_.empty()) return InvalidInput("the vocabulary is empty");
    return SetSpecials(specials, RolesByName(specials));
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(tokens_.size()); }

  std::string DecodeToken(int32_t id) const override {
    return id >= 0 && id < vocab_size() ? tokens_[id] : std::string();
  }

  absl::Status Save(const std::string& directory) const override {
    json special_texts = json::array();
    for (const SpecialToken& special : specials()) special_texts.push_back(special.text);
    json root = {
        {"format", kFormat}, {"version", 1}, {"kind", std::string(kind())}, {"specials", special_texts}};
    if (kind() != "bytes")
      root["tokens"] = std::vector<std::string>(tokens_.begin(), tokens_.begin() + ordinary_);
    TANREN_RETURN_IF_ERROR(MakeDirectories(directory));
    return WriteSmallFile(directory + "/vocabulary.json", root.dump(1) + "\n");
  }

 protected:
  virtual absl::Status CheckToken(const std::string& token) const = 0;

  void HashContent(Sha256* hash) const override {
    for (const std::string& token : tokens_) hash->UpdateField(token);
  }

  // The id of text[begin, end); -1 when unknown and there is no "<unk>".
  int32_t IdOf(std::string_view token) const {
    const auto found = ids_.find(View(token));
    return found == ids_.end() ? roles().unknown : found->second;
  }

 private:
  std::vector<std::string> tokens_;
  size_t ordinary_ = 0;
  absl::flat_hash_map<std::string, int32_t> ids_;
};

class ByteTokenizer : public SimpleTokenizer {
 public:
  std::string_view kind() const override { return "bytes"; }
  absl::Status EncodeTo(std::string_view text, std::vector<int32_t>* ids) const override {
    ids->reserve(ids->size() + text.size());
    for (const char byte : text) ids->push_back(static_cast<unsigned char>(byte));
    return absl::OkStatus();
  }
  size_t LastCut(std::string_view text) const override { return text.size() > 1 ? text.size() - 1 : 0; }

 protected:
  absl::Status CheckToken(const std::string&) const override { return absl::OkStatus(); }
};

class CharacterTokenizer : public SimpleTokenizer {
 public:
  std::string_view kind() const override { return "characters"; }

  absl::Status EncodeTo(std::string_view text, std::vector<int32_t>* ids) const override {
    const size_t before = ids->size();
    for (size_t i = 0; i < text.size();) {
      const Utf8Character character = DecodeUtf8(text, i);
      const int32_t id = character.bytes == 0 ? -1 : IdOf(text.substr(i, character.bytes));
      if (id < 0) {
        ids->resize(before);
        if (character.bytes == 0) return NotUtf8(text, i);
        return InvalidInput(
            "the character %s (U+%04X) at byte %d of the text is not in the vocabulary; train the vocabulary "
            "on this "
            "text too, or with the special token <unk>",
            Quoted(text.substr(i, character.bytes)), character.code_point, i);
      }
      ids->push_back(id);
      i += character.bytes;
    }
    return absl::OkStatus();
  }

  size_t LastCut(std::string_view text) const override {
    for (size_t i = text.size(); i-- > 1;) {
      if (DecodeUtf8Before(text, i).bytes > 0) return i;
      if (text.size() - i > 8) break;
    }
    return 0;
  }

 protected:
  absl::Status CheckToken(const std::string& token) const override {
    const Utf8Character character = DecodeUtf8(token, 0);
    if (character.bytes == 0 || character.bytes != token.size()) {
      return InvalidInput("the token %s is not one character", Quoted(token));
    }
    return absl::OkStatus();
  }
};

class WhitespaceTokenizer : public SimpleTokenizer {
 public:
  std::string_view kind() const override { return "whitespace"; }

  absl::Status EncodeTo(std::string_view text, std::vector<int32_t>* ids) const override {
    const size_t before = ids->size();
    const absl::Status status = ForEachWord(text, [&](size_t begin, size_t end) -> absl::Status {
      const int32_t id = IdOf(text.substr(begin, end - begin));
      if (id < 0) {
        return InvalidInput(
            "the word %s at byte %d of the text is not in the vocabulary; train the vocabulary on this text "
            "too, or "
            "with the special token <unk>",
            Quoted(text.substr(begin, end - begin)), begin);
      }
      ids->push_back(id);
      return absl::OkStatus();
    });
    if (!status.ok()) ids->resize(before);
    return status;
  }

  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids) const override {
    TANREN_RETURN_IF_ERROR(CheckIds(ids));
    std::string text;
    for (size_t i = 0; i < ids.size(); ++i) absl::StrAppend(&text, i == 0 ? "" : " ", DecodeToken(ids[i]));
    return text;
  }

  size_t LastCut(std::string_view text) const override {
    const size_t space = text.find_last_of(" \t\r\n");
    return space == std::string_view::npos ? 0 : space;
  }

 protected:
  absl::Status CheckToken(const std::string& token) const override {
    int words = 0;
    TANREN_RETURN_IF_ERROR(ForEachWord(token, [&](size_t begin, size_t end) {
      words += begin == 0 && end == token.size() ? 1 : 2;
      return absl::OkStatus();
    }));
    if (words != 1) return InvalidInput("the token %s is not one word", Quoted(token));
    return absl::OkStatus();
  }
};

std::vector<std::string> AllBytes() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  return tokens;
}

template <class Kind>
absl::StatusOr<std::unique_ptr<Tokenizer>> Make(std::vector<std::string> tokens,
                                                const std::vector<std::string>& specials) {
  auto tokenizer = std::make_unique<Kind>();
  TANREN_RETURN_IF_ERROR(tokenizer->Initialise(std::move(tokens), specials));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

absl::StatusOr<std::vector<std::string>> Strings(const json& root, const char* name) {
  const auto list = root.find(name);
  if (list == root.end() || !list->is_array()) return InvalidInput("%s is not a list of texts", name);
  std::vector<std::string> texts;
  for (size_t i = 0; i < list->size(); ++i) {
    if (!(*list)[i].is_string()) return InvalidInput("%s[%d] is not a text", name, i);
    texts.push_back((*list)[i].get<std::string>());
  }
  return texts;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(const json& root) {
  if (!root.is_object() || !root.contains("format") || root["format"] != kFormat) {
    return InvalidInput("not a vocabulary of the format \"%s\"", kFormat);
  }
  if (!root.contains("version") || root["version"] != 1) {
    return InvalidInput("a vocabulary of another version than 1; it needs another release of the program");
  }
  const std::string kind =
      root.contains("kind") && root["kind"].is_string() ? root["kind"].get<std::string>() : "";
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> specials, Strings(root, "specials"));
  if (kind == "bytes") return Make<ByteTokenizer>(AllBytes(), specials);
  TANREN_ASSIGN_OR_RETURN(std::vector<std::string> tokens, Strings(root, "tokens"));
  if (kind == "characters") return Make<CharacterTokenizer>(std::move(tokens), specials);
  if (kind == "whitespace") return Make<WhitespaceTokenizer>(std::move(tokens), specials);
  return InvalidInput("the kind %s is none of bytes, characters and whitespace", Quoted(kind));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeByteTokenizer(const std::vector<std::string>& specials) {
  return Make<ByteTokenizer>(AllBytes(), specials);
}

// UTF-8 sorts by bytes as by code points.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeCharacterTokenizer(const std::set<std::string>& characters,
                                                                  const std::vector<std::string>& specials) {
  return Make<CharacterTokenizer>(std::vector<std::string>(characters.begin(), characters.end()), specials);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeWhitespaceTokenizer(const std::set<std::string>& words,
                                                                   const std::vector<std::string>& specials) {
  return Make<WhitespaceTokenizer>(std::vector<std::string>(words.begin(), words.end()), specials);
}

absl::Status CollectCharacters(std::string_view text, std::set<std::string>* characters) {
  bool seen_ascii[128] = {};
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = DecodeUtf8(text, i);
    if (character.bytes == 0) return NotUtf8(text, i);
    const bool again = character.code_point < 128 && std::exchange(seen_ascii[character.code_point], true);
    if (!again) characters->emplace(text.substr(i, character.bytes));
    i += character.bytes;
  }
  return absl::OkStatus();
}

absl::Status CollectWords(std::string_view text, std::set<std::string>* words) {
  return ForEachWord(text, [&](size_t begin, size_t end) {
    words->emplace(text.substr(begin, end - begin));
    return absl::OkStatus();
  });
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadSimpleVocabulary(const std::string& path) {
  TANREN_ASSIGN_OR_RETURN(const json root, ReadJsonFile(path));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = FromJson(root);
  if (!tokenizer.ok()) return At(path, tokenizer.status());
  return tokenizer;
}

}  // namespace tanren
