// What the data and tokenizer verbs share. Internal to them.
#ifndef TANREN_LAUNCH_TEXT_VERBS_H_
#define TANREN_LAUNCH_TEXT_VERBS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/corpus/documents.h"
#include "core/report/progress.h"
#include "core/tokenizer/tokenizer.h"
#include "launch/data_verbs.h"

namespace tanren {

// Prints "tanren: message" on stderr and returns exit code 2.
int WrongInput(const absl::Status& status);

absl::StatusOr<DocumentOptions> ToDocumentOptions(const TextInputOptions& options);

// A path, or "bytes" for the byte vocabulary.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerByName(const std::string& name);

// Text of unknown origin for a terminal, whole and with its lines: control characters other than line feed
// and tab, characters that reorder text, and bytes that are not UTF-8, are written as \xNN.
std::string PrintableText(std::string_view text);

void PrintDamage(const DamageReport& damage);

// Progress through named stages, one after the other; amounts are bytes except in the stage "merging".
class StageProgress {
 public:
  void Show(const char* stage, int64_t done, int64_t total);

 private:
  std::string stage_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_TEXT_VERBS_H_
