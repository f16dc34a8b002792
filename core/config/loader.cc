#include "core/config/loader.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/config/field_value.h"
#include "core/config/schema.h"
#include "core/config/small_file.h"
#include "core/config/text.h"

namespace tanren::config {
namespace {

using google::protobuf::Reflection;

constexpr int kMaxFiles = 100;        // read in all: an include can be named many times
constexpr size_t kMaxOpenFiles = 16;  // including each other
constexpr size_t kMaxNameBytes = 200;
constexpr std::string_view kInclude = "include";

std::string CanonicalPath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

const char* KindText(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kSequence:
      return "a list";
    case YamlNode::Kind::kMapping:
      return "a section of keys and values";
  }
  return "";
}

// The text of a key, or false. [full.name] without quotes is a list of one value to YAML.
bool KeyText(const YamlNode& node, std::string* key) {
  if (node.is_sequence() && node.children.size() == 1 && node.children[0]->is_scalar()) {
    *key = absl::StrCat("[", node.children[0]->scalar, "]");
    return true;
  }
  *key = node.scalar;
  return node.is_scalar();
}

bool ParseIndex(const std::string& text, int* index) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *index);
  return error == std::errc() && end == text.data() + text.size() && *index >= 0;
}

// a.[plugin.options].c -> {"a", "[plugin.options]", "c"}
std::vector<std::string> SplitPath(std::string_view path) {
  std::vector<std::string> parts(1);
  bool in_brackets = false;
  for (char c : path) {
    if (c == '.' && !in_brackets) {
      parts.emplace_back();
      continue;
    }
    in_brackets = (in_brackets || c == '[') && c != ']';
    parts.back() += c;
  }
  return parts;
}

}  // namespace

std::string Source::PlaceAt(int line, int column) const {
  return is_override ? name : absl::StrCat(name, ":", line, ":", column);
}

void Loader::ReadFile(const std::string& path, std::span<const std::string> overrides) {
  const Source source{Printable(path, kMaxNameBytes), std::filesystem::path(path).parent_path().string()};
  std::string text;
  if (std::string problem = ReadSmallFile(path, kMaxYamlBytes, &text); !problem.empty()) {
    report_->Add(source.name, "", problem);
    report_->SetIncomplete();
  }
  open_files_.emplace_back(CanonicalPath(path), source.name);
  ApplyRoot(source, text, overrides);
}

void Loader::ReadText(const std::string& text, const std::string& name,
                      std::span<const std::string> overrides) {
  const Source source{Printable(name, kMaxNameBytes), std::filesystem::path(name).parent_path().string()};
  open_files_.emplace_back(CanonicalPath(name), source.name);
  ApplyRoot(source, text, overrides);
}

void Loader::ApplyRoot(const Source& source, const std::string& text,
                       std::span<const std::string> overrides) {
  for (const std::string& override : overrides) ParseOverride(override);
  if (const auto root = Parse(source, text, "")) {
    if (root->is_null() || root->is_mapping()) {  // an empty file has no keys
      ApplyMapping(source, *root, config_, "", true);
    } else {
      report_->Add(source.PlaceOf(*root), "",
                   absl::StrCat("expected keys and values, found ", KindText(*root)));
      report_->SetIncomplete();
    }
  }
  // Includes of sections that the file does not mention.
  while (!include_overrides_.empty()) {
    const auto include = include_overrides_.extract(include_overrides_.begin());
    Message* message = config_;
    if (!include.key().empty()) {
      for (const std::string& part : SplitPath(include.key())) {
        message =
            message->GetReflection()->MutableMessage(message, FindField(message->GetDescriptor(), part));
      }
    }
    ApplyIncludes(include.mapped().source, *include.mapped().value, message, include.key());
  }
  for (const Override& override : overrides_) ApplyOverride(override);
}

std::shared_ptr<const YamlNode> Loader::Parse(const Source& source, const std::string& text,
                                              const std::string& path) {
  YamlResult result = ParseYaml(text, &node_budget_);
  if (const auto* error = std::get_if<YamlError>(&result)) {
    report_->Add(source.PlaceAt(error->line, error->column), path, error->message);
    if (!source.is_override) report_->SetIncomplete();
    return nullptr;
  }
  return std::get<std::shared_ptr<const YamlNode>>(std::move(result));
}

