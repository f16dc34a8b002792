// Hugging Face's tokenizer.json for byte-level BPE: read strictly, written so that `transformers` loads it.
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_set.h"
#include "core/base/status.h"
#include "core/tokenizer/bpe_files.h"
#include "core/tokenizer/bpe_vocabulary.h"
#include "core/tokenizer/byte_alphabet.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/json_file.h"
#include "core/tokenizer/split_pattern.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

using nlohmann::json;

const json& Field(const json& object, const char* name) {
  static const json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

std::string TypeOf(const json& object) {
  const json& type = Field(object, "type");
  return type.is_string() ? type.get<std::string>() : std::string();
}

bool Flag(const json& object, const char* name, bool otherwise) {
  const json& value = Field(object, name);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

absl::Status Unsupported(const char* part, const json& value) {
  return absl::UnimplementedError(
      absl::StrFormat("%s: %s is not supported for byte-level BPE", part, Quoted(value.dump())));
}

absl::Status ReadNormalizer(const json& normalizer, BpeDefinition* definition) {
  if (normalizer.is_null()) return absl::OkStatus();
  if (TypeOf(normalizer) == "NFC") {
    definition->normalise_nfc = true;
    return absl::OkStatus();
  }
  if (TypeOf(normalizer) != "Sequence") return Unsupported("normalizer", normalizer);
  for (const json& step : Field(normalizer, "normalizers")) {
    if (TypeOf(step) != "NFC") return Unsupported("normalizer", step);
    definition->normalise_nfc = true;
  }
  return absl::OkStatus();
}

absl::Status ReadSplit(const json& split, BpeDefinition* definition) {
  const json& pattern = Field(split, "pattern");
  const json& regex = Field(pattern, "Regex");
  const json& text = Field(pattern, "String");
  if (Field(split, "behavior") != "Isolated" || Flag(split, "invert", false))
    return Unsupported("pre_tokenizer", split);
  if (regex.is_string()) {
    definition->split_patterns.push_back(regex.get<std::string>());
  } else if (text.is_string()) {
    std::string escaped;
    for (const char c : text.get_ref<const std::string&>()) {
      if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c)))
        escaped.push_back('\\');
      escaped.push_back(c);
    }
    definition->split_patterns.push_back(escaped);
  } else {
    return Unsupported("pre_tokenizer", split);
  }
  return absl::OkStatus();
}

