// yaml-cpp reports events (its Node would lose duplicate keys and expand nothing we could count); the builder
// below turns them into our own tree and throws as soon as a limit is passed, long before yaml-cpp's
// recursion or memory could become a problem.
#include "core/config/yaml_tree.h"

#include <algorithm>
#include <exception>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/config/text.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/mark.h"
#include "yaml-cpp/parser.h"

namespace tanren::config {
namespace {

constexpr std::string_view kIndicators = "[]{},:?*&!\"'";
constexpr int64_t kMaxIndicators = 2 * kMaxYamlNodes;

std::string TooManyValues() {
  return absl::StrCat("too many values, aliases and included files counted in full (more than ",
                      kMaxYamlNodes, ")");
}

YamlError ErrorAt(const YAML::Mark& mark, std::string message) {
  return YamlError{std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1, std::move(message)};
}

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(int64_t* node_budget) : node_budget_(node_budget) {}

  std::shared_ptr<const YamlNode> root() const { return root_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw ErrorAt(mark, "a second YAML document; a config is one document");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Attach(NewNode(mark, YamlNode::Kind::kNull, "?", anchor));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    auto node = NewNode(mark, YamlNode::Kind::kScalar, tag, anchor);
    node->quoted = tag == "!";
    node->scalar = value;
    Attach(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (anchor >= anchors_.size() || anchors_[anchor] == nullptr) throw ErrorAt(mark, "unknown alias");
    const auto& node = anchors_[anchor];
    if (std::find(open_.begin(), open_.end(), node) != open_.end()) {
      throw ErrorAt(mark, "an alias to the value that contains it");
    }
    Spend(mark, node->tree_size);
    CheckDepth(mark, node->depth);
    Attach(node);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open_.push_back(NewNode(mark, YamlNode::Kind::kSequence, tag, anchor));
  }
  void OnSequenceEnd() override { Close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open_.push_back(NewNode(mark, YamlNode::Kind::kMapping, tag, anchor));
  }
  void OnMapEnd() override { Close(); }

 private:
  void Spend(const YAML::Mark& mark, int64_t nodes) {
    if (nodes > *node_budget_) throw ErrorAt(mark, TooManyValues());
    *node_budget_ -= nodes;
  }

  void CheckDepth(const YAML::Mark& mark, int levels) {
    if (static_cast<int>(open_.size()) + levels > kMaxYamlDepth) {
      throw ErrorAt(mark, absl::StrCat("nested more than ", kMaxYamlDepth, " levels deep"));
    }
  }

  std::shared_ptr<YamlNode> NewNode(const YAML::Mark& mark, YamlNode::Kind kind, const std::string& tag,
                                    YAML::anchor_t anchor) {
    // yaml-cpp names an absent tag "?" or "" and the tag of quoted scalars "!".
    if (tag != "?" && tag != "!" && !tag.empty()) {
      throw ErrorAt(mark,
                    absl::StrCat("tag ", Printable(tag), " is not supported; the schema gives each type"));
    }
    Spend(mark, 1);
    CheckDepth(mark, 1);
    auto node = std::make_shared<YamlNode>();
    node->kind = kind;
    node->line = mark.line + 1;
    node->column = mark.column + 1;
    if (anchor != YAML::NullAnchor) {
      if (anchor >= anchors_.size()) anchors_.resize(anchor + 1);
      anchors_[anchor] = node;
    }
    return node;
  }

  void Attach(std::shared_ptr<const YamlNode> node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    YamlNode& parent = *open_.back();
    parent.tree_size += node->tree_size;
    parent.depth = std::max<uint8_t>(parent.depth, node->depth + 1);
    parent.children.push_back(std::move(node));
  }

  void Close() {
    auto node = std::move(open_.back());
    open_.pop_back();
    Attach(std::move(node));
  }

  int64_t* node_budget_;
  int documents_ = 0;
  std::shared_ptr<const YamlNode> root_ = std::make_shared<YamlNode>();
  std::vector<std::shared_ptr<YamlNode>> open_;     // from the root to the innermost unfinished node
  std::vector<std::shared_ptr<YamlNode>> anchors_;  // by yaml-cpp's number
};

YamlError ErrorAtOffset(std::string_view text, size_t offset, std::string message) {
  const std::string_view before = text.substr(0, offset);
  const size_t line_start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
  return YamlError{static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1,
                   static_cast<int>(offset - line_start) + 1, std::move(message)};
}

}  // namespace

YamlResult ParseYaml(std::string_view text, int64_t* node_budget) {
  if (text.size() > kMaxYamlBytes) {
    return YamlError{1, 1, absl::StrCat("longer than ", kMaxYamlBytes, " bytes (", text.size(), ")")};
  }
  if (const size_t bad = FirstInvalidUtf8(text); bad != text.npos) {
    return ErrorAtOffset(text, bad, absl::StrCat("byte ", Printable(text.substr(bad, 1)), " is not UTF-8"));
  }
  int64_t indicators = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7F) {
      return ErrorAtOffset(text, i, absl::StrCat("control character ", Printable(text.substr(i, 1))));
    }
    indicators += kIndicators.find(text[i]) != kIndicators.npos;
    if (indicators > kMaxIndicators) return ErrorAtOffset(text, i, TooManyValues());
  }
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(node_budget);
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.root();
  } catch (const YamlError& error) {
    return error;
  } catch (const YAML::Exception& error) {
    return ErrorAt(error.mark, absl::StrCat("not valid YAML: ", Printable(error.msg)));
  } catch (const std::exception& error) {
    return YamlError{1, 1, absl::StrCat("not valid YAML: ", Printable(error.what()))};
  }
}

}  // namespace tanren::config
