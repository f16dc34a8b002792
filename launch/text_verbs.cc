#include "launch/text_verbs.h"

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

std::string PrintableText(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = DecodeUtf8(text, i);
    const uint32_t c = character.code_point;
    const bool control = (c < 0x20 && c != '\n' && c != '\t') || (c >= 0x7F && c < 0xA0);
    const bool reorders =
        (c >= 0x200E && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
    const size_t bytes = std::max(character.bytes, 1);
    if (character.bytes > 0 && !control && !reorders) {
      shown.append(text.substr(i, bytes));
    } else {
      for (size_t k = 0; k < bytes; ++k) {
        absl::StrAppend(&shown, "\\x", absl::Hex(static_cast<unsigned char>(text[i + k]), absl::kZeroPad2));
      }
    }
    i += bytes;
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
  for (const std::string& example : damage.examples) std::printf("  %s\n", PrintableText(example).c_str());
}

void StageProgress::Show(const char* stage, int64_t done, int64_t total) {
  if (stage_ != stage) {
    stage_ = stage;
    progress_.reset();
    ProgressOptions options;
    options.label = stage_;
    options.total = total;
    if (stage_ == "merging") {
      options.item = "merges";
    } else {
      options.unit = ProgressOptions::Unit::kBytes;
    }
    progress_ = std::make_unique<Progress>(&Console::Standard(), options);
  }
  progress_->Set(done);
}

}  // namespace tanren
