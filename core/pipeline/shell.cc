#include "core/pipeline/shell.h"

#include <algorithm>

namespace tanren {
namespace {

bool MeansNothing(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("/._-+@%:,").find(c) != std::string_view::npos;
}

std::string Quote(std::string_view text, std::string_view quote) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += quote;
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace

std::string ShellQuote(std::string_view text) {
  // NAME=value as the first word would be an assignment, so "=" is quoted only there: behind a command's
  // name it is plain. The callers' first words are programs; "=" is let stand for legibility.
  const bool plain =
      !text.empty() && std::ranges::all_of(text, [](char c) { return MeansNothing(c) || c == '='; });
  return plain ? std::string(text) : Quote(text, "'\\''");
}

std::string ShellJoin(std::span<const std::string> words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    line += ShellQuote(word);
  }
  return line;
}

std::string YamlQuote(std::string_view text) { return Quote(text, "''"); }

}  // namespace tanren
