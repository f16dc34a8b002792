#include "launch/annotate_session.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/config/text.h"
#include "core/examples/ranking_text.h"
#include "core/tokenizer/files.h"
#include "kernels/random.h"
#include "launch/text_verbs.h"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostTypedBytes = 16384;

// One question.
struct Item {
  const SampleGroup* group = nullptr;
  std::vector<size_t> shown;  // indices of the responses, in the order they are shown; one for a label
  std::string key;
  bool decided = false;
  bool skipped = false;
};

// A line that was typed, without white space at its ends; nothing at the end of the input.
struct Typed {
  std::string text;
  bool too_long = false;
};
std::optional<Typed> ReadTyped() {
  Typed typed;
  int c = std::getc(stdin);
  if (c == EOF) return std::nullopt;
  for (; c != EOF && c != '\n'; c = std::getc(stdin)) {
    if (typed.text.size() == kMostTypedBytes) {
      typed.too_long = true;
    } else {
      typed.text += static_cast<char>(c);
    }
  }
  absl::StripAsciiWhitespace(&typed.text);
  return typed;
}

enum class Command { kQuit, kSkip, kUndo, kHelp, kDecision };
Command CommandOf(const std::optional<Typed>& typed) {
  if (!typed.has_value()) return Command::kQuit;
  const std::string word = absl::AsciiStrToLower(typed->text);
  if (word == "q" || word == "quit") return Command::kQuit;
  if (word == "s" || word == "skip") return Command::kSkip;
  if (word == "u" || word == "undo") return Command::kUndo;
  if (word == "?" || word == "h" || word == "help" || word.empty()) return Command::kHelp;
  return Command::kDecision;
}

// The same order whenever the prompt comes up, and no place in it more likely for one answer than for
// another.
std::vector<size_t> ShownOrder(const SessionOptions& options, const std::string& key, size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (!options.shuffle) return order;
  uint64_t stream = 0;
  TANREN_CHECK(absl::SimpleHexAtoi(Sha256Hex(key).substr(0, 16), &stream));
  for (size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[kernels::RandomBelow(options.seed, stream, i, i)]);
  }
  return order;
}

std::string KeyOf(const SampleGroup& group, const std::vector<std::string>& responses) {
  Example example;
  example.prompt = {{MessageRole::kUser, group.prompt, true}};
  example.responses = responses;
  return AnnotationKey(example);
}

// Text of unknown origin as a block of its own, so that it cannot look like anything that this program says.
void PrintBlock(const std::string& title, std::string_view text) {
  std::string shown = absl::StrCat(title, "\n");
  const std::string printable = PrintableText(text);
  for (size_t begin = 0; begin <= printable.size();) {
    const size_t end = std::min(printable.find('\n', begin), printable.size());
    absl::StrAppend(&shown, "  | ", printable.substr(begin, end - begin), "\n");
    begin = end + 1;
  }
  std::fwrite(shown.data(), 1, shown.size(), stdout);
}

class Session {
 public:
  Session(const SessionOptions& options, AnnotationFile& file, SessionCounts* counts)
      : options_(options), file_(file), counts_(counts) {}

  absl::Status AddItems(const std::vector<SampleGroup>& groups) {
    for (const SampleGroup& group : groups) {
      const size_t count = group.responses.size();
      if (!options_.labels && count > kMostRankedByLetter) {
        return InvalidInput("a prompt has %d answers, and at most %d can be ranked by letters: %s", count,
                            kMostRankedByLetter, config::Printable(group.prompt));
      }
      if (!options_.labels && count < 2) {
        ++counts_->too_small;
        continue;
      }
      const std::string key = KeyOf(group, group.responses);
      const std::vector<size_t> order = ShownOrder(options_, key, count);
      if (!options_.labels) {
        AddItem({&group, order, key});
        continue;
      }
      for (const size_t response : order) {
        AddItem({&group, {response}, KeyOf(group, {group.responses[response]})});
      }
    }
    if (items_.empty()) return InvalidInput("there is nothing to decide: no prompt has answers that differ");
    return absl::OkStatus();
  }

