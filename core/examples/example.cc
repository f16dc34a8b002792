#include "core/examples/example.h"

#include "core/base/status.h"

namespace tanren {

const char* NameOf(ExampleFormat format) {
  switch (format) {
    case ExampleFormat::kRanking:
      return "ranking";
    case ExampleFormat::kPreference:
      return "preference";
    case ExampleFormat::kLabelled:
      return "labelled";
    case ExampleFormat::kReferences:
      return "references";
    case ExampleFormat::kMessages:
      return "messages";
    case ExampleFormat::kPromptCompletion:
      return "prompt_completion";
    case ExampleFormat::kAlpaca:
      return "alpaca";
    case ExampleFormat::kAnswer:
      return "answer";
    case ExampleFormat::kText:
      return "text";
  }
  return "";
}

absl::StatusOr<std::optional<ExampleFormat>> ExampleFormatByName(std::string_view name) {
  if (name == "by_content") return std::nullopt;
  std::string names = "by_content";
  for (int i = 0; i <= static_cast<int>(ExampleFormat::kText); ++i) {
    const auto format = static_cast<ExampleFormat>(i);
    if (name == NameOf(format)) return format;
    absl::StrAppend(&names, ", ", NameOf(format));
  }
  return InvalidInput("format %s is none of %s", std::string(name), names);
}

}  // namespace tanren
