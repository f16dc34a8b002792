// The settings of a config.json, read one by one: each is known, or it is reported. Internal to this folder.
#ifndef TANREN_CORE_HUGGING_FACE_SETTINGS_H_
#define TANREN_CORE_HUGGING_FACE_SETTINGS_H_

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tanren {

// Getters return the value, or the default where the key is absent or null; without a default both are
// errors. Errors are collected, with the key's place, and the getter returns the default or 0.
class Settings {
 public:
  // `object` outlives this. `place` is "config.json", `section` is "" or "rope_scaling.".
  Settings(const nlohmann::json& object, std::string place, std::string section);

  int64_t Integer(const std::string& key, std::optional<int64_t> absent = std::nullopt);
  double Number(const std::string& key, std::optional<double> absent = std::nullopt);
  bool Flag(const std::string& key, bool absent);
  std::string Text(const std::string& key, std::optional<std::string> absent = std::nullopt);
  // nullptr where the key is absent or null.
  const nlohmann::json* Value(const std::string& key);
  bool Has(const std::string& key) { return Value(key) != nullptr; }
  // Not even null.
  bool IsAbsent(const std::string& key) const;

  // Reports "PLACE: SECTION.KEY: VALUE REASON".
  void Refuse(const std::string& key, std::string_view reason);
  // The setting must be absent or `supported`; `reason` says what the other value would need.
  void Require(const std::string& key, bool supported, std::string_view reason);
  // Settings that do not change what the model computes.
  void Neutral(std::initializer_list<const char*> keys);

  // Keys of the object that nobody asked for, in its order.
  std::vector<std::string> Unknown() const;
  const std::vector<std::string>& errors() const { return errors_; }
  void AddErrors(const std::vector<std::string>& errors);

 private:
  std::string Shown(const std::string& key) const;

  const nlohmann::json& object_;
  std::string place_;
  std::string section_;
  std::set<std::string, std::less<>> known_;
  std::vector<std::string> errors_;
};

}  // namespace tanren

#endif  // TANREN_CORE_HUGGING_FACE_SETTINGS_H_