  absl::Status Run() {
    TakeUpHistory();
    while (!ended_) {
      const std::optional<size_t> at =
          taken_back_.has_value() ? std::exchange(taken_back_, std::nullopt) : NextOpen();
      if (at.has_value()) {
        Show(*at);
        TANREN_RETURN_IF_ERROR(Ask(*at));
      } else {
        TANREN_RETURN_IF_ERROR(AskEnd());
      }
    }
    for (const Item& item : items_) {
      counts_->left += !item.decided;
      counts_->skipped += item.skipped;
    }
    return absl::OkStatus();
  }

 private:
  void AddItem(Item item) {
    if (!by_key_.emplace(item.key, items_.size()).second) {
      ++counts_->repeated;
      return;
    }
    items_.push_back(std::move(item));
  }

  // What the file holds. The last lines that are about these samples can be taken back.
  void TakeUpHistory() {
    for (const std::string& key : file_.keys()) {
      const auto found = by_key_.find(key);
      if (found == by_key_.end()) {
        history_.clear();
        continue;
      }
      counts_->before += !items_[found->second].decided;
      items_[found->second].decided = true;
      history_.push_back(found->second);
    }
  }

  std::optional<size_t> NextOpen() const {
    for (size_t i = 0; i < items_.size(); ++i) {
      if (!items_[i].decided && !items_[i].skipped) return i;
    }
    return std::nullopt;
  }

  std::string TitleOf(const Item& item, size_t place) const {
    std::string title = options_.labels ? "answer" : std::string(1, static_cast<char>('A' + place));
    if (options_.show_models && !item.group->models.empty()) {
      absl::StrAppend(&title, "  by ", config::Printable(item.group->models[item.shown[place]]));
    }
    return title;
  }

  void Show(size_t at) const {
    const Item& item = items_[at];
    std::printf("\n=== %zu of %zu\n", at + 1, items_.size());
    PrintBlock("prompt", item.group->prompt);
    for (size_t place = 0; place < item.shown.size(); ++place) {
      PrintBlock(TitleOf(item, place), item.group->responses[item.shown[place]]);
    }
  }

  void Help() const {
    std::printf("%s", options_.labels
                          ? "  g   the answer is good          b   it is bad\n"
                          : "  B > A = C   from best to worst; = between equals; every answer once\n");
    std::printf(
        "  s   skip; it comes again in another session\n"
        "  u   take the last decision back\n"
        "  q   quit; every decision is saved already\n"
        "  # and a comment may follow a decision\n");
  }

  // Until a decision, a skip, something taken back, or the end.
  absl::Status Ask(size_t at) {
    while (true) {
      std::printf("%s > ", options_.labels ? "g(ood), b(ad), s(kip), u(ndo), q(uit), ?"
                                           : "ranking, s(kip), u(ndo), q(uit), ?");
      std::fflush(stdout);
      const std::optional<Typed> typed = ReadTyped();
      if (!typed.has_value()) std::printf("\n");
      const Command command = CommandOf(typed);
      if (command == Command::kQuit) {
        ended_ = true;
        return absl::OkStatus();
      }
      if (command == Command::kSkip) {
        items_[at].skipped = true;
        history_.push_back(at);
        return absl::OkStatus();
      }
      if (command == Command::kUndo && !history_.empty()) return TakeBack();
      if (command == Command::kUndo) {
        std::printf("  there is nothing to take back\n");
      } else if (command == Command::kHelp) {
        Help();
      } else {
        const absl::StatusOr<Json> record = Understand(items_[at], *typed);
        if (record.ok()) return Decide(at, *record);
        std::printf("  %s\n", PrintableText(View(record.status().message())).c_str());
      }
    }
  }

  // After the last question: the last decision can still be taken back.
  absl::Status AskEnd() {
    while (!history_.empty()) {
      std::printf("\nnothing is left: u(ndo), or return to end > ");
      std::fflush(stdout);
      const std::optional<Typed> typed = ReadTyped();
      if (!typed.has_value()) std::printf("\n");
      if (!typed.has_value() || typed->text.empty()) break;
      const Command command = CommandOf(typed);
      if (command == Command::kQuit) break;
      if (command == Command::kUndo) return TakeBack();
    }
    ended_ = true;
    return absl::OkStatus();
  }

