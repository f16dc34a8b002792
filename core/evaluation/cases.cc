#include "core/evaluation/cases.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/corpus/input_stream.h"
#include "core/examples/read_examples.h"
#include "core/reward/checker.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

constexpr std::string_view kWorkedAnswerMark = "####";

absl::StatusOr<std::vector<Message>> MessagesOf(const OrderedJson& value) {
  std::vector<Message> messages;
  if (!value.is_array()) return InvalidInput("field \"messages\" is no list");
  for (const OrderedJson& element : value) {
    if (!element.is_object()) return InvalidInput("field \"messages\" holds %s", element.type_name());
    TANREN_ASSIGN_OR_RETURN(const std::string role, TextField(element, "role"));
    Message message;
    if (role == "system") {
      message.role = MessageRole::kSystem;
    } else if (role == "assistant") {
      message.role = MessageRole::kAssistant;
    } else if (role != "user") {
      return InvalidInput("role %s is none of system, user, assistant", Quoted(role));
    }
    TANREN_ASSIGN_OR_RETURN(message.content, TextField(element, "content"));
    messages.push_back(std::move(message));
  }
  if (messages.empty() || messages.back().role != MessageRole::kUser) {
    return InvalidInput("field \"messages\" does not end with the user's; its last message is the question");
  }
  return messages;
}

absl::Status ReadTurns(const OrderedJson& value, EvaluationCase* out) {
  if (!value.is_array() || value.empty() || value.size() > static_cast<size_t>(kMaxTurns)) {
    return InvalidInput("field \"turns\" is no list of 1 to %d turns", kMaxTurns);
  }
  for (size_t t = 0; t < value.size(); ++t) {
    if (!value[t].is_object())
      return InvalidInput("turn %d is %s, not an object", t + 1, value[t].type_name());
    CaseTurn turn;
    absl::StatusOr<std::string> user = TextField(value[t], "user");
    if (!user.ok()) return At(absl::StrCat("turn ", t + 1), user.status());
    turn.user = *std::move(user);
    if (value[t].contains("answer")) {
      absl::StatusOr<std::string> answer = TextField(value[t], "answer");
      if (!answer.ok()) return At(absl::StrCat("turn ", t + 1), answer.status());
      turn.answer = *std::move(answer);
    }
    out->turns.push_back(std::move(turn));
  }
  return absl::OkStatus();
}

// Records of published sets that hold a question in other fields: preferences (the conversation before the
// answers) and choices (lines of the question, as in training).
bool IsPublished(const OrderedJson& fields) {
  if (fields.contains("prompt") || fields.contains("messages")) return false;
  return (fields.contains("chosen") && fields.contains("rejected")) ||
         (fields.contains("choice0") && fields.contains("label"));
}

absl::Status ReadPublished(std::string_view line, EvaluationCase* out) {
  TANREN_ASSIGN_OR_RETURN(Example example, ParseExample(line, std::nullopt));
  if (example.prompt.empty() || example.prompt.back().role != MessageRole::kUser) {
    return InvalidInput("what stands before the answers does not end with the user's message");
  }
  CaseTurn turn;
  turn.user = std::move(example.prompt.back().content);
  example.prompt.pop_back();
  out->before = std::move(example.prompt);
  if (!example.answer.empty()) turn.answer = std::move(example.answer);
  out->turns.push_back(std::move(turn));
  return absl::OkStatus();
}

// GSM8K's answers are worked: what is compared stands behind the last "####".
absl::StatusOr<std::string> Comparable(std::string answer) {
  if (answer.rfind(kWorkedAnswerMark) == std::string::npos) return answer;
  std::string last = ExtractAnswer(answer, kWorkedAnswerMark);
  if (last.empty())
    return InvalidInput("field \"answer\": nothing stands behind its last %s",
                        std::string(kWorkedAnswerMark));
  return last;
}

// The question of a case that is no scenario. Without one the prompt's pattern must find its fields.
absl::Status ReadQuestion(EvaluationCase* out) {
  CaseTurn turn;
  if (out->fields.contains("messages")) {
    TANREN_ASSIGN_OR_RETURN(out->before, MessagesOf(out->fields["messages"]));
    turn.user = std::move(out->before.back().content);
    out->before.pop_back();
  } else if (out->fields.contains("prompt") || out->fields.contains("question")) {
    TANREN_ASSIGN_OR_RETURN(turn.user,
                            TextField(out->fields, out->fields.contains("prompt") ? "prompt" : "question"));
  }
  if (out->fields.contains("answer")) {
    TANREN_ASSIGN_OR_RETURN(std::string answer, TextField(out->fields, "answer"));
    TANREN_ASSIGN_OR_RETURN(turn.answer, Comparable(std::move(answer)));
  }
  out->turns.push_back(std::move(turn));
  return absl::OkStatus();
}

