// The inner half of LoadConfig: YAML trees and overrides into a message, types and ranges checked.
#ifndef TANREN_CORE_CONFIG_LOADER_H_
#define TANREN_CORE_CONFIG_LOADER_H_

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/config/error_report.h"
#include "core/config/yaml_tree.h"
#include "google/protobuf/message.h"

namespace tanren::config {

// Where nodes come from: a file, or one override.
struct Source {
  std::string name;       // as places show it, safe to print
  std::string directory;  // where relative includes start
  bool is_override = false;

  std::string PlaceAt(int line, int column) const;
  std::string PlaceOf(const YamlNode& node) const { return PlaceAt(node.line, node.column); }
};

// Fills one message. Everything wrong goes to the report; what is right is set, so that all is found at once.
class Loader {
 public:
  // Both must outlive the loader.
  Loader(google::protobuf::Message* config, ErrorReport* report) : config_(config), report_(report) {}

  // A file or text first (once), with the overrides that will follow, for their includes stand in the file.
  void ReadFile(const std::string& path, std::span<const std::string> overrides);
  void ReadText(const std::string& text, const std::string& name, std::span<const std::string> overrides);

  // Unknown sections at the top of what is read are passed over, instead of being errors.
  void LeaveOutUnknownSections() { leave_out_unknown_sections_ = true; }

 private:
  using Message = google::protobuf::Message;
  using FieldDescriptor = google::protobuf::FieldDescriptor;

  struct Override {
    Source source;
    std::string path;  // dotted
    std::shared_ptr<const YamlNode> value;
  };
  struct Include {
    Source source;
    std::shared_ptr<const YamlNode> value;
  };

  void ApplyRoot(const Source& source, const std::string& text, std::span<const std::string> overrides);
  void ParseOverride(const std::string& text);
  void ApplyOverride(const Override& override);
  bool CheckIncludeSection(const Include& include, std::string_view section);

  // `in_root_file`: the mapping stands in the file that the user named, where include overrides apply.
  void ApplyMapping(const Source& source, const YamlNode& node, Message* message, const std::string& path,
                    bool in_root_file);
  void ApplyIncludes(const Source& source, const YamlNode& value, Message* message, const std::string& path);
  void ApplyIncludedFile(const Source& source, const YamlNode& value, Message* message,
                         const std::string& path);
  void ApplyField(const Source& source, const YamlNode& node, Message* message, const FieldDescriptor* field,
                  const std::string& path, bool in_root_file);
  void ApplyList(const Source& source, const YamlNode& node, Message* message, const FieldDescriptor* field,
                 const std::string& path);
  // Sets a singular field, or element `index` of a list (one past the last appends).
  void ApplyValue(const Source& source, const YamlNode& node, Message* message, const FieldDescriptor* field,
                  int index, const std::string& path, bool in_root_file);
  void UnknownKey(const std::string& place, const google::protobuf::Descriptor* message,
                  const std::string& section, std::string_view key);
  // Null after an error was reported.
  std::shared_ptr<const YamlNode> Parse(const Source& source, const std::string& text,
                                        const std::string& path);

  Message* config_;
  ErrorReport* report_;
  bool leave_out_unknown_sections_ = false;
  int64_t node_budget_ = kMaxYamlNodes;
  int files_ = 0;
  std::vector<std::pair<std::string, std::string>> open_files_;  // canonical path and name, outermost first
  std::map<std::string, Include> include_overrides_;             // by section
  std::vector<Override> overrides_;
};

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_LOADER_H_
