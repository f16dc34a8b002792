#include "core/corpus/corpus_manifest.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "tanren.corpus";
constexpr int64_t kVersion = 1;

// Reads fields of the right type and keeps the first complaint.
class Fields {
 public:
  explicit Fields(const json& object) : object_(object) {}

  std::string Text(const char* name) {
    const json* value = Find(name);
    if (value != nullptr && value->is_string()) return value->get<std::string>();
    return Complain(name, "a text"), "";
  }

  int64_t Number(const char* name, int64_t least) {
    const json* value = Find(name);
    const bool fits = value != nullptr && value->is_number_integer() &&
                      !(value->is_number_unsigned() &&
                        value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
    if (fits && value->get<int64_t>() >= least) return value->get<int64_t>();
    return Complain(name, "a whole number in its range"), least;
  }

  int32_t Id(const char* name) {
    const json* value = Find(name);
    if (value != nullptr && value->is_null()) return -1;
    const int64_t id = Number(name, 0);
    if (id > std::numeric_limits<int32_t>::max()) Complain(name, "an id");
    return static_cast<int32_t>(id);
  }

  const absl::Status& status() const { return status_; }

 private:
  const json* Find(const char* name) const {
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(name);
    return found == object_.end() ? nullptr : &*found;
  }
  void Complain(const char* name, const char* what) {
    status_.Update(InvalidInput("\"%s\" is not %s", name, what));
  }

  const json& object_;
  absl::Status status_;
};

absl::StatusOr<CorpusManifest> FromJson(json root) {
  Fields fields(root);
  const std::string format = fields.Text("format");
  const int64_t version = fields.Number("version", 1);
  TANREN_RETURN_IF_ERROR(fields.status());
  if (format != kFormat) return InvalidInput("the format is %s, not \"%s\"", Quoted(format), kFormat);
  if (version != kVersion)
    return InvalidInput("format version %d; this program reads version %d", version, kVersion);
  const std::string checksum = fields.Text("checksum");
  CorpusManifest manifest;
  manifest.tokenizer_kind = fields.Text("tokenizer_kind");
  manifest.tokenizer_hash = fields.Text("tokenizer_hash");
  manifest.vocab_size = fields.Number("vocab_size", 1);
  manifest.end_of_text = fields.Id("end_of_text");
  manifest.bos = fields.Id("bos");
  manifest.tokens = fields.Number("tokens", 1);
  manifest.documents = fields.Number("documents", 1);
  manifest.text_bytes = fields.Number("text_bytes", 0);
  manifest.content_hash = fields.Text("content_hash");
  TANREN_RETURN_IF_ERROR(fields.status());
  for (const json& entry : root.contains("shards") ? root["shards"] : json::array()) {
    Fields shard(entry);
    manifest.shards.push_back({shard.Text("file"), shard.Number("tokens", 1), shard.Number("documents", 0)});
    TANREN_RETURN_IF_ERROR(shard.status());
  }
  root.erase("checksum");
  if (checksum != Sha256Hex(root.dump()))
    return InvalidInput("the file was changed: its checksum does not match");
  return manifest;
}

absl::Status CheckSums(const CorpusManifest& manifest) {
  int64_t tokens = 0;
  int64_t documents = 0;
  for (const CorpusManifest::Shard& shard : manifest.shards) {
    if (shard.file.empty() || shard.file[0] == '.' || shard.file.find_first_of("/\\") != std::string::npos ||
        shard.file.find('\0') != std::string::npos) {
      return InvalidInput("the shard file %s is not a plain file name", Quoted(shard.file));
    }
    if (__builtin_add_overflow(tokens, shard.tokens, &tokens) ||
        __builtin_add_overflow(documents, shard.documents, &documents)) {
      return InvalidInput("the shards hold more than 2^63 tokens");
    }
  }
  if (tokens != manifest.tokens || documents != manifest.documents) {
    return InvalidInput("the shards hold %d tokens and %d documents, but the corpus says %d and %d", tokens,
                        documents, manifest.tokens, manifest.documents);
  }
  return absl::OkStatus();
}

}  // namespace

std::string FormatManifest(const CorpusManifest& manifest) {
  const auto id_or_null = [](int32_t id) { return id < 0 ? json(nullptr) : json(id); };
  json shards = json::array();
  for (const CorpusManifest::Shard& shard : manifest.shards) {
    shards.push_back({{"file", shard.file}, {"tokens", shard.tokens}, {"documents", shard.documents}});
  }
  json root = {{"format", kFormat},
               {"version", kVersion},
               {"tokenizer_kind", manifest.tokenizer_kind},
               {"tokenizer_hash", manifest.tokenizer_hash},
               {"vocab_size", manifest.vocab_size},
               {"end_of_text", id_or_null(manifest.end_of_text)},
               {"bos", id_or_null(manifest.bos)},
               {"tokens", manifest.tokens},
               {"documents", manifest.documents},
               {"text_bytes", manifest.text_bytes},
               {"content_hash", manifest.content_hash},
               {"shards", shards}};
  root["checksum"] = Sha256Hex(root.dump());
  return root.dump(1) + "\n";
}

absl::StatusOr<CorpusManifest> ParseManifest(std::string_view text, const std::string& path) {
  TANREN_ASSIGN_OR_RETURN(json root, ParseJson(text, path));
  absl::StatusOr<CorpusManifest> manifest = FromJson(std::move(root));
  if (!manifest.ok()) return At(path, manifest.status());
  if (absl::Status status = CheckSums(*manifest); !status.ok()) return At(path, status);
  return manifest;
}

}  // namespace tanren
