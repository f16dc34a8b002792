#include "core/config/error_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"

namespace tanren::config {
namespace {

// Removes the last part of a dotted path; false at the top.
bool ToParent(std::string_view* path) {
  if (path->empty()) return false;
  const size_t dot = path->rfind('.');
  *path = dot == path->npos ? std::string_view() : path->substr(0, dot);
  return true;
}

}  // namespace

void ErrorReport::Add(std::string_view place, const std::string& path, std::string_view message) {
  if (lines_.size() >= kMaxErrors) {
    ++dropped_;
    return;
  }
  std::string line(place);
  if (!line.empty()) line += ": ";
  if (!path.empty()) absl::StrAppend(&line, path, ": ");
  lines_.push_back(absl::StrCat(line, View(message)));
  broken_.insert(path);
}

void ErrorReport::AddRule(std::initializer_list<std::string_view> paths, std::string_view message) {
  if (incomplete_) return;
  if (std::any_of(paths.begin(), paths.end(), [&](std::string_view path) { return IsBroken(path); })) return;
  if (lines_.size() >= kMaxErrors) {
    ++dropped_;
    return;
  }
  const std::string place = PlaceOf(paths);
  lines_.push_back(absl::StrCat(place, place.empty() ? "" : ": ", View(*paths.begin()), ": ", View(message)));
}

absl::Status ErrorReport::ToStatus() const {
  if (lines_.empty()) return absl::OkStatus();
  std::string text = absl::StrJoin(lines_, "\n");
  if (dropped_ > 0) absl::StrAppend(&text, "\n... and ", dropped_, " more errors");
  return absl::InvalidArgumentError(text);
}

bool ErrorReport::IsBroken(std::string_view path) const {
  do {
    if (broken_.find(path) != broken_.end()) return true;
  } while (ToParent(&path) && !path.empty());
  return false;
}

std::string ErrorReport::PlaceOf(std::initializer_list<std::string_view> paths) const {
  for (std::string_view path : paths) {
    if (const auto place = places_.find(path); place != places_.end()) return place->second;
  }
  // None was written: the innermost section that was, for example the list element that lacks its path.
  for (std::string_view path = *paths.begin(); ToParent(&path) && !path.empty();) {
    if (const auto place = places_.find(path); place != places_.end()) return place->second;
  }
  return default_place_;
}

}  // namespace tanren::config
