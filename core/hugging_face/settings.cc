#include "core/hugging_face/settings.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"

namespace tanren {
namespace {

using nlohmann::json;

constexpr size_t kShownBytes = 80;

}  // namespace

Settings::Settings(const json& object, std::string place, std::string section)
    : object_(object), place_(std::move(place)), section_(std::move(section)) {}

const json* Settings::Value(const std::string& key) {
  known_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool Settings::IsAbsent(const std::string& key) const { return object_.find(key) == object_.end(); }

std::string Settings::Shown(const std::string& key) const {
  const auto found = object_.find(key);
  if (found == object_.end()) return "absent";
  return found->dump(-1, ' ', true).substr(0, kShownBytes);  // in ASCII, control characters escaped
}

void Settings::Refuse(const std::string& key, std::string_view reason) {
  errors_.push_back(absl::StrCat(place_, ": ", section_, key, ": ", Shown(key), " ", View(reason)));
}

int64_t Settings::Integer(const std::string& key, std::optional<int64_t> absent) {
  const json* value = Value(key);
  if (value == nullptr && absent.has_value()) return *absent;
  if (value == nullptr || !value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX})) {
    Refuse(key, "is not an integer, which is needed");
    return absent.value_or(0);
  }
  return value->get<int64_t>();
}

double Settings::Number(const std::string& key, std::optional<double> absent) {
  const json* value = Value(key);
  if (value == nullptr && absent.has_value()) return *absent;
  if (value == nullptr || !value->is_number()) {
    Refuse(key, "is not a number, which is needed");
    return absent.value_or(0);
  }
  return value->get<double>();
}

bool Settings::Flag(const std::string& key, bool absent) {
  const json* value = Value(key);
  if (value == nullptr) return absent;
  if (!value->is_boolean()) {
    Refuse(key, "is neither true nor false");
    return absent;
  }
  return value->get<bool>();
}

std::string Settings::Text(const std::string& key, std::optional<std::string> absent) {
  const json* value = Value(key);
  if (value == nullptr && absent.has_value()) return *absent;
  if (value == nullptr || !value->is_string()) {
    Refuse(key, "is not a string, which is needed");
    return absent.value_or("");
  }
  return value->get<std::string>();
}

void Settings::Require(const std::string& key, bool supported, std::string_view reason) {
  if (Flag(key, supported) != supported) Refuse(key, reason);
}

void Settings::Neutral(std::initializer_list<const char*> keys) { known_.insert(keys.begin(), keys.end()); }

std::vector<std::string> Settings::Unknown() const {
  std::vector<std::string> unknown;
  for (const auto& item : object_.items()) {
    if (known_.count(item.key()) == 0) unknown.push_back(Escaped(section_ + item.key()));
  }
  return unknown;
}

void Settings::AddErrors(const std::vector<std::string>& errors) {
  errors_.insert(errors_.end(), errors.begin(), errors.end());
}

}  // namespace tanren