  absl::Status Decide(size_t at, const Json& record) {
    TANREN_RETURN_IF_ERROR(file_.Append(record.dump(-1, ' ', false, Json::error_handler_t::replace)));
    items_[at].decided = true;
    history_.push_back(at);
    ++counts_->decided;
    return absl::OkStatus();
  }

  absl::Status TakeBack() {
    Item& item = items_[history_.back()];
    if (item.skipped) {
      item.skipped = false;
    } else {
      TANREN_RETURN_IF_ERROR(file_.RemoveLast());
      item.decided = false;
      // One of another session counts as never made.
      --(counts_->decided > 0 ? counts_->decided : counts_->before);
    }
    taken_back_ = history_.back();
    history_.pop_back();
    return absl::OkStatus();
  }

  // The record of a decision. The message of an error is for the person.
  absl::StatusOr<Json> Understand(const Item& item, const Typed& typed) const {
    if (typed.too_long) return InvalidInput("a line of more than %d bytes", kMostTypedBytes);
    const size_t mark = typed.text.find('#');
    const std::string decision = typed.text.substr(0, mark);
    std::string comment = mark == std::string::npos ? "" : typed.text.substr(mark + 1);
    absl::StripAsciiWhitespace(&comment);
    if (config::FirstInvalidUtf8(comment) != std::string::npos || comment.find('\0') != std::string::npos) {
      return InvalidInput("the comment is not UTF-8 text");
    }
    TANREN_ASSIGN_OR_RETURN(Json record, options_.labels ? Labelled(item, decision) : Ranked(item, decision));
    AddGroupFields(*item.group, &record);
    if (!options_.annotator.empty()) record["annotator"] = options_.annotator;
    if (!comment.empty()) record["comment"] = comment;
    return record;
  }

  static absl::StatusOr<Json> Labelled(const Item& item, const std::string& decision) {
    const std::string word = absl::AsciiStrToLower(absl::StripAsciiWhitespace(decision));
    const bool good = word == "g" || word == "good";
    if (!good && word != "b" && word != "bad") {
      return InvalidInput("%s is neither g (good) nor b (bad); ? explains", Quoted(word));
    }
    Json record = {{"prompt", item.group->prompt},
                   {"completion", item.group->responses[item.shown[0]]},
                   {"label", good}};
    if (!item.group->models.empty()) record["model"] = item.group->models[item.shown[0]];
    return record;
  }

  static absl::StatusOr<Json> Ranked(const Item& item, const std::string& decision) {
    std::string text = absl::AsciiStrToUpper(absl::StripAsciiWhitespace(decision));
    std::replace(text.begin(), text.end(), '\t', ' ');
    const absl::StatusOr<std::vector<int32_t>> places = ParseRankingText(text, item.shown.size());
    if (!places.ok())
      return InvalidInput("%s; ? explains", absl::StripPrefix(places.status().message(), "no permutation: "));
    if (std::all_of(places->begin(), places->end(), [](int32_t rank) { return rank == 1; })) {
      return InvalidInput("all equal: nothing can be learnt of that, so it is not kept; s skips the prompt");
    }
    std::vector<int32_t> ranks(places->size());
    for (size_t place = 0; place < places->size(); ++place) ranks[item.shown[place]] = (*places)[place];
    Json record = {{"prompt", item.group->prompt}, {"responses", item.group->responses}, {"ranking", ranks}};
    record["shown"] = item.shown;
    if (!item.group->models.empty()) record["models"] = item.group->models;
    return record;
  }

  const SessionOptions& options_;
  AnnotationFile& file_;
  SessionCounts* counts_;
  std::vector<Item> items_;
  std::map<std::string, size_t> by_key_;
  std::vector<size_t> history_;  // decided and skipped items, the last one last
  std::optional<size_t> taken_back_;
  bool ended_ = false;
};

}  // namespace

absl::Status Annotate(const SessionOptions& options, const std::vector<SampleGroup>& groups,
                      AnnotationFile& file, SessionCounts* counts) {
  Session session(options, file, counts);
  TANREN_RETURN_IF_ERROR(session.AddItems(groups));
  return session.Run();
}

}  // namespace tanren
