#include "launch/show_examples.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "core/base/status.h"
#include "core/chat/chat_template.h"
#include "core/examples/read_examples.h"
#include "core/proto/config.pb.h"
#include "launch/text_verbs.h"
#include "stages/common/example_units.h"

namespace tanren {
namespace {

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

struct Marks {
  const char* begin;
  const char* end;
};

absl::StatusOr<Marks> MarksFor(const std::string& color) {
  if (color != "auto" && color != "always" && color != "never") {
    return InvalidInput("--color %s is none of auto, always and never", color);
  }
  const bool colored = color == "always" || (color == "auto" && isatty(STDOUT_FILENO) != 0);
  return colored ? Marks{"\x1b[32m", "\x1b[0m"} : Marks{"«", "»"};
}

// Stretches of equally trained tokens are decoded together: one token need not be whole characters.
std::string Marked(const Tokenizer& tokenizer, const RenderedConversation& rendered, const Marks& marks) {
  std::string text;
  for (size_t begin = 0, end; begin < rendered.ids.size(); begin = end) {
    std::string bytes;
    for (end = begin; end < rendered.ids.size() && rendered.trained[end] == rendered.trained[begin]; ++end) {
      bytes += tokenizer.DecodeToken(rendered.ids[end]);
    }
    const bool trained = rendered.trained[begin] != 0;
    absl::StrAppend(&text, trained ? marks.begin : "", PrintableText(bytes), trained ? marks.end : "");
  }
  return text;
}

std::string SideName(const Example& example, size_t index) {
  if (example.format == ExampleFormat::kPreference) return index == 0 ? "chosen" : "rejected";
  if (example.format == ExampleFormat::kRanking) return absl::StrCat("rank ", example.ranks[index]);
  return absl::StrCat("response ", index + 1);
}

// `prompt` as the stages render it: with the chat's system message.
absl::Status ShowExample(const Tokenizer& tokenizer, const ChatTemplate& chat, const Example& example,
                         const std::vector<Message>& prompt, const Marks& marks) {
  Print(absl::StrCat("--- ", example.source, ": ", NameOf(example.format), "\n"));
  const bool compared = example.format == ExampleFormat::kPreference ||
                        example.format == ExampleFormat::kRanking ||
                        example.format == ExampleFormat::kLabelled;
  if (example.responses.empty()) {
    RenderedConversation asked;
    TANREN_ASSIGN_OR_RETURN(asked.ids, chat.Render(prompt, /*generation_prompt=*/true));
    asked.trained.assign(asked.ids.size(), 0);
    Print(absl::StrCat(asked.ids.size(), " tokens, none trained\n", Marked(tokenizer, asked, marks), "\n"));
  }
  for (size_t i = 0; i < example.responses.size(); ++i) {
    // Stages that compare answers learn nothing of the turns before.
    TANREN_ASSIGN_OR_RETURN(const RenderedConversation rendered,
                            RenderResponse(chat, prompt, example.responses[i], /*earlier_turns=*/!compared));
    Print(absl::StrCat(SideName(example, i), ": ", rendered.ids.size(), " tokens, ",
                       rendered.trained_tokens(), " trained\n", Marked(tokenizer, rendered, marks), "\n"));
  }
  if (!example.answer.empty()) Print(absl::StrCat("answer: ", PrintableText(example.answer), "\n"));
  return absl::OkStatus();
}

absl::Status Show(const ShowExamplesOptions& options) {
  if (options.tokenizer.empty())
    return InvalidInput("%s: a file of examples needs --tokenizer", options.path);
  if (options.chat_template != "plain" && options.chat_template != "chatml") {
    return InvalidInput("--template %s is neither plain nor chatml", options.chat_template);
  }
  TANREN_ASSIGN_OR_RETURN(const Marks marks, MarksFor(options.color));
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TokenizerByName(options.tokenizer));
  const auto kind = options.chat_template == "plain" ? ChatTemplateKind::kPlain : ChatTemplateKind::kChatml;
  TANREN_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplate::Make(kind, *tokenizer));
  ExampleOptions reading;
  const absl::StatusOr<std::optional<ExampleFormat>> format = ExampleFormatByName(options.format);
  if (!format.ok()) return At("--format", format.status());
  reading.format = *format;
  ExampleReport report;
  TANREN_ASSIGN_OR_RETURN(const std::vector<Example> examples, ReadExamples(options.path, reading, &report));
  const auto all = static_cast<int64_t>(examples.size());
  if (options.first < 0 || options.first >= all || options.documents < 1) {
    return InvalidInput("--first %d, --documents %d: the file has examples 0 to %d", options.first,
                        options.documents, all - 1);
  }
  config::Config config;
  config.mutable_chat()->set_system(options.system);
  Print(absl::StrCat(report.ToString(), "\n"));
  for (int64_t i = 0; i < std::min(options.documents, all - options.first); ++i) {
    const Example& example = examples[static_cast<size_t>(options.first + i)];
    const std::vector<Message> prompt = PromptMessages(config, example);
    TANREN_RETURN_IF_ERROR(At(example.source, ShowExample(*tokenizer, chat, example, prompt, marks)));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsExampleFile(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return absl::EndsWith(name, ".jsonl") || absl::EndsWith(name, ".jsonl.gz") ||
         absl::EndsWith(name, ".jsonl.zst");
}

int ShowExamples(const ShowExamplesOptions& options) {
  const absl::Status status = Show(options);
  return status.ok() ? 0 : WrongInput(status);
}

}  // namespace tanren
