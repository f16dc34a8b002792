#include "launch/annotate_verb.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/corpus/input_stream.h"
#include "core/reward/judge.h"
#include "core/tokenizer/files.h"
#include "launch/text_verbs.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxLineBytes = int64_t{64} << 20;

struct Group {
  std::string prompt;
  std::string answer;
  std::vector<std::string> responses;  // distinct, in order
  Json kind, difficulty;               // as the line has them; null without
};

struct Counts {
  int64_t groups = 0;
  int64_t duplicates = 0;     // responses left out
  int64_t no_preference = 0;  // groups left out
  int64_t written = 0;
};

absl::Status TextField(const Json& record, const char* name, std::string* text) {
  const auto found = record.find(name);
  if (found == record.end()) return InvalidInput("the field \"%s\" is missing", name);
  if (!found->is_string())
    return InvalidInput("the field \"%s\" is %s; it must be a text", name, found->type_name());
  *text = found->get_ref<const std::string&>();
  return absl::OkStatus();
}

absl::StatusOr<Group> ParseGroup(std::string_view line, Counts* counts) {
  // Not nested deeper than a record needs: the parser and the destructor of a document recurse.
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth <= 16; };
  const Json record = Json::parse(line, shallow, /*allow_exceptions=*/false);
  if (!record.is_object()) return InvalidInput("not a JSON object");
  Group group;
  TANREN_RETURN_IF_ERROR(TextField(record, "prompt", &group.prompt));
  TANREN_RETURN_IF_ERROR(TextField(record, "answer", &group.answer));
  const auto responses = record.find("responses");
  if (responses == record.end() || !responses->is_array()) {
    return InvalidInput("the field \"responses\" %s; it must be a list of texts",
                        responses == record.end() ? "is missing" : "is no list");
  }
  for (const Json& response : *responses) {
    if (!response.is_string())
      return InvalidInput("\"responses\" holds %s; it must hold texts", response.type_name());
    const auto& text = response.get_ref<const std::string&>();
    if (std::find(group.responses.begin(), group.responses.end(), text) != group.responses.end()) {
      ++counts->duplicates;
    } else {
      group.responses.push_back(text);
    }
  }
  if (const auto kind = record.find("kind"); kind != record.end()) group.kind = *kind;
  if (const auto difficulty = record.find("difficulty"); difficulty != record.end())
    group.difficulty = *difficulty;
  return group;
}

// Adds the line of a group to *rankings, unless it prefers nothing.
void Rank(const Group& group, Counts* counts, std::string* rankings) {
  const std::vector<int32_t> ranks = JudgeArithmetic(group.prompt, group.answer, group.responses);
  ++counts->groups;
  if (std::all_of(ranks.begin(), ranks.end(), [&](int32_t rank) { return rank == ranks.front(); })) {
    ++counts->no_preference;
    return;
  }
  ++counts->written;
  Json record;
  record["prompt"] = group.prompt;
  record["responses"] = group.responses;
  record["ranking"] = ranks;
  record["answer"] = group.answer;
  if (!group.kind.is_null()) record["kind"] = group.kind;
  if (!group.difficulty.is_null()) record["difficulty"] = group.difficulty;
  absl::StrAppend(rankings, record.dump(-1, ' ', false, Json::error_handler_t::replace), "\n");
}

absl::StatusOr<std::string> RankAll(const std::string& path, Counts* counts) {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(path));
  LineReader lines(std::move(stream), kMaxLineBytes);
  LineReader::Line line;
  std::string rankings;
  while (true) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) return rankings;
    const std::string place = absl::StrCat(path, ":", line.number);
    if (line.too_long) return InvalidInput("%s: a line of more than %d bytes", place, kMaxLineBytes);
    if (line.text.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    auto group = ParseGroup(line.text, counts);
    if (!group.ok()) return At(place, group.status());
    Rank(*group, counts, &rankings);
  }
}

absl::Status AnnotateAll(const AnnotateOptions& options, Counts* counts) {
  if (options.judge != "arithmetic") {
    return InvalidInput("--judge %s: there is no such judge; use arithmetic", Quoted(options.judge));
  }
  struct stat info;
  if (!options.force && lstat(options.out.c_str(), &info) == 0) {
    return InvalidInput("%s is there already; give another --out, or --force to replace it", options.out);
  }
  TANREN_ASSIGN_OR_RETURN(const std::string rankings, RankAll(options.samples, counts));
  if (counts->written == 0) {
    return InvalidInput("%s: none of its %d groups prefers one response to another; nothing was written",
                        options.samples, counts->groups);
  }
  return WriteSmallFile(options.out, rankings);
}

}  // namespace

int Annotate(const AnnotateOptions& options) {
  Counts counts;
  if (const absl::Status status = AnnotateAll(options, &counts); !status.ok()) return WrongInput(status);
  std::printf(
      "%lld groups: %lld written to %s, %lld without a preference left out; %lld duplicate responses left "
      "out\n",
      static_cast<long long>(counts.groups), static_cast<long long>(counts.written), options.out.c_str(),
      static_cast<long long>(counts.no_preference), static_cast<long long>(counts.duplicates));
  return 0;
}

}  // namespace tanren
