#include "launch/chat_verb.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/activity/activity.h"
#include "core/base/status.h"
#include "core/base/terminal.h"
#include "core/chat/answer_stream.h"
#include "core/chat/chat_template.h"
#include "core/chat/conversation.h"
#include "core/report/append_file.h"
#include "core/trainer/requests.h"
#include "launch/inference.h"
#include "launch/input_lines.h"
#include "nlohmann/json.hpp"
#include "parallel/runtime/runtime.h"
#include "parallel/runtime/stop_signal.h"
#include "stages/common/example_units.h"

namespace tanren {
namespace {

constexpr int64_t kDefaultContext = 8192;
constexpr char kHelp[] =
    "A line is a message; one that ends with a backslash goes on in the next line. Commands:\n"
    "  /retry          another answer to the last message\n"
    "  /undo           takes the last message and its answer back\n"
    "  /reset          begins anew; the system message stays\n"
    "  /system TEXT    sets the system message, - removes it; without TEXT shows it\n"
    "  /save FILE      appends the conversation to FILE, a line that SFT can read\n"
    "  /help  /quit\n"
    "  //..            a message that begins with a slash\n"
    "Ctrl-C ends an answer; at the prompt, and with several ranks, the program.\n";

// One rank's view of a chat: every rank follows the same conversation, and rank 0 reads and prints.
class ChatLoop {
 public:
  ChatLoop(Runtime& runtime, const InferenceModel& model, const ChatOptions& options,
           const ChatTemplate& chat)
      : world_(runtime.world()),
        model_(model),
        options_(options),
        stops_({chat.end_of_turn()}),
        talk_(chat, model.engine->options().generation_tokens),
        first_(runtime.world().rank() == 0),
        typed_(first_ && isatty(STDIN_FILENO) == 1) {
    talk_.SetSystem(options.system.value_or(model.config.chat().system()));
  }

  absl::Status Run() {
    if (typed_)
      Say(absl::StrCat(model_.path, ", ", model_.engine->options().generation_tokens,
                       " tokens of context; /help says what can be typed\n"));
    while (const std::optional<std::string> line = NextLine()) {
      if (absl::StartsWith(*line, "/") && !absl::StartsWith(*line, "//")) {
        if (*line == "/quit") break;
        TANREN_RETURN_IF_ERROR(Command(*line));
      } else if (!absl::StripAsciiWhitespace(*line).empty()) {
        talk_.Ask(line->substr(absl::StartsWith(*line, "//") ? 1 : 0));
        TANREN_RETURN_IF_ERROR(Reply());
      }
    }
    if (typed_) Say("\n");
    return absl::OkStatus();
  }

 private:
  void Say(std::string_view text) const {
    if (!first_) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  void Say(const absl::Status& error) const { Say(ForTerminal(std::string(error.message())) + "\n"); }

  // On every rank; nothing at the end.
  std::optional<std::string> NextLine() {
    std::string sent;  // "+" and the line; empty: the end
    if (first_) {
      std::string line;
      bool more = true, any = false;
      while (more) {
        if (typed_) Say(any ? ". " : "> ");
        const std::optional<std::string> part = input_.Next([] {
          // Ranks that wait for somebody to type are not stuck.
          Activity::Own().Tick();
          return StopSignal::Requested();
        });
        if (!part.has_value()) {
          if (StopSignal::Requested()) any = false;  // what was begun is not sent
          break;
        }
        any = true;
        more = absl::EndsWith(*part, "\\");
        absl::StrAppend(&line, part->substr(0, part->size() - (more ? 1 : 0)), more ? "\n" : "");
      }
      if (any) sent = absl::StrCat("+", absl::StripSuffix(line, "\n"));
    }
    sent = BroadcastString(world_, "a line of the chat", sent, 0);
    if (sent.empty()) return std::nullopt;
    return sent.substr(1);
  }

  absl::Status Command(const std::string& line) {
    const size_t space = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, space);
    const std::string rest(absl::StripAsciiWhitespace(absl::string_view(line).substr(space)));
    if (name == "/help") {
      Say(kHelp);
    } else if (name == "/retry") {
      if (talk_.TakeBackAnswer()) return Reply();
      Say("there is no answer yet\n");
    } else if (name == "/undo") {
      if (!talk_.Undo()) Say("there is no message yet\n");
    } else if (name == "/reset") {
      talk_.Clear();
    } else if (name == "/system") {
      if (rest.empty())
        Say(talk_.system().empty() ? "no system message\n" : absl::StrCat(talk_.system(), "\n"));
      if (!rest.empty()) talk_.SetSystem(rest == "-" ? "" : rest);
    } else if (name == "/save") {
      if (first_) Save(rest);
    } else {
      Say(absl::StrCat(ForTerminal(name),
                       ": no such command; /help names them, // begins a message with a slash\n"));
    }
    return absl::OkStatus();
  }