absl::Status ReadPreTokenizer(const json& pre_tokenizer, BpeDefinition* definition) {
  std::vector<const json*> steps;
  if (TypeOf(pre_tokenizer) == "Sequence") {
    for (const json& step : Field(pre_tokenizer, "pretokenizers")) steps.push_back(&step);
  } else {
    steps.push_back(&pre_tokenizer);
  }
  bool byte_level = false;
  for (const json* step : steps) {
    const std::string type = TypeOf(*step);
    if (byte_level) return Unsupported("pre_tokenizer: a step behind ByteLevel", *step);
    if (type == "Split") {
      TANREN_RETURN_IF_ERROR(ReadSplit(*step, definition));
    } else if (type == "Digits") {
      definition->split_patterns.push_back(Flag(*step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+");
    } else if (type == "ByteLevel") {
      byte_level = true;
      definition->add_prefix_space = Flag(*step, "add_prefix_space", true);
      if (definition->add_prefix_space && steps.size() > 1) return Unsupported("pre_tokenizer", *step);
      if (Flag(*step, "use_regex", true)) definition->split_patterns.push_back(std::string(kGpt2Pattern));
    } else {
      return Unsupported("pre_tokenizer", *step);
    }
  }
  if (!byte_level) return Unsupported("pre_tokenizer without a ByteLevel step", pre_tokenizer);
  return absl::OkStatus();
}

absl::Status ReadModel(const json& model, BpeDefinition* definition, VocabularyBuilder* vocabulary) {
  if (TypeOf(model) != "BPE") return Unsupported("model.type", Field(model, "type"));
  for (const char* name : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const json& value = Field(model, name);
    if (!value.is_null() && value != "" && value != 0) return Unsupported(name, value);
  }
  for (const char* name : {"byte_fallback", "fuse_unk"}) {
    if (Flag(model, name, false)) return Unsupported(name, true);
  }
  definition->ignore_merges = Flag(model, "ignore_merges", false);
  return At("model.vocab", vocabulary->AddAll(Field(model, "vocab")));
}

absl::Status ReadMerges(const json& merges, const VocabularyBuilder& vocabulary, BpeDefinition* definition) {
  if (!merges.is_array()) return InvalidInput("model.merges is not a list");
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const json& merge = merges[rank];
    absl::StatusOr<std::pair<int32_t, int32_t>> pair;
    if (merge.is_string()) {
      pair = vocabulary.ParseMerge(merge.get_ref<const std::string&>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      pair = vocabulary.FindMerge(merge[0].get_ref<const std::string&>(),
                                  merge[1].get_ref<const std::string&>());
    } else {
      pair = InvalidInput("%s is not a merge", Quoted(merge.dump()));
    }
    if (!pair.ok()) return At(absl::StrCat("model.merges[", rank, "]"), pair.status());
    definition->merges.push_back(*pair);
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const json& added, BpeDefinition* definition, VocabularyBuilder* vocabulary) {
  if (added.is_null()) return absl::OkStatus();
  if (!added.is_array()) return InvalidInput("added_tokens is not a list");
  for (size_t i = 0; i < added.size(); ++i) {
    const json& content = Field(added[i], "content");
    const json& id = Field(added[i], "id");
    const std::string place = absl::StrCat("added_tokens[", i, "]");
    if (!content.is_string() || !id.is_number_integer()) {
      return At(place, InvalidInput("%s has no content and id", Quoted(added[i].dump())));
    }
    for (const char* name : {"single_word", "lstrip", "rstrip"}) {
      if (Flag(added[i], name, false)) return At(place, Unsupported(name, true));
    }
    json one;
    one[content.get<std::string>()] = id;
    if (absl::Status status = vocabulary->AddAll(one); !status.ok()) return At(place, status);
    definition->specials.push_back({content.get<std::string>(), id.get<int32_t>()});
  }
  return absl::OkStatus();
}

// Whether the post-processor puts a token in front of a text, and which.
std::string LeadingToken(const json& post_processor) {
  if (TypeOf(post_processor) == "Sequence") {
    for (const json& step : Field(post_processor, "processors")) {
      if (std::string token = LeadingToken(step); !token.empty()) return token;
    }
  }
  if (TypeOf(post_processor) != "TemplateProcessing") return "";
  const json& single = Field(post_processor, "single");
  if (!single.is_array() || single.empty()) return "";
  const json& id = Field(Field(single[0], "SpecialToken"), "id");
  return id.is_string() ? id.get<std::string>() : "";
}

int32_t IdOf(const std::vector<SpecialToken>& specials, const json& named) {
  const json& text = named.is_object() ? Field(named, "content") : named;
  for (const SpecialToken& special : specials) {
    if (text == special.text) return special.id;
  }
  return -1;
}

absl::Status ReadRoles(const json& root, const std::string& config_path, BpeDefinition* definition) {
  TokenRoles roles = RolesByName(definition->specials);
  const std::string leading = LeadingToken(Field(root, "post_processor"));
  if (!leading.empty()) {
    roles.bos = IdOf(definition->specials, leading);
    roles.prepend_bos = roles.bos >= 0;
  }
  if (std::filesystem::exists(config_path)) {
    TANREN_ASSIGN_OR_RETURN(const json config, ReadJsonFile(config_path));
    const auto override_role = [&](const char* name, int32_t* role) {
      if (config.contains(name)) *role = IdOf(definition->specials, config[name]);
    };
    override_role("bos_token", &roles.bos);
    override_role("eos_token", &roles.eos);
    override_role("pad_token", &roles.pad);
    override_role("unk_token", &roles.unknown);
    if (roles.end_of_text < 0) roles.end_of_text = roles.eos;
    override_role("tanren_end_of_text", &roles.end_of_text);
    roles.prepend_bos = Flag(config, "add_bos_token", roles.prepend_bos) && roles.bos >= 0;
  }
  definition->roles = roles;
  return absl::OkStatus();
}

absl::StatusOr<BpeDefinition> ReadDefinition(const json& root, const std::string& config_path) {
  BpeDefinition definition;
  VocabularyBuilder vocabulary;
  const json& model = Field(root, "model");
  TANREN_RETURN_IF_ERROR(ReadModel(model, &definition, &vocabulary));
  TANREN_RETURN_IF_ERROR(ReadNormalizer(Field(root, "normalizer"), &definition));
  TANREN_RETURN_IF_ERROR(ReadPreTokenizer(Field(root, "pre_tokenizer"), &definition));
  TANREN_RETURN_IF_ERROR(ReadAddedTokens(Field(root, "added_tokens"), &definition, &vocabulary));
  TANREN_RETURN_IF_ERROR(vocabulary.CheckDense());
  TANREN_RETURN_IF_ERROR(ReadMerges(Field(model, "merges"), vocabulary, &definition));
  absl::flat_hash_set<int32_t> verbatim;
  for (const SpecialToken& special : definition.specials) verbatim.insert(special.id);
  TANREN_ASSIGN_OR_RETURN(definition.tokens, vocabulary.Bytes(verbatim));
  TANREN_RETURN_IF_ERROR(ReadRoles(root, config_path, &definition));
  return definition;
}

json PreTokenizer(const BpeDefinition& definition) {
  const bool gpt2 = definition.split_patterns.size() == 1 && definition.split_patterns[0] == kGpt2Pattern;
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", definition.add_prefix_space},
                           {"trim_offsets", true},
                           {"use_regex", gpt2}};
  if (gpt2 || definition.split_patterns.empty()) return byte_level;
  json steps = json::array();
  for (const std::string& pattern : definition.split_patterns) {
    steps.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  steps.push_back(byte_level);
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// <bos> in front of a text, as a TemplateProcessing step.
json PostProcessor(const BpeDefinition& definition) {
  if (!definition.roles.prepend_bos)
    return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}};
  const std::string& bos = definition.tokens[definition.roles.bos];
  const auto sequence = [](const char* id, int type) {
    return json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  const auto special = [&](int type) { return json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}}; };
  return {
      {"type", "TemplateProcessing"},
      {"single", json::array({special(0), sequence("A", 0)})},
      {"pair", json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
      {"special_tokens",
       {{bos, {{"id", bos}, {"ids", json::array({definition.roles.bos})}, {"tokens", json::array({bos})}}}}}};
}

absl::StatusOr<json> Model(const BpeDefinition& definition) {
  absl::flat_hash_set<int32_t> special_ids;
  for (const SpecialToken& special : definition.specials) special_ids.insert(special.id);
  const auto written = [&](int32_t id) {
    return special_ids.contains(id) ? definition.tokens[id] : BytesToAlphabet(definition.tokens[id]);
  };
  json vocabulary = json::object();
  for (size_t id = 0; id < definition.tokens.size(); ++id) {
    const std::string text = written(static_cast<int32_t>(id));
    if (!vocabulary.emplace(text, id).second) {
      return InvalidInput("the special token %s reads like another token in tokenizer.json; rename it",
                          Quoted(text));
    }
  }
  json merges = json::array();
  for (const auto& [left, right] : definition.merges)
    merges.push_back(absl::StrCat(written(left), " ", written(right)));
  return json{{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", nullptr},
              {"end_of_word_suffix", nullptr},
              {"fuse_unk", false},
              {"byte_fallback", false},
              {"ignore_merges", definition.ignore_merges},
              {"vocab", vocabulary},
              {"merges", merges}};
}

json Config(const BpeDefinition& definition) {
  const auto name = [&](int32_t id) { return id < 0 ? json(nullptr) : json(definition.tokens[id]); };
  const TokenRoles& roles = definition.roles;
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"bos_token", name(roles.bos)},
          {"eos_token", name(roles.eos)},
          {"pad_token", name(roles.pad)},
          {"unk_token", name(roles.unknown)},
          {"add_bos_token", roles.prepend_bos},
          {"clean_up_tokenization_spaces", false},
          {"tanren_end_of_text", name(roles.end_of_text)}};
}

}  // namespace