absl::Status ReadHarmful(EvaluationCase* out) {
  const auto found = out->fields.find("harmful");
  if (found == out->fields.end()) return absl::OkStatus();
  const bool texts =
      found->is_array() && std::all_of(found->begin(), found->end(), [](const OrderedJson& one) {
        return one.is_string() && !one.get_ref<const std::string&>().empty();
      });
  if (!texts || found->empty()) return InvalidInput("field \"harmful\" is no list of patterns");
  for (const OrderedJson& element : *found) {
    std::string pattern = element.get<std::string>();
    absl::Status valid = ValidatePattern(pattern);
    if (valid.ok()) valid = ValidatePattern(HarmPattern(pattern));
    if (!valid.ok()) return At(absl::StrCat("field \"harmful\": ", Quoted(pattern)), valid);
    out->harmful.push_back(std::move(pattern));
  }
  return absl::OkStatus();
}

absl::StatusOr<EvaluationCase> ParseCase(std::string_view line, const CaseOptions& options) {
  EvaluationCase out;
  TANREN_ASSIGN_OR_RETURN(out.fields, ParseRecord(line));
  if (out.scenario()) {
    TANREN_RETURN_IF_ERROR(ReadTurns(out.fields["turns"], &out));
  } else if (IsPublished(out.fields)) {
    TANREN_RETURN_IF_ERROR(ReadPublished(line, &out));
  } else {
    TANREN_RETURN_IF_ERROR(ReadQuestion(&out));
  }
  TANREN_RETURN_IF_ERROR(ReadHarmful(&out));
  for (auto [name, text] : {std::pair("kind", &out.kind), std::pair("difficulty", &out.difficulty)}) {
    if (!out.fields.contains(name)) continue;
    TANREN_ASSIGN_OR_RETURN(*text, TextField(out.fields, name));
  }
  if (options.answers_required && !out.checked() && out.harmful.empty()) {
    return InvalidInput(out.scenario() ? "no turn has an \"answer\""
                                       : "there is no field \"answer\"; give one, or set checker: none");
  }
  return out;
}

}  // namespace

absl::StatusOr<OrderedJson> ParseRecord(std::string_view line) {
  // Not nested deeper than a record needs: the parser and the destructor of a document recurse.
  const auto shallow = [](int depth, OrderedJson::parse_event_t, OrderedJson&) { return depth <= 16; };
  OrderedJson record = OrderedJson::parse(line, shallow, /*allow_exceptions=*/false);
  if (!record.is_object()) return InvalidInput("not a JSON object");
  return record;
}

absl::StatusOr<std::string> TextField(const OrderedJson& fields, const std::string& name) {
  const auto found = fields.find(name);
  if (found == fields.end()) return InvalidInput("there is no field \"%s\"", name);
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number()) return found->dump();
  return InvalidInput("field \"%s\" is neither a string nor a number", name);
}

std::string HarmPattern(const std::string& pattern) { return absl::StrCat("(?s).*(?:", pattern, ").*"); }

bool EvaluationCase::checked() const {
  return std::ranges::any_of(turns, [](const CaseTurn& turn) { return turn.answer.has_value(); });
}

absl::StatusOr<std::vector<EvaluationCase>> ReadCases(const std::string& path, const CaseOptions& options) {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(path));
  LineReader lines(std::move(stream), kLineLimitBytes);
  LineReader::Line line;
  std::vector<EvaluationCase> cases;
  while (options.limit == 0 || static_cast<int64_t>(cases.size()) < options.limit) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    const std::string place = absl::StrCat(path, ":", line.number);
    if (line.too_long) return InvalidInput("%s: a line of more than %d bytes", place, kLineLimitBytes);
    if (line.text.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    if (cases.size() == static_cast<size_t>(kMaxCases))
      return InvalidInput("%s: more than %d cases; set a limit", place, kMaxCases);
    absl::StatusOr<EvaluationCase> parsed = ParseCase(line.text, options);
    if (!parsed.ok()) return At(place, parsed.status());
    parsed->index = static_cast<int64_t>(cases.size());
    parsed->place = place;
    cases.push_back(*std::move(parsed));
  }
  if (cases.empty()) return InvalidInput("%s has no case", path);
  return cases;
}

}  // namespace tanren