  void Save(const std::string& path) const {
    if (path.empty()) return Say("/save FILE: a file is needed\n");
    if (!talk_.answered()) return Say("there is no answer yet\n");
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    for (const Message& message : talk_.messages()) {
      messages.push_back({{"role", NameOf(message.role)}, {"content", message.content}});
    }
    const nlohmann::ordered_json line = {{"messages", messages}};
    absl::StatusOr<AppendFile> file = AppendFile::Open(path);
    const absl::Status status =
        file.ok() ? file->Append(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n")
                  : file.status();
    if (!status.ok()) Say(status);
  }

  // Answers the message that was asked. A message that cannot be answered is taken back.
  absl::Status Reply() {
    const absl::StatusOr<Conversation::Prompt> prompt = talk_.MakePrompt(options_.sampling.max_tokens);
    if (!prompt.ok()) {
      talk_.Undo();
      Say(prompt.status());
      return absl::OkStatus();
    }
    if (prompt->left_out != left_out_) {
      left_out_ = prompt->left_out;
      if (left_out_ > 0)
        Say(absl::StrCat("(the context is full: the first ", left_out_, " exchanges are left out)\n"));
    }
    GenerationRequest request;
    request.prompt = prompt->ids;
    request.max_tokens = prompt->answer_tokens;
    request.sampling = SamplingOf(options_.sampling, answers_++);
    request.repetition = RepetitionOf(options_.sampling);
    request.stop = stops_;
    AnswerStream stream(*model_.tokenizer, stops_);
    request.watch = [&](const GenerationResult& so_far) {
      Say(ForTerminal(stream.Next(so_far.tokens)));
      // Alone only: of several ranks each may have heard of it at another token.
      return world_.size() > 1 || !StopSignal::Requested();
    };
    TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                            model_.engine->Generate("policy", {&request, 1}));
    TANREN_ASSIGN_OR_RETURN(const std::string answer, AnswerText(*model_.tokenizer, results[0]));
    Say(absl::StrCat(ForTerminal(stream.Finish(answer)), "\n"));
    // Ctrl-C ended the answer; whoever asks in another way wants the program to end.
    if (world_.size() == 1 && StopSignal::Number() == SIGINT) StopSignal::Clear();
    const bool cut = results[0].finish == FinishReason::kLength;
    if (cut && typed_) Say(absl::StrCat("(ended after ", results[0].tokens.size(), " tokens)\n"));
    talk_.Answer(answer);
    return absl::OkStatus();
  }

  Comm& world_;
  const InferenceModel& model_;
  const ChatOptions& options_;
  std::vector<std::vector<int32_t>> stops_;
  Conversation talk_;
  bool first_, typed_;
  InputLines input_{STDIN_FILENO};
  uint64_t answers_ = 0;
  int64_t left_out_ = 0;
};

absl::Status RunChat(Runtime& runtime, const ChatOptions& options) {
  TANREN_RETURN_IF_ERROR(CheckSampling(options.sampling));
  if (options.context_tokens < 0 || options.context_tokens == 1) {
    return InvalidInput(
        "--context: %d; a message and its answer take 2 tokens at least; 0: the model's context",
        options.context_tokens);
  }
  InferenceOptions inference;
  inference.checkpoint = options.checkpoint;
  inference.overrides = options.overrides;
  inference.slots = 1;
  inference.plan = [&](const config::Config& config, const Tokenizer& tokenizer,
                       int64_t context) -> absl::StatusOr<int64_t> {
    if (config.stage() == "pretrain") {
      return InvalidInput(
          "%s is of stage pretrain, which knows no turns; tanren generate goes on from a text",
          options.checkpoint);
    }
    TANREN_RETURN_IF_ERROR(ChatTemplateFromConfig(config, tokenizer).status());
    return std::min(context, options.context_tokens > 0 ? options.context_tokens : kDefaultContext);
  };
  TANREN_ASSIGN_OR_RETURN(const InferenceModel model, LoadForInference(runtime, inference));
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplateFromConfig(model.config, *model.tokenizer));
  return ChatLoop(runtime, model, options, chat).Run();
}

}  // namespace

int Chat(const ChatOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  return StatusExit(RunChat(**runtime, options));
}

}  // namespace tanren
