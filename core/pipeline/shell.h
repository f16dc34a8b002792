// Text as a shell reads it back.
#ifndef TANREN_CORE_PIPELINE_SHELL_H_
#define TANREN_CORE_PIPELINE_SHELL_H_

#include <span>
#include <string>
#include <string_view>

namespace tanren {

// One word of bash that stands for exactly `text` (which has no NUL): as it is where no character means
// anything to a shell, else in single quotes.
std::string ShellQuote(std::string_view text);

// The words of a command, each quoted, with spaces between them.
std::string ShellJoin(std::span<const std::string> words);

// A value of YAML, in single quotes, that stands for exactly `text`, which has no line feed.
std::string YamlQuote(std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_SHELL_H_
