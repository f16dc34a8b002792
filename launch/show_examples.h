// tanren data show of a file of examples: what a template and a tokenizer make of its records.
#ifndef TANREN_LAUNCH_SHOW_EXAMPLES_H_
#define TANREN_LAUNCH_SHOW_EXAMPLES_H_

#include <cstdint>
#include <string>

namespace tanren {

struct ShowExamplesOptions {
  std::string path;                     // .jsonl, .jsonl.gz or .jsonl.zst
  std::string tokenizer;                // --tokenizer
  std::string chat_template = "plain";  // --template plain | chatml
  std::string format = "by_content";    // --format, as the stages' data.examples.N.format
  std::string system;                   // --system, as chat.system: of records without one
  std::string color = "auto";           // --color auto | always | never
  int64_t first = 0;                    // --first
  int64_t documents = 3;                // --documents
};

bool IsExampleFile(const std::string& path);

// Prints records with their trained tokens in green, or between « and » without colour. The exit code: 0, or
// 2 for wrong input.
int ShowExamples(const ShowExamplesOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SHOW_EXAMPLES_H_
