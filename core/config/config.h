// From YAML and overrides to a checked Config, and from a Config back to YAML, a JSON schema and a table.
//
// The schema is core/proto/config.proto; nothing here knows a key by name except the rules between keys.
#ifndef TANREN_CORE_CONFIG_CONFIG_H_
#define TANREN_CORE_CONFIG_CONFIG_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/proto/config.pb.h"

namespace tanren::config {

// Reads `path` and applies `overrides` on top. Fields that were not given stay unset (their getters return
// the defaults); see Resolve.
//
// YAML. Types are strict: an integer may be written 1e6 but not 010, 1_000 or "12"; booleans are true and
// false; a key without a value is an error; a tag, a second document and a control character too. Aliases are
// allowed, merge keys (<<) are not. `include: PATH` (or a list of them) in any section reads another file
// into that section first, so that the section's own keys win; the path is relative to the file that names
// it. All other paths are relative to where the program was started.
//
// Overrides. "a.b=value", value in YAML: a scalar, [a, list] or {a: section}. Later ones win. A list is
// replaced as a whole (data.train=[{path: x}]) or by element (data.train.0.path=x; the index after the last
// appends). "model.include=PATH" stands for that line in the file: it replaces an include of that section,
// and the section's other keys still win over what is included; PATH is relative to where the program was
// started.
//
// Errors: InvalidArgument whose message has one line for each thing that is wrong, in the file, in included
// files, in overrides and between values ("run.yaml:14:3: optimizer.beta1: 1.5 is outside [0, 1)"). Untrusted
// text in it is escaped and cut. Files above 1 MiB, deeper than 64 levels or with more than 50,000 values
// (aliases and included files counted in full) are refused.
absl::StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides = {});

// The same for text; `name` stands for the file in places, and its directory is where includes start.
absl::StatusOr<Config> LoadConfigText(const std::string& text, const std::string& name,
                                      std::span<const std::string> overrides = {});

// The config that a checkpoint keeps. As LoadConfigText, but where it names plugins, sections that are
// unknown are left out: what a checkpoint names is never loaded, and a model is read without the code of the
// stage that made it.
absl::StatusOr<Config> LoadSavedConfig(const std::string& text, const std::string& name,
                                       std::span<const std::string> overrides = {});

// The shared objects to load before LoadConfig can know the plugins' keys: `plugins` as the file, what it
// includes and the overrides give it. Whatever else is wrong is left for LoadConfig to say.
struct PluginPath {
  std::string path;
  std::string place;  // "run.yaml:3:12: plugins.0"
};
std::vector<PluginPath> PluginsOf(const std::string& path, std::span<const std::string> overrides = {});

// Ranges, required fields and rules of a config made in code: what LoadConfig checks, without places.
absl::Status Validate(const Config& config);

// `config` with each 0 that stands for a derived value replaced where no run-time knowledge is needed:
// model.kv_heads, head_dim and mlp_width, data.sequence_length and schedule.decay_steps. Idempotent. Left to
// the run: model.vocab_size, parallel.data, threads and memory_limit_bytes.
Config Resolve(const Config& config);

// YAML that LoadConfig reads back as an equal message, keys in the schema's order. With defaults every field
// is written (required ones that are missing are not) and reading it back gives equal values, all of them
// set; without, only fields that are set.
std::string ToYaml(const Config& config, bool with_defaults);

// SHA-256, in lower-case hexadecimal, of the bytes of ToYaml(config, true): configs with equal values have
// equal hashes, however they were written, and `sha256sum resolved.yaml` agrees.
std::string ConfigHash(const Config& config);

// JSON Schema (draft 2020-12) of a config file, for editors. It does not know rules between keys, nor which
// keys are required, for an include may give them. With another root (a suite's), that of its files.
std::string JsonSchema(const google::protobuf::Descriptor* root = Config::descriptor(),
                       const std::string& title = "Tanren run");

// Markdown: a heading and a table of keys, types, defaults, ranges and meanings for each section.
std::string MarkdownTable(const google::protobuf::Descriptor* root = Config::descriptor());

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_CONFIG_H_
