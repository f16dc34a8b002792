#include "core/hugging_face/family.h"

#include <algorithm>

#include "core/base/status.h"
#include "core/model/parameters.h"

namespace tanren {
namespace {

constexpr bool kTransposed = true;
constexpr bool kOutsidePrefix = false;

// GPT-2's linear layers are Conv1D modules: weights are [in, out], and query, key and value are one tensor.
constexpr HfNameRule kGpt2Rules[] = {
    {"embedding.weight", "wte.weight"},
    {"positions.weight", "wpe.weight"},
    {"layers.#.attention_norm.weight", "h.#.ln_1.weight"},
    {"layers.#.attention_norm.bias", "h.#.ln_1.bias"},
    {"layers.#.attention.query.weight", "h.#.attn.c_attn.weight", HfPart::kQuery, kTransposed},
    {"layers.#.attention.key.weight", "h.#.attn.c_attn.weight", HfPart::kKey, kTransposed},
    {"layers.#.attention.value.weight", "h.#.attn.c_attn.weight", HfPart::kValue, kTransposed},
    {"layers.#.attention.query.bias", "h.#.attn.c_attn.bias", HfPart::kQuery},
    {"layers.#.attention.key.bias", "h.#.attn.c_attn.bias", HfPart::kKey},
    {"layers.#.attention.value.bias", "h.#.attn.c_attn.bias", HfPart::kValue},
    {"layers.#.attention.output.weight", "h.#.attn.c_proj.weight", HfPart::kWhole, kTransposed},
    {"layers.#.attention.output.bias", "h.#.attn.c_proj.bias"},
    {"layers.#.mlp_norm.weight", "h.#.ln_2.weight"},
    {"layers.#.mlp_norm.bias", "h.#.ln_2.bias"},
    {"layers.#.mlp.up.weight", "h.#.mlp.c_fc.weight", HfPart::kWhole, kTransposed},
    {"layers.#.mlp.up.bias", "h.#.mlp.c_fc.bias"},
    {"layers.#.mlp.down.weight", "h.#.mlp.c_proj.weight", HfPart::kWhole, kTransposed},
    {"layers.#.mlp.down.bias", "h.#.mlp.c_proj.bias"},
    {"final_norm.weight", "ln_f.weight"},
    {"final_norm.bias", "ln_f.bias"},
    {"head.weight", "lm_head.weight", HfPart::kWhole, false, kOutsidePrefix},
};
constexpr const char* kGpt2Ignored[] = {"h.#.attn.bias", "h.#.attn.masked_bias"};

// Llama and all that keep its names.
constexpr HfNameRule kLlamaRules[] = {
    {"embedding.weight", "embed_tokens.weight"},
    {"layers.#.attention_norm.weight", "layers.#.input_layernorm.weight"},
    {"layers.#.attention.query.weight", "layers.#.self_attn.q_proj.weight"},
    {"layers.#.attention.key.weight", "layers.#.self_attn.k_proj.weight"},
    {"layers.#.attention.value.weight", "layers.#.self_attn.v_proj.weight"},
    {"layers.#.attention.query.bias", "layers.#.self_attn.q_proj.bias"},
    {"layers.#.attention.key.bias", "layers.#.self_attn.k_proj.bias"},
    {"layers.#.attention.value.bias", "layers.#.self_attn.v_proj.bias"},
    {"layers.#.attention.query_norm.weight", "layers.#.self_attn.q_norm.weight"},
    {"layers.#.attention.key_norm.weight", "layers.#.self_attn.k_norm.weight"},
    {"layers.#.attention.output.weight", "layers.#.self_attn.o_proj.weight"},
    {"layers.#.attention.output.bias", "layers.#.self_attn.o_proj.bias"},
    {"layers.#.mlp_norm.weight", "layers.#.post_attention_layernorm.weight"},
    {"layers.#.mlp.gate.weight", "layers.#.mlp.gate_proj.weight"},
    {"layers.#.mlp.up.weight", "layers.#.mlp.up_proj.weight"},
    {"layers.#.mlp.gate.bias", "layers.#.mlp.gate_proj.bias"},
    {"layers.#.mlp.up.bias", "layers.#.mlp.up_proj.bias"},
    {"layers.#.mlp.down.weight", "layers.#.mlp.down_proj.weight"},
    {"layers.#.mlp.down.bias", "layers.#.mlp.down_proj.bias"},
    {"final_norm.weight", "norm.weight"},
    {"head.weight", "lm_head.weight", HfPart::kWhole, false, kOutsidePrefix},
};
constexpr const char* kLlamaIgnored[] = {"layers.#.self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"};

constexpr HfFamily kFamilies[] = {
    {"gpt2", "GPT2LMHeadModel", "GPT2Model", "transformer.", kGpt2Rules, kGpt2Ignored},
    {"llama", "LlamaForCausalLM", "LlamaModel", "model.", kLlamaRules, kLlamaIgnored},
    {"mistral", "MistralForCausalLM", "MistralModel", "model.", kLlamaRules, kLlamaIgnored},
    {"qwen2", "Qwen2ForCausalLM", "Qwen2Model", "model.", kLlamaRules, kLlamaIgnored},
    {"qwen3", "Qwen3ForCausalLM", "Qwen3Model", "model.", kLlamaRules, kLlamaIgnored},
};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Replaces the first run of digits between dots by '#', and returns it in *number: "layers.12.x" ->
// "layers.#.x".
std::string PatternOf(std::string_view name, std::string* number) {
  number->clear();
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view word = name.substr(begin, end - begin);
    if (!word.empty() && std::all_of(word.begin(), word.end(), IsDigit)) {
      *number = std::string(word);
      return std::string(name.substr(0, begin)) + "#" + std::string(name.substr(end));
    }
    begin = end + 1;
  }
  return std::string(name);
}

std::string Substitute(std::string_view pattern, const std::string& number) {
  const size_t mark = pattern.find('#');
  if (mark == pattern.npos) return std::string(pattern);
  return std::string(pattern.substr(0, mark)) + number + std::string(pattern.substr(mark + 1));
}

const HfNameRule* FindRule(const HfFamily& family, std::string_view pattern) {
  for (const HfNameRule& rule : family.rules) {
    if (pattern == rule.canonical) return &rule;
  }
  return nullptr;
}

HfPlace PlaceOf(const HfFamily& family, const HfNameRule& rule, const Parameter& parameter,
                const ModelShape& shape, const std::string& number) {
  HfPlace place;
  place.name = parameter.name;
  place.shape = place.tensor_shape = parameter.shape;
  place.tensor = (rule.under_prefix ? family.prefix : "") + Substitute(rule.tensor, number);
  place.transposed = rule.transposed;
  if (rule.part != HfPart::kWhole)
    place.tensor_shape[0] = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  if (rule.part == HfPart::kKey) place.row_begin = shape.heads * shape.head_dim;
  if (rule.part == HfPart::kValue) place.row_begin = (shape.heads + shape.kv_heads) * shape.head_dim;
  if (rule.transposed) std::swap(place.tensor_shape[0], place.tensor_shape[1]);
  return place;
}

}  // namespace

