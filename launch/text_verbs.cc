#include "launch/text_verbs.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/base/status.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "core/tokenizer/utf8.h"

namespace tanren {

int WrongInput(const absl::Status& status) {
  std::fprintf(stderr, "tanren: %s\n", std::string(status.message()).c_str());
  return 2;
}

absl::StatusOr<DocumentOptions> ToDocumentOptions(const TextInputOptions& options) {
  DocumentOptions documents;
  if (options.format == "text") {
    documents.format = InputFormat::kText;
  } else if (options.format == "jsonl") {
    documents.format = InputFormat::kJsonl;
  } else if (options.format != "auto") {
    return InvalidInput("--format %s is none of auto, text and jsonl", Quoted(options.format));
  }
  if (!(options.max_damaged >= 0 && options.max_damaged <= 1)) {
    return InvalidInput("--max-damaged %g is not a fraction from 0 to 1", options.max_damaged);
  }
  documents.text_keys = options.text_keys;
  documents.document_delimiter = options.document_delimiter;
  documents.split_at_blank_lines = options.split_at_blank_lines;
  return documents;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerByName(const std::string& name) {
  return name == "bytes" ? MakeByteTokenizer() : LoadTokenizer(name);
}

std::string Printable(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = DecodeUtf8(text, i);
    const uint32_t c = character.code_point;
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    if (character.bytes > 0 && (!control || c == '\n' || c == '\t')) {
      shown.append(text.substr(i, character.bytes));
    } else {
      for (int k = 0; k < std::max(character.bytes, 1); ++k) {
        absl::StrAppend(&shown, "\\x", absl::Hex(static_cast<unsigned char>(text[i + k]), absl::kZeroPad2));
      }
    }
    i += std::max(character.bytes, 1);
  }
  return shown;
}

void PrintDamage(const DamageReport& damage) {
  if (damage.total() == 0) return;
  std::printf("damaged lines left out: %lld of %lld\n", static_cast<long long>(damage.total()),
              static_cast<long long>(damage.lines));
  for (int reason = 0; reason < DamageReport::kReasons; ++reason) {
    if (damage.count[reason] == 0) continue;
    std::printf("  %s: %lld\n", DescribeDamage(static_cast<DamageReport::Reason>(reason)),
                static_cast<long long>(damage.count[reason]));
  }
  for (const std::string& example : damage.examples) std::printf("  %s\n", Printable(example).c_str());
}

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) != 0) {}

ProgressLine::~ProgressLine() {
  if (terminal_ && !shown_.empty()) std::fprintf(stderr, "\r\033[K");
}

void ProgressLine::Show(const char* stage, int64_t done, int64_t total) {
  const int64_t percent = total <= 0 ? 0 : std::min<int64_t>(100, done * 100 / total);
  const std::string line = absl::StrCat(stage, " ", terminal_ ? percent : percent / 10 * 10, "%");
  if (total <= 0 || line == shown_) return;
  shown_ = line;
  std::fprintf(stderr, terminal_ ? "\r\033[K%s" : "%s\n", line.c_str());
}

}  // namespace tanren
