#include "launch/sample_groups.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "core/base/status.h"
#include "core/corpus/input_stream.h"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;


// A list of texts; null without the field.
absl::StatusOr<const Json*> TextsField(const Json& record, const char* name) {
  const auto found = record.find(name);
  if (found == record.end() || found->is_null()) return nullptr;
  if (!found->is_array())
    return InvalidInput("the field \"%s\" is no list; it must be a list of texts", name);
  for (const Json& item : *found) {
    if (!item.is_string()) return InvalidInput("\"%s\" holds %s; it must hold texts", name, item.type_name());
  }
  return &*found;
}

bool IsUsable(const std::string& response) {
  return response.find_first_not_of(" \t\r\n") != std::string::npos &&
         response.find('\0') == std::string::npos;
}

void AddResponses(const Json& responses, const Json* models, SampleGroup* group, SampleCounts* counts) {
  for (size_t i = 0; i < responses.size(); ++i) {
    const auto& text = responses[i].get_ref<const std::string&>();
    if (!IsUsable(text)) {
      ++counts->unusable;
      continue;
    }
    const auto same = std::find(group->responses.begin(), group->responses.end(), text);
    if (same != group->responses.end()) {
      ++counts->duplicates;
      if (models != nullptr) {
        group->models[static_cast<size_t>(same - group->responses.begin())] +=
            ", " + (*models)[i].get_ref<const std::string&>();
      }
      continue;
    }
    group->responses.push_back(text);
    if (models != nullptr) group->models.push_back((*models)[i].get<std::string>());
  }
}

absl::StatusOr<SampleGroup> ParseGroup(std::string_view line, SampleCounts* counts) {
  // Not nested deeper than a record needs: the parser and the destructor of a document recurse.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth <= 16; };
  const Json record = Json::parse(line, shallow, /*allow_exceptions=*/false);
  if (!record.is_object()) return InvalidInput("not a JSON object");
  SampleGroup group;
  const auto prompt = record.find("prompt");
  if (prompt == record.end()) return InvalidInput("the field \"prompt\" is missing");
  if (!prompt->is_string())
    return InvalidInput("the field \"prompt\" is %s; it must be a text", prompt->type_name());
  group.prompt = prompt->get<std::string>();
  if (group.prompt.find('\0') != std::string::npos) return InvalidInput("the field \"prompt\" holds a NUL");
  TANREN_ASSIGN_OR_RETURN(const Json* responses, TextsField(record, "responses"));
  if (responses == nullptr) {
    return InvalidInput("the field \"responses\" is missing; `tanren eval --samples N --out FILE` writes it");
  }
  TANREN_ASSIGN_OR_RETURN(const Json* models, TextsField(record, "models"));
  if (models != nullptr && models->size() != responses->size()) {
    return InvalidInput("\"models\" names %d writers of %d responses", models->size(), responses->size());
  }
  AddResponses(*responses, models, &group, counts);
  for (const auto& [name, field] :
       {std::pair{"answer", &group.answer}, {"kind", &group.kind}, {"difficulty", &group.difficulty}}) {
    if (const auto found = record.find(name); found != record.end()) *field = *found;
  }
  return group;
}

}  // namespace

absl::StatusOr<std::vector<SampleGroup>> ReadSampleGroups(const std::string& path, SampleCounts* counts) {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(path));
  LineReader lines(std::move(stream), kLineLimitBytes);
  LineReader::Line line;
  std::vector<SampleGroup> groups;
  while (true) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) return groups;
    const std::string place = absl::StrCat(path, ":", line.number);
    if (line.too_long) return InvalidInput("%s: a line of more than %d bytes", place, kLineLimitBytes);
    if (line.text.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    absl::StatusOr<SampleGroup> group = ParseGroup(line.text, counts);
    if (!group.ok()) return At(place, group.status());
    groups.push_back(*std::move(group));
  }
}

void AddGroupFields(const SampleGroup& group, Json* record) {
  if (!group.answer.is_null()) (*record)["answer"] = group.answer;
  if (!group.kind.is_null()) (*record)["kind"] = group.kind;
  if (!group.difficulty.is_null()) (*record)["difficulty"] = group.difficulty;
}

}  // namespace tanren
