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
#include "core/tokenizer/tokenizer.h"
#include "launch/data_verbs.h"

namespace tanren {

// Prints "tanren: message" on stderr and returns exit code 2.
int WrongInput(const absl::Status& status);

absl::StatusOr<DocumentOptions> ToDocumentOptions(const TextInputOptions& options);

// A path, or "bytes" for the byte vocabulary.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerByName(const std::string& name);

// Text of unknown origin for a terminal: control characters other than line feed and tab, and bytes that are not
// UTF-8, as \xNN.
std::string Printable(std::string_view text);

void PrintDamage(const DamageReport& damage);

// Progress on stderr: a line that is written over on a terminal, a line per tenth elsewhere.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  void Show(const char* stage, int64_t done, int64_t total);

 private:
  bool terminal_;
  std::string shown_;
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_TEXT_VERBS_H_
