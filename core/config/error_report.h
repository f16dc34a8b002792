// All that is wrong with a config, gathered before anything is said.
#ifndef TANREN_CORE_CONFIG_ERROR_REPORT_H_
#define TANREN_CORE_CONFIG_ERROR_REPORT_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tanren::config {

// Paths are dotted keys (model.heads, data.train.0.path). Places are where a person wrote them
// (run.yaml:14:3, override 'model.heads=3').
class ErrorReport {
 public:
  static constexpr size_t kMaxErrors = 100;  // more are counted, not kept

  // `default_place`: named when an error concerns something that was nowhere written; may be empty.
  explicit ErrorReport(std::string default_place) : default_place_(std::move(default_place)) {}

  // The value of `path` was last set at `place`.
  void SetPlace(const std::string& path, std::string place) { places_[path] = std::move(place); }

  // "place: path: message"; `path` and what lies below it count as broken from now on.
  void Add(std::string_view place, const std::string& path, std::string_view message);

  // The same for a rule between several values. The message starts with the first path and is placed where
  // the first of them was set. Says nothing when one of them is already broken: it would only be an echo.
  void AddRule(std::initializer_list<std::string_view> paths, std::string_view message);

  // A file could not be read at all, so what it might have set is unknown: rules are no longer reported.
  void SetIncomplete() { incomplete_ = true; }

  // Where the first of the paths that was set was set last, or the default place.
  std::string PlaceOf(std::initializer_list<std::string_view> paths) const;

  // OK, or InvalidArgument with one error per line.
  absl::Status ToStatus() const;

 private:
  bool IsBroken(std::string_view path) const;

  std::string default_place_;
  std::vector<std::string> lines_;
  int64_t dropped_ = 0;
  bool incomplete_ = false;
  std::set<std::string, std::less<>> broken_;
  std::map<std::string, std::string, std::less<>> places_;
};

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_ERROR_REPORT_H_