std::span<const HfFamily> HfFamilies() { return kFamilies; }

const HfFamily* FindHfFamily(std::string_view name) {
  for (const HfFamily& family : kFamilies) {
    if (name == family.name) return &family;
  }
  return nullptr;
}

std::string HfFamilyNames() {
  std::string names;
  for (const HfFamily& family : kFamilies) absl::StrAppend(&names, names.empty() ? "" : ", ", family.name);
  return names;
}

std::vector<HfPlace> MapParameters(const HfFamily& family, const ModelShape& shape,
                                   std::vector<std::string>* without_place) {
  const ParameterSet parameters(shape, ParameterSet::Options());
  std::vector<HfPlace> places;
  for (const Parameter& parameter : parameters.all()) {
    std::string number;
    const HfNameRule* rule = FindRule(family, PatternOf(parameter.name, &number));
    if (rule == nullptr) {
      without_place->push_back(parameter.name);
    } else {
      places.push_back(PlaceOf(family, *rule, parameter, shape, number));
    }
  }
  return places;
}

bool IsIgnoredTensor(const HfFamily& family, std::string_view tensor) {
  std::string number;
  const std::string pattern = PatternOf(tensor, &number);
  return std::any_of(family.ignored.begin(), family.ignored.end(),
                     [&](const char* ignored) { return pattern == ignored; });
}

}  // namespace tanren
