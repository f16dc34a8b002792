#include "core/corpus/documents.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/status.h"
#include "core/corpus/input_stream.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/utf8.h"
#include "simdjson.h"

namespace tanren {
namespace {

constexpr size_t kPartBytes = 4 << 20;   // a text is handed out in parts of about this size

std::string_view WithoutLineFeed(std::string_view line) {
  if (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// What is wrong with the bytes of a line, whatever it means; kReasons when nothing is.
DamageReport::Reason ByteDamage(const LineReader::Line& line) {
  if (line.too_long) return DamageReport::kTooLong;
  if (line.text.find('\0') != std::string_view::npos) return DamageReport::kNulByte;
  if (!IsValidUtf8(line.text)) return DamageReport::kBadUtf8;
  return DamageReport::kReasons;
}

std::string ByteDetail(DamageReport::Reason reason, const LineReader::Line& line, int64_t line_limit_bytes) {
  if (reason == DamageReport::kTooLong) return absl::StrCat("more than ", line_limit_bytes, " bytes");
  const size_t at = reason == DamageReport::kNulByte ? line.text.find('\0') : ValidUtf8Prefix(line.text);
  return absl::StrFormat("byte %d of the line is 0x%02x", at,
                         static_cast<int>(static_cast<unsigned char>(line.text[at])));
}

}  // namespace

const char* DescribeDamage(DamageReport::Reason reason) {
  switch (reason) {
    case DamageReport::kBadUtf8:
      return "not UTF-8";
    case DamageReport::kNulByte:
      return "NUL bytes";
    case DamageReport::kTooLong:
      return "line too long";
    case DamageReport::kBadJson:
      return "not a JSON object";
    case DamageReport::kNoText:
      return "no text field";
    case DamageReport::kReasons:
      break;
  }
  return "";
}

int64_t DamageReport::total() const { return std::accumulate(count.begin(), count.end(), int64_t{0}); }

void DamageReport::Add(Reason reason, const std::string& path, int64_t line, std::string_view detail) {
  ++count[reason];
  if (examples.size() < kExamples) {
    examples.push_back(absl::StrCat(path, ":", line, ": ", DescribeDamage(reason), ": ", View(detail)));
  }
}

absl::Status CheckDamage(const DamageReport& damage, double max_damaged_fraction) {
  if (static_cast<double>(damage.total()) <= max_damaged_fraction * static_cast<double>(damage.lines)) {
    return absl::OkStatus();
  }
  std::string message = absl::StrFormat(
      "%d of %d lines are damaged, more than the fraction %g that is allowed (--max-damaged); nothing was "
      "written",
      damage.total(), damage.lines, max_damaged_fraction);
  for (const std::string& example : damage.examples) absl::StrAppend(&message, "\n  ", example);
  return absl::InvalidArgumentError(message);
}

DocumentReader::DocumentReader(DocumentOptions options, LastCut last_cut)
    : options_(std::move(options)), last_cut_(std::move(last_cut)) {}

absl::StatusOr<InputFormat> DocumentReader::FormatOf(const std::string& path) const {
  if (options_.format != InputFormat::kByName) return options_.format;
  absl::string_view name = path;
  for (const absl::string_view compressed : {".gz", ".zst"}) {
    if (absl::EndsWith(name, compressed)) name.remove_suffix(compressed.size());
  }
  for (const absl::string_view text : {".txt", ".text", ".md"}) {
    if (absl::EndsWith(name, text)) return InputFormat::kText;
  }
  for (const absl::string_view json : {".jsonl", ".ndjson"}) {
    if (absl::EndsWith(name, json)) return InputFormat::kJsonl;
  }
  return InvalidInput(
      "%s: neither .txt nor .jsonl (with .gz or .zst behind it); say which it is with --format", path);
}

bool DocumentReader::one_document_per_file(InputFormat format) const {
  return format == InputFormat::kText && options_.document_delimiter.empty() &&
         !options_.split_at_blank_lines;
}

absl::Status DocumentReader::ReadFile(const std::string& path, DamageReport* damage, Sink sink,
                                      Progress progress) {
  TANREN_ASSIGN_OR_RETURN(const InputFormat format, FormatOf(path));
  return format == InputFormat::kText ? ReadText(path, damage, sink, progress)
                                      : ReadJsonl(path, damage, sink, progress);
}

// The document that is being gathered.
class DocumentReader::TextState {
 public:
  TextState(const DocumentReader& reader, const std::string& path, Sink sink)
      : reader_(reader), path_(path), sink_(sink) {}

  absl::Status Add(std::string_view line, int64_t number) {
    if (text_.empty()) line_ = number;
    text_.append(line);
    if (text_.size() < attempt_at_bytes_) return absl::OkStatus();
    const size_t cut = reader_.last_cut_ ? reader_.last_cut_(text_) : 0;
    if (cut == 0) {
      attempt_at_bytes_ = text_.size() + text_.size() / 2;
      if (static_cast<int64_t>(text_.size()) <= reader_.options_.document_limit_bytes)
        return absl::OkStatus();
      return InvalidInput(
          "%s:%d: a document of more than %d bytes, which must be held as a whole; split the file into "
          "documents with "
          "--document-delimiter or --split-at-blank-lines",
          path_, line_, reader_.options_.document_limit_bytes);
    }
    DocumentPart part{text_.substr(0, cut), !begun_, false, line_};
    text_.erase(0, cut);
    line_ = number;
    begun_ = true;
    attempt_at_bytes_ = kPartBytes;
    return sink_(std::move(part));
  }

  absl::Status End(bool at_delimiter) {
    if (at_delimiter && !text_.empty() && text_.back() == '\n') text_.pop_back();
    attempt_at_bytes_ = kPartBytes;
    const bool empty = text_.empty() && !begun_;
    DocumentPart part{std::exchange(text_, {}), !std::exchange(begun_, false), true, line_};
    return empty ? absl::OkStatus() : sink_(std::move(part));
  }

 private:
  const DocumentReader& reader_;
  const std::string& path_;
  Sink sink_;
  std::string text_;
  int64_t line_ = 0;
  bool begun_ = false;  // a part was handed out already
  size_t attempt_at_bytes_ = kPartBytes;
};

absl::Status DocumentReader::ReadText(const std::string& path, DamageReport* damage, Sink sink,
                                      Progress progress) {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(path));
  LineReader lines(std::move(stream), options_.line_limit_bytes);
  TextState document(*this, path, sink);
  LineReader::Line line;
  while (true) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    ++damage->lines;
    if (const DamageReport::Reason reason = ByteDamage(line); reason != DamageReport::kReasons) {
      damage->Add(reason, path, line.number, ByteDetail(reason, line, options_.line_limit_bytes));
      continue;
    }
    const bool delimiter =
        (!options_.document_delimiter.empty() && WithoutLineFeed(line.text) == options_.document_delimiter) ||
        (options_.split_at_blank_lines && IsBlank(line.text));
    TANREN_RETURN_IF_ERROR(delimiter ? document.End(true) : document.Add(line.text, line.number));
    progress(lines.file_bytes_read());
  }
  return document.End(false);
}

namespace {

// The text of a JSONL record. On failure says what is missing in *problem.
bool TextOfRecord(const simdjson::dom::object& record, const DocumentOptions& options, std::string* text,
                  std::string* problem) {
  text->clear();
  for (size_t i = 0; i < options.text_keys.size(); ++i) {
    std::string_view value;
    const std::string& key = options.text_keys[i];
    const simdjson::error_code error = record.at_key(key).get_string().get(value);
    if (error != simdjson::SUCCESS) {
      *problem = absl::StrCat("the field ", Quoted(key),
                              error == simdjson::NO_SUCH_FIELD ? " is missing" : " is not a text");
      return false;
    }
    if (i > 0) text->append(options.key_separator);
    text->append(value);
  }
  return true;
}

// Fixes which field is the text, by the first record.
absl::Status ChooseKey(const simdjson::dom::object& record, const std::string& place,
                       DocumentOptions* options) {
  for (const char* key : {"text", "content"}) {
    if (record.at_key(key).is_string()) {
      options->text_keys = {key};
      return absl::OkStatus();
    }
  }
  std::string keys;
  for (const auto field : record) {
    if (keys.size() < 200) absl::StrAppend(&keys, keys.empty() ? "" : ", ", Quoted(field.key));
  }
  return InvalidInput(
      "%s: the record has no field \"text\" or \"content\", but %s; name its text with --text-key", place,
      keys.empty() ? "no field at all" : keys);
}

}  // namespace

absl::Status DocumentReader::ReadJsonl(const std::string& path, DamageReport* damage, Sink sink,
                                       Progress progress) {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(path));
  LineReader lines(std::move(stream), options_.line_limit_bytes);
  simdjson::dom::parser parser(static_cast<size_t>(options_.line_limit_bytes) + simdjson::SIMDJSON_PADDING);
  LineReader::Line line;
  while (true) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) return absl::OkStatus();
    progress(lines.file_bytes_read());
    if (!line.too_long && IsBlank(line.text)) continue;
    ++damage->lines;
    if (const DamageReport::Reason reason = ByteDamage(line); reason != DamageReport::kReasons) {
      damage->Add(reason, path, line.number, ByteDetail(reason, line, options_.line_limit_bytes));
      continue;
    }
    simdjson::dom::object record;
    const simdjson::error_code error =
        parser.parse(line.text.data(), line.text.size()).get_object().get(record);
    if (error != simdjson::SUCCESS) {
      damage->Add(DamageReport::kBadJson, path, line.number, simdjson::error_message(error));
      continue;
    }
    if (options_.text_keys.empty()) {
      TANREN_RETURN_IF_ERROR(ChooseKey(record, absl::StrCat(path, ":", line.number), &options_));
    }
    DocumentPart document{"", true, true, line.number};
    std::string problem;
    if (!TextOfRecord(record, options_, &document.text, &problem)) {
      damage->Add(DamageReport::kNoText, path, line.number, problem);
    } else if (document.text.find('\0') != std::string::npos) {
      damage->Add(DamageReport::kNulByte, path, line.number, "the text holds \\u0000");
    } else if (!document.text.empty()) {
      TANREN_RETURN_IF_ERROR(sink(std::move(document)));
    }
  }
}

}  // namespace tanren
