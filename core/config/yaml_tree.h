// YAML text as a tree of nodes that know their line and column, within limits that hostile text cannot pass.
#ifndef TANREN_CORE_CONFIG_YAML_TREE_H_
#define TANREN_CORE_CONFIG_YAML_TREE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tanren::config {

inline constexpr size_t kMaxYamlBytes = 1 << 20;
inline constexpr int kMaxYamlDepth = 64;
inline constexpr int64_t kMaxYamlNodes = 50'000;  // with every alias counted at its full size

struct YamlNode {
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMapping };

  Kind kind = Kind::kNull;
  bool quoted = false;    // a scalar in quotes or a block scalar: never a number or a boolean
  uint8_t depth = 1;      // levels of this subtree
  int line = 1;           // from 1
  int column = 1;         // from 1, in bytes
  int64_t tree_size = 1;  // nodes of this subtree, aliases expanded
  std::string scalar;
  std::vector<std::shared_ptr<const YamlNode>> children;  // of a mapping: key, value, key, value, ...

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_mapping() const { return kind == Kind::kMapping; }
};

struct YamlError {
  int line = 1;
  int column = 1;
  std::string message;  // safe to print
};

using YamlResult = std::variant<std::shared_ptr<const YamlNode>, YamlError>;

// Parses one document. Keys keep their order and duplicates stay, for the caller to judge; aliases share the
// node of their anchor. Refused: more than kMaxYamlBytes, text that is not UTF-8, control characters, depth
// above kMaxYamlDepth, tags, a second document, and more nodes than *node_budget, which is counted down.
// Empty text is a null node.
YamlResult ParseYaml(std::string_view text, int64_t* node_budget);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_YAML_TREE_H_
