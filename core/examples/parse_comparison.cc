// Preferences and rankings.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/base/status.h"
#include "core/examples/ranking_text.h"
#include "core/examples/record_fields.h"

namespace tanren {
namespace {

constexpr std::string_view kHuman = "\n\nHuman:";
constexpr std::string_view kAssistant = "\n\nAssistant:";

// One side of a preference: what is given, and the answer.
struct Side {
  std::vector<Message> prompt;
  std::string response;
};

absl::StatusOr<Side> SideOf(std::vector<Message> messages, const std::string& name) {
  if (messages.empty() || messages.back().role != MessageRole::kAssistant) {
    return InvalidInput("no answer: %s does not end with an assistant's message", name);
  }
  if (IsBlankText(messages.back().content)) {
    return InvalidInput("empty response: the last message of %s holds no text", name);
  }
  Side side;
  side.response = std::move(messages.back().content);
  messages.pop_back();
  side.prompt = std::move(messages);
  return side;
}

// Anthropic's HH: "\n\nHuman: ...\n\nAssistant: ..." to the end.
std::vector<Message> SplitHumanAssistant(std::string_view text) {
  std::vector<Message> messages;
  while (!text.empty()) {
    const bool human = text.starts_with(kHuman);
    text.remove_prefix(human ? kHuman.size() : kAssistant.size());
    if (text.starts_with(' ')) text.remove_prefix(1);
    const size_t end = std::min({text.find(kHuman), text.find(kAssistant), text.size()});
    messages.push_back(
        {human ? MessageRole::kUser : MessageRole::kAssistant, std::string(text.substr(0, end)), true});
    text.remove_prefix(end);
  }
  return messages;
}

absl::StatusOr<Side> ReadSide(const Json& record, const char* name, bool has_prompt) {
  const Json* value = Field(record, name);
  if (value == nullptr) return Missing(name);
  if (value->is_array()) {
    TANREN_ASSIGN_OR_RETURN(std::vector<Message> messages, MessagesOf(*value, name));
    return SideOf(std::move(messages), name);
  }
  if (!value->is_string()) return WrongType(name, "a text or a list of messages", *value);
  TANREN_ASSIGN_OR_RETURN(std::string text, ResponseOf(*value, name));
  if (!has_prompt && text.starts_with(kHuman)) return SideOf(SplitHumanAssistant(text), name);
  return Side{{}, std::move(text)};
}

absl::StatusOr<int32_t> RankOf(const Json& value, size_t responses) {
  if (!value.is_number()) return WrongType("ranking", "a list of numbers", value);
  const auto rank = value.get<double>();
  if (!(rank >= 1) || rank > static_cast<double>(responses) || rank != std::floor(rank)) {
    return InvalidInput("no ranking: %s is no rank of %d responses, which are 1 (the best) to %d",
                        value.dump(), responses, responses);
  }
  return static_cast<int32_t>(rank);
}

absl::StatusOr<std::vector<int32_t>> RanksOfList(const Json& ranking, size_t responses) {
  if (ranking.size() != responses) {
    return InvalidInput("no ranking: %d ranks for %d responses", ranking.size(), responses);
  }
  std::vector<int32_t> ranks;
  for (const Json& value : ranking) {
    TANREN_ASSIGN_OR_RETURN(const int32_t rank, RankOf(value, responses));
    ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace

absl::Status ReadPreference(const Json& record, Example* example) {
  const bool has_prompt = !example->prompt.empty();
  TANREN_ASSIGN_OR_RETURN(Side chosen, ReadSide(record, "chosen", has_prompt));
  TANREN_ASSIGN_OR_RETURN(Side rejected, ReadSide(record, "rejected", has_prompt));
  if (chosen.prompt != rejected.prompt) {
    return InvalidInput("different beginnings: chosen and rejected differ before their last message");
  }
  if (has_prompt && !chosen.prompt.empty() && chosen.prompt != example->prompt) {
    return InvalidInput("different beginnings: chosen and rejected do not begin with the prompt");
  }
  if (chosen.response == rejected.response) {
    return InvalidInput("equal sides: chosen and rejected are the same text");
  }
  if (!has_prompt) example->prompt = std::move(chosen.prompt);
  example->responses = {std::move(chosen.response), std::move(rejected.response)};
  example->ranks = {1, 2};
  return absl::OkStatus();
}

absl::Status ReadRanking(const Json& record, Example* example) {
  const Json* responses = Field(record, "responses");
  if (responses == nullptr) return Missing("responses");
  const Json* ranking = Field(record, "ranking");
  if (ranking == nullptr) return Missing("ranking");
  TANREN_ASSIGN_OR_RETURN(example->responses, ResponsesOf(*responses, "responses"));
  const size_t count = example->responses.size();
  if (count < 2) return InvalidInput("too few responses: %d, and a ranking compares at least two", count);
  if (ranking->is_array()) {
    TANREN_ASSIGN_OR_RETURN(example->ranks, RanksOfList(*ranking, count));
  } else if (ranking->is_string()) {
    if (count > kMostRankedByLetter) {
      return InvalidInput("no ranking: %d responses are more than there are letters; give a list of numbers",
                          count);
    }
    TANREN_ASSIGN_OR_RETURN(const std::string text, TextOf(*ranking, "ranking"));
    TANREN_ASSIGN_OR_RETURN(example->ranks, ParseRankingText(text, count));
  } else {
    return WrongType("ranking", "a list of numbers or a text such as \"B > A\"", *ranking);
  }
  const auto [least, most] = std::minmax_element(example->ranks.begin(), example->ranks.end());
  if (*least == *most) return InvalidInput("no preference: all responses have the same rank");
  return MergeEqualResponses("responses.", example);
}

absl::Status MergeEqualResponses(const std::string& name, Example* example) {
  std::map<std::string_view, size_t> first;
  std::vector<size_t> kept;
  for (size_t i = 0; i < example->responses.size(); ++i) {
    const auto [found, added] = first.emplace(example->responses[i], i);
    if (added) kept.push_back(i);
    const int32_t rank = example->ranks[found->second];
    if (rank == example->ranks[i]) continue;
    return InvalidInput("equal sides: %s%d and %s%d are the same text, at the ranks %d and %d", name,
                        found->second, name, i, rank, example->ranks[i]);
  }
  if (kept.size() == example->responses.size()) return absl::OkStatus();
  std::vector<int32_t> order = example->ranks;
  std::sort(order.begin(), order.end());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  std::vector<std::string> responses;
  std::vector<int32_t> ranks;
  for (const size_t i : kept) {
    responses.push_back(std::move(example->responses[i]));
    // Without gaps, so that none is beyond the number of responses that are left.
    const auto place = std::lower_bound(order.begin(), order.end(), example->ranks[i]);
    ranks.push_back(static_cast<int32_t>(place - order.begin()) + 1);
  }
  example->responses = std::move(responses);
  example->ranks = std::move(ranks);
  return absl::OkStatus();
}

}  // namespace tanren
