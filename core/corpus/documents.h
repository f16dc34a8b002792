// Documents out of text and JSONL files, in bounded memory, with damaged lines counted and left out.
#ifndef TANREN_CORE_CORPUS_DOCUMENTS_H_
#define TANREN_CORE_CORPUS_DOCUMENTS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/corpus/input_stream.h"

namespace tanren {

enum class InputFormat { kByName, kText, kJsonl };

struct DocumentOptions {
  InputFormat format = InputFormat::kByName;  // .txt .md .text, .jsonl .ndjson; with .gz or .zst behind

  // JSONL: the fields that make the text of a record, joined by the separator. Empty: "text" or else
  // "content", whichever the first record has.
  std::vector<std::string> text_keys;
  std::string key_separator = "\n";

  // Text: a file is one document, or is split at lines that equal the delimiter, or at blank lines. What
  // splits is no part of a document, nor is the line feed before it.
  std::string document_delimiter;
  bool split_at_blank_lines = false;

  int64_t line_limit_bytes = kLineLimitBytes;  // a longer line is damage
  int64_t document_limit_bytes = int64_t{256}
                                 << 20;  // of a document that cannot be handed out in parts: an error
};

// Lines that were left out, by reason.
struct DamageReport {
  enum Reason { kBadUtf8, kNulByte, kTooLong, kBadJson, kNoText, kReasons };
  static constexpr size_t kExamples = 10;

  int64_t lines = 0;  // read, damaged ones included
  std::array<int64_t, kReasons> count{};
  std::vector<std::string> examples;  // "path:line: what is wrong", the first ones

  int64_t total() const;
  void Add(Reason reason, const std::string& path, int64_t line, std::string_view detail);
};
const char* DescribeDamage(DamageReport::Reason reason);

// An error with the examples when more than this fraction of the lines is damaged.
absl::Status CheckDamage(const DamageReport& damage, double max_damaged_fraction);

// A document, or a part of one that is too long to be held: parts come in order.
struct DocumentPart {
  std::string text;
  bool begins = false;
  bool ends = false;
  int64_t line = 0;  // of the file, where the part begins
};

class DocumentReader {
 public:
  // `last_cut` says where a text may be cut into parts (Tokenizer::LastCut); null: documents come whole.
  using LastCut = std::function<size_t(std::string_view)>;
  using Sink = absl::FunctionRef<absl::Status(DocumentPart)>;
  using Progress = absl::FunctionRef<void(int64_t file_bytes_read)>;

  DocumentReader(DocumentOptions options, LastCut last_cut);

  // Hands all documents of a file to `sink`; empty ones are skipped.
  absl::Status ReadFile(const std::string& path, DamageReport* damage, Sink sink, Progress progress);

  // The format of a file; kByName never.
  absl::StatusOr<InputFormat> FormatOf(const std::string& path) const;
  bool one_document_per_file(InputFormat format) const;

 private:
  class TextState;
  absl::Status ReadText(const std::string& path, DamageReport* damage, Sink sink, Progress progress);
  absl::Status ReadJsonl(const std::string& path, DamageReport* damage, Sink sink, Progress progress);

  DocumentOptions options_;
  LastCut last_cut_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_DOCUMENTS_H_