void Loader::ApplyMapping(const Source& source, const YamlNode& node, Message* message,
                          const std::string& path, bool in_root_file) {
  const auto over = in_root_file ? include_overrides_.find(path) : include_overrides_.end();
  const bool is_overridden = over != include_overrides_.end();
  if (is_overridden) {
    const Include include = std::move(over->second);
    include_overrides_.erase(over);
    ApplyIncludes(include.source, *include.value, message, path);
  }
  std::map<std::string, std::string> seen;     // full name of a field to the place of its key
  for (const bool includes : {true, false}) {  // what is included comes first, wherever it stands
    for (size_t i = 0; i < node.children.size(); i += 2) {
      const YamlNode &key_node = *node.children[i], &value = *node.children[i + 1];
      std::string key;
      const bool is_text = KeyText(key_node, &key);
      const FieldDescriptor* field = is_text ? FindField(message->GetDescriptor(), key) : nullptr;
      const bool is_include = field == nullptr && key == kInclude;
      if (is_include != includes) continue;
      const std::string place = source.PlaceOf(key_node);
      if (!is_text) {
        report_->Add(place, path, absl::StrCat("a key is a word, found ", KindText(key_node)));
        continue;
      }
      if (field == nullptr && leave_out_unknown_sections_ && path.empty() && value.is_mapping()) continue;
      if (field == nullptr && !is_include) {
        UnknownKey(place, message->GetDescriptor(), path, key);
        continue;
      }
      const std::string name = JoinPath(path, is_include ? key : KeyOf(field));
      const auto [first, is_new] = seen.emplace(is_include ? key : field->full_name(), place);
      if (!is_new) {
        report_->Add(place, name, absl::StrCat("duplicate key, first given at ", first->second));
      } else if (value.is_null()) {
        report_->Add(place, name, "has no value; give one or leave the key out");
      } else if (!is_include) {
        ApplyField(source, value, message, field, name, in_root_file);
      } else if (source.is_override) {
        report_->Add(place, name, absl::StrCat("cannot stand in a value; use the override ", name, "=PATH"));
      } else if (!is_overridden) {
        ApplyIncludes(source, value, message, path);
      }
    }
  }
}

void Loader::ApplyIncludes(const Source& source, const YamlNode& value, Message* message,
                           const std::string& path) {
  if (!value.is_sequence()) return ApplyIncludedFile(source, value, message, path);
  for (const auto& element : value.children) ApplyIncludedFile(source, *element, message, path);
}

void Loader::ApplyIncludedFile(const Source& source, const YamlNode& value, Message* message,
                               const std::string& path) {
  const std::string key = JoinPath(path, "include"), place = source.PlaceOf(value);
  const auto refuse = [&](std::string problem) {
    report_->Add(place, key, problem);
    report_->SetIncomplete();
  };
  if (!value.is_scalar() || value.scalar.empty()) {
    return refuse(absl::StrCat("expected the path of a YAML file, found ",
                               value.is_scalar() ? "an empty string" : KindText(value)));
  }
  const std::filesystem::path written(value.scalar);
  const std::string file =
      (written.is_absolute() ? written : std::filesystem::path(source.directory) / written)
          .lexically_normal()
          .string();
  const std::string name = Printable(file, kMaxNameBytes), canonical = CanonicalPath(file);
  for (const auto& [open, open_name] : open_files_) {
    if (open == canonical) return refuse(absl::StrCat(Printable(file), " includes itself"));
  }
  if (open_files_.size() >= kMaxOpenFiles) {
    return refuse(absl::StrCat("files include each other more than ", kMaxOpenFiles, " deep"));
  }
  if (++files_ > kMaxFiles) return refuse(absl::StrCat("more than ", kMaxFiles, " files are included"));
  std::string text;
  if (std::string problem = ReadSmallFile(file, kMaxYamlBytes, &text); !problem.empty()) {
    return refuse(absl::StrCat(Printable(file), " ", problem));
  }
  const Source included{name, std::filesystem::path(file).parent_path().string()};
  const auto root = Parse(included, text, "");
  if (root == nullptr || root->is_null()) return;
  if (!root->is_mapping()) {
    report_->Add(included.PlaceOf(*root), "",
                 absl::StrCat("expected keys and values, found ", KindText(*root)));
    return report_->SetIncomplete();
  }
  open_files_.emplace_back(canonical, name);
  ApplyMapping(included, *root, message, path, false);
  open_files_.pop_back();
}

void Loader::ApplyField(const Source& source, const YamlNode& node, Message* message,
                        const FieldDescriptor* field, const std::string& path, bool in_root_file) {
  if (!IsSupported(field)) {
    report_->Add(source.PlaceOf(node), path, "has a type that YAML cannot set");
  } else if (field->is_repeated()) {
    ApplyList(source, node, message, field, path);
  } else {
    ApplyValue(source, node, message, field, -1, path, in_root_file);
  }
}

void Loader::ApplyList(const Source& source, const YamlNode& node, Message* message,
                       const FieldDescriptor* field, const std::string& path) {
  if (!node.is_sequence()) {
    return report_->Add(source.PlaceOf(node), path, absl::StrCat("expected a list, found ", KindText(node)));
  }
  report_->SetPlace(path, source.PlaceOf(node));
  message->GetReflection()->ClearField(message, field);
  for (size_t i = 0; i < node.children.size(); ++i) {
    const int size = message->GetReflection()->FieldSize(*message, field);
    ApplyValue(source, *node.children[i], message, field, size, absl::StrCat(path, ".", i), false);
  }
}

