// Recognises a tokenizer by what its files hold.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/status.h"
#include "core/tokenizer/bpe_files.h"
#include "core/tokenizer/bpe_tokenizer.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"
#include "core/tokenizer/sentencepiece_tokenizer.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {
namespace {

using Result = absl::StatusOr<std::unique_ptr<Tokenizer>>;

bool IsFile(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

Result FromDefinition(absl::StatusOr<BpeDefinition> definition, const std::string& path) {
  if (!definition.ok()) return definition.status();
  absl::StatusOr<std::unique_ptr<BpeTokenizer>> tokenizer = BpeTokenizer::Create(*std::move(definition));
  if (!tokenizer.ok()) return At(path, tokenizer.status());
  return std::unique_ptr<Tokenizer>(*std::move(tokenizer));
}

Result LoadHuggingFace(const std::string& path) {
  return FromDefinition(ReadHuggingFaceTokenizer(path), path);
}

// The pair of GPT-2 under OpenAI's and under Hugging Face's names.
Result LoadGpt2Pair(const std::filesystem::path& directory) {
  for (const auto& [vocabulary, merges] :
       {std::pair{"encoder.json", "vocab.bpe"}, std::pair{"vocab.json", "merges.txt"}}) {
    const bool has_vocabulary = IsFile(directory / vocabulary);
    const bool has_merges = IsFile(directory / merges);
    if (has_vocabulary && has_merges) {
      const std::string path = (directory / vocabulary).string();
      return FromDefinition(ReadGpt2Files(path, (directory / merges).string()), path);
    }
    if (has_vocabulary || has_merges) {
      return InvalidInput("%s has %s but not %s beside it", directory.string(),
                          has_vocabulary ? vocabulary : merges, has_vocabulary ? merges : vocabulary);
    }
  }
  return absl::NotFoundError("");
}

Result LoadDirectory(const std::filesystem::path& directory) {
  if (IsFile(directory / "vocabulary.json"))
    return ReadSimpleVocabulary((directory / "vocabulary.json").string());
  const std::string json = (directory / "tokenizer.json").string();
  const std::string model = (directory / "tokenizer.model").string();
  if (IsFile(json)) {
    Result result = LoadHuggingFace(json);
    // Llama 2's tokenizer.json is a conversion of the SentencePiece model that lies beside it.
    if (absl::IsUnimplemented(result.status()) && IsFile(model)) return ReadSentencePieceModel(model);
    return result;
  }
  if (IsFile(model)) return ReadSentencePieceModel(model);
  Result pair = LoadGpt2Pair(directory);
  if (!absl::IsNotFound(pair.status())) return pair;
  return InvalidInput(
      "%s holds no tokenizer: expected vocabulary.json, tokenizer.json, tokenizer.model, encoder.json with "
      "vocab.bpe, "
      "or vocab.json with merges.txt",
      directory.string());
}

Result LoadFile(const std::filesystem::path& path) {
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path.string(), JsonLimits().file_bytes));
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start == std::string::npos) return InvalidInput("%s: the file is empty", path.string());
  if (text.compare(0, 8, "#version") == 0) return LoadGpt2Pair(path.parent_path());
  // A serialized SentencePiece model starts with its first piece: field 1, a message.
  if (text[0] == '\n' && text[start] != '{') return ReadSentencePieceModel(path.string());
  if (text[start] != '{') {
    return InvalidInput("%s: neither JSON nor a SentencePiece model, so not a tokenizer", path.string());
  }
  TANREN_ASSIGN_OR_RETURN(const nlohmann::json root, ParseJson(text, path.string()));
  // GPT-2's vocabulary has the words "format" and "model" among its keys, with ids behind them.
  if (root.contains("format") && root["format"].is_string()) return ReadSimpleVocabulary(path.string());
  if (root.contains("model") && root["model"].is_object()) return LoadHuggingFace(path.string());
  Result pair = LoadGpt2Pair(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
  if (!absl::IsNotFound(pair.status())) return pair;
  return InvalidInput(
      "%s: JSON, but neither a vocabulary nor a tokenizer.json (no \"format\" and no \"model\")",
      path.string());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  std::error_code error;
  if (path.empty() || !std::filesystem::exists(path, error)) {
    return InvalidInput("%s: no such tokenizer file or directory", Quoted(path));
  }
  return std::filesystem::is_directory(path, error) ? LoadDirectory(path) : LoadFile(path);
}

}  // namespace tanren
