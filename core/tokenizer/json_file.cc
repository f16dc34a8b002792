#include "core/tokenizer/json_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

using nlohmann::json;

struct Refused {
  std::string reason;
};

std::string Place(std::string_view text, const std::string& path, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return absl::StrCat(path, ":", 1 + std::count(before.begin(), before.end(), '\n'), ":",
                      1 + before.size() - line_start);
}

// The library keeps the last of two equal keys and sets no limits; this callback refuses instead.
class Guard {
 public:
  explicit Guard(const JsonLimits& limits) : limits_(limits) {}

  bool operator()(int depth, json::parse_event_t event, json& value) {
    if (depth > limits_.depth) throw Refused{absl::StrCat("nested deeper than ", limits_.depth, " levels")};
    if (event == json::parse_event_t::object_start) keys_.emplace_back();
    if (event == json::parse_event_t::object_end) keys_.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second)
        throw Refused{absl::StrCat("the key ", Quoted(key), " appears twice")};
    }
    if (++values_ > limits_.values) throw Refused{absl::StrCat("more than ", limits_.values, " values")};
    return true;
  }

 private:
  JsonLimits limits_;
  std::vector<absl::flat_hash_set<std::string>> keys_;
  int64_t values_ = 0;
};

}  // namespace

absl::StatusOr<json> ParseJson(std::string_view text, const std::string& path, const JsonLimits& limits) {
  try {
    Guard guard(limits);
    return json::parse(text.begin(), text.end(), [&guard](int depth, json::parse_event_t event, json& value) {
      return guard(depth, event, value);
    });
  } catch (const Refused& refused) {
    return InvalidInput("%s: %s", path, refused.reason);
  } catch (const json::parse_error& error) {
    // The library's text starts with its own error code and place; ours is the place.
    std::string what = error.what();
    const size_t colon = what.find(": ");
    if (colon != std::string::npos) what.erase(0, colon + 2);
    return InvalidInput("%s: not JSON: %s", Place(text, path, error.byte == 0 ? 0 : error.byte - 1),
                        absl::Utf8SafeCEscape(what.substr(0, 200)));
  } catch (const json::exception& error) {
    return InvalidInput("%s: not JSON: %s", path, absl::Utf8SafeCEscape(error.what()));
  }
}

absl::StatusOr<json> ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, limits.file_bytes));
  return ParseJson(text, path, limits);
}

}  // namespace tanren