absl::StatusOr<BpeDefinition> ReadHuggingFaceTokenizer(const std::string& path) {
  TANREN_ASSIGN_OR_RETURN(const json root, ReadJsonFile(path));
  const std::string config = (std::filesystem::path(path).parent_path() / "tokenizer_config.json").string();
  absl::StatusOr<BpeDefinition> definition = ReadDefinition(root, config);
  if (!definition.ok()) return At(path, definition.status());
  return definition;
}

absl::Status WriteHuggingFaceTokenizer(const BpeDefinition& definition, const std::string& directory) {
  for (const SpecialToken& special : definition.specials) {
    if (!IsValidUtf8(special.text))
      return InvalidInput("the special token %s is not UTF-8", Quoted(special.text));
  }
  json added = json::array();
  for (const SpecialToken& special : definition.specials) {
    added.push_back({{"id", special.id},
                     {"content", special.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  TANREN_ASSIGN_OR_RETURN(const json model, Model(definition));
  const json root = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", definition.normalise_nfc ? json{{"type", "NFC"}} : json(nullptr)},
      {"pre_tokenizer", PreTokenizer(definition)},
      {"post_processor", PostProcessor(definition)},
      {"decoder",
       {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", model}};
  TANREN_RETURN_IF_ERROR(MakeDirectories(directory));
  TANREN_RETURN_IF_ERROR(
      WriteSmallFile(directory + "/tokenizer_config.json", Config(definition).dump(1) + "\n"));
  return WriteSmallFile(directory + "/tokenizer.json", root.dump(1) + "\n");
}

}  // namespace tanren
