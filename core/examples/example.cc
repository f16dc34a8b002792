#include "core/examples/example.h"

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

}  // namespace tanren