void Loader::ApplyValue(const Source& source, const YamlNode& node, Message* message,
                        const FieldDescriptor* field, int index, const std::string& path, bool in_root_file) {
  const bool is_section = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  const std::string place = source.PlaceOf(node);
  if (is_section ? !node.is_mapping() : !node.is_scalar()) {
    return report_->Add(place, path,
                        absl::StrCat("expected ", ExpectedText(field), ", found ", KindText(node)));
  }
  report_->SetPlace(path, place);
  if (is_section) {
    const Reflection* reflection = message->GetReflection();
    Message* section = nullptr;
    if (index < 0) {
      section = reflection->MutableMessage(message, field);
    } else if (index == reflection->FieldSize(*message, field)) {
      section = reflection->AddMessage(message, field);
    } else {
      section = reflection->MutableRepeatedMessage(message, field, index);
    }
    ApplyMapping(source, node, section, path, in_root_file);
  } else if (std::string problem = SetFieldFromScalar(node, message, field, index); !problem.empty()) {
    report_->Add(place, path, problem);
  }
}

void Loader::UnknownKey(const std::string& place, const google::protobuf::Descriptor* message,
                        const std::string& section, std::string_view key) {
  const std::string path = JoinPath(section, Printable(key));
  if (key == "<<") return report_->Add(place, path, "merge keys are not supported; use include");
  const std::string suggestion = SuggestKey(config_->GetDescriptor(), section, key);
  // Nothing is near: a short section can say what it knows.
  std::vector<std::string> known;
  for (const FieldDescriptor* field : FieldsOf(message)) known.push_back(KeyOf(field));
  const bool list = suggestion.empty() && known.size() <= 8;
  report_->Add(
      place, path,
      absl::StrCat("unknown key", suggestion, list ? "; known here: " : "", list ? JoinWithOr(known) : ""));
}

void Loader::ParseOverride(const std::string& text) {
  Override override;
  override.source = Source{absl::StrCat("override '", Printable(text, 60), "'"), "", true};
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return report_->Add(override.source.name, "",
                        "expected key=value, for example optimizer.learning_rate=3e-4");
  }
  override.path = text.substr(0, equals);
  override.value = Parse(override.source, text.substr(equals + 1), Printable(override.path));
  if (override.value == nullptr) return;
  if (override.value->is_null()) {
    return report_->Add(override.source.name, Printable(override.path),
                        "has no value; write '' for an empty string");
  }
  if (override.path == kInclude || absl::EndsWith(override.path, ".include")) {
    const std::string section =
        override.path.substr(0, override.path.size() - std::min(override.path.size(), kInclude.size() + 1));
    Include include{override.source, override.value};
    if (CheckIncludeSection(include, section)) include_overrides_[section] = std::move(include);
    return;
  }
  overrides_.push_back(std::move(override));
}

bool Loader::CheckIncludeSection(const Include& include, std::string_view section) {
  if (section.empty()) return true;
  const google::protobuf::Descriptor* message = config_->GetDescriptor();
  std::string path;
  for (const std::string& part : SplitPath(section)) {
    const FieldDescriptor* field = FindField(message, part);
    if (field == nullptr) {
      UnknownKey(include.source.name, message, path, part);
      return false;
    }
    path = JoinPath(path, KeyOf(field));
    if (field->is_repeated() || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
        !IsSupported(field)) {
      report_->Add(include.source.name, path, "is not a section, so nothing can be included in it");
      return false;
    }
    message = field->message_type();
  }
  return true;
}

void Loader::ApplyOverride(const Override& override) {
  const std::string& place = override.source.name;
  const std::vector<std::string> parts = SplitPath(override.path);
  Message* message = config_;
  std::string path;
  for (size_t i = 0; i < parts.size(); ++i) {
    const FieldDescriptor* field = FindField(message->GetDescriptor(), parts[i]);
    if (field == nullptr) return UnknownKey(place, message->GetDescriptor(), path, parts[i]);
    path = JoinPath(path, KeyOf(field));
    const bool is_section = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    const bool is_last = i + 1 == parts.size();
    if (is_last || !IsSupported(field)) {
      return ApplyField(override.source, *override.value, message, field, path, false);
    }
    if (!field->is_repeated()) {
      if (!is_section) return report_->Add(place, path, "is not a section");
      message = message->GetReflection()->MutableMessage(message, field);
      continue;
    }
    const std::string& index_text = parts[++i];
    const int size = message->GetReflection()->FieldSize(*message, field);
    int index = 0;
    if (!ParseIndex(index_text, &index) || index > size) {
      return report_->Add(place, path,
                          absl::StrCat("has ", size, " elements; ", Printable(index_text),
                                       " is not an index from 0 to ", size, " (", size, " appends)"));
    }
    absl::StrAppend(&path, ".", index);
    if (i + 1 == parts.size()) {
      return ApplyValue(override.source, *override.value, message, field, index, path, false);
    }
    if (!is_section) return report_->Add(place, path, "is not a section");
    const Reflection* reflection = message->GetReflection();
    if (index == size) report_->SetPlace(path, place);
    message = index == size ? reflection->AddMessage(message, field)
                            : reflection->MutableRepeatedMessage(message, field, index);
  }
}

}  // namespace tanren::config
