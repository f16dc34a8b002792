#include "core/corpus/tokenize_record.h"

#include <unistd.h>

#include <bit>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr const char* kRecordFile = "tokenize.json";
constexpr const char* kFormat = "tanren.tokenize";

absl::StatusOr<TokenizeRecord> FromJson(const json& root) {
  try {
    if (root.at("format") != kFormat || root.at("version") != 1)
      return InvalidInput("not a record of version 1");
    TokenizeRecord record;
    root.at("request").get_to(record.request);
    root.at("splits").get_to(record.splits);
    root.at("split_by_position").get_to(record.split_by_position);
    const json& damage = root.at("damage");
    damage.at("lines").get_to(record.damage.lines);
    damage.at("count").get_to(record.damage.count);
    damage.at("examples").get_to(record.damage.examples);
    return record;
  } catch (const json::exception& error) {
    return InvalidInput("%s", error.what());
  }
}

}  // namespace

std::string RequestHash(const TokenizeOptions& options, const std::vector<CorpusSplit>& splits,
                        const std::vector<FileDigest>& inputs, const Tokenizer& tokenizer) {
  Sha256 hash;
  hash.UpdateField("tanren tokenize 1");
  hash.UpdateField(tokenizer.Hash());
  hash.UpdateNumber(static_cast<int64_t>(inputs.size()));
  for (const FileDigest& input : inputs) hash.UpdateField(input.sha256);
  const DocumentOptions& d = options.documents;
  hash.UpdateNumber(static_cast<int64_t>(d.format));
  // With the format taken from names, the names decide too.
  if (d.format == InputFormat::kByName) {
    const DocumentReader reader(d, nullptr);
    for (const std::string& input : options.inputs) {
      const absl::StatusOr<InputFormat> format = reader.FormatOf(input);
      hash.UpdateNumber(format.ok() ? static_cast<int64_t>(*format) : -1);
    }
  }
  hash.UpdateNumber(static_cast<int64_t>(d.text_keys.size()));
  for (const std::string& key : d.text_keys) hash.UpdateField(key);
  hash.UpdateField(d.key_separator);
  hash.UpdateField(d.document_delimiter);
  for (const int64_t number :
       {int64_t{d.split_at_blank_lines}, d.line_limit_bytes, d.document_limit_bytes, options.shard_tokens,
        int64_t{options.append_end_of_text}, int64_t{options.prepend_bos},
        static_cast<int64_t>(options.split_by), static_cast<int64_t>(splits.size())}) {
    hash.UpdateNumber(number);
  }
  for (const CorpusSplit& split : splits) {
    hash.UpdateField(split.name);
    hash.UpdateNumber(std::bit_cast<int64_t>(split.fraction));
  }
  return hash.HexDigest();
}

absl::Status WriteTokenizeRecord(const std::string& directory, const TokenizeRecord& record,
                                 const std::vector<std::string>& input_names,
                                 const std::vector<FileDigest>& inputs) {
  json files = json::array();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = std::filesystem::path(input_names[i]).filename().string();
    files.push_back({{"name", IsValidUtf8(name) ? name : Quoted(name)},
                     {"bytes", inputs[i].bytes},
                     {"sha256", inputs[i].sha256}});
  }
  std::vector<std::string> examples;
  for (const std::string& example : record.damage.examples) {
    examples.push_back(IsValidUtf8(example) ? example : Quoted(example));
  }
  const json root = {
      {"format", kFormat},
      {"version", 1},
      {"request", record.request},
      {"splits", record.splits},
      {"split_by_position", record.split_by_position},
      {"inputs", files},
      {"damage", {{"lines", record.damage.lines}, {"count", record.damage.count}, {"examples", examples}}}};
  return WriteSmallFile(absl::StrCat(directory, "/", kRecordFile), root.dump(1) + "\n");
}

absl::StatusOr<TokenizeRecord> ReadTokenizeRecord(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kRecordFile);
  if (access(path.c_str(), F_OK) != 0) return absl::NotFoundError(absl::StrCat(path, ": absent"));
  TANREN_ASSIGN_OR_RETURN(const json root, ReadJsonFile(path));
  absl::StatusOr<TokenizeRecord> record = FromJson(root);
  if (!record.ok()) return At(path, record.status());
  return record;
}

}  // namespace tanren
