// The same steps for each message that people write as YAML: a run, a suite, a pipeline.
#ifndef TANREN_CORE_CONFIG_CHECKED_H_
#define TANREN_CORE_CONFIG_CHECKED_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/config/error_report.h"
#include "core/config/loader.h"
#include "core/config/rules.h"
#include "core/config/text.h"

namespace tanren::config {

// Between values that are each in their range.
template <typename Message>
using RuleCheck = void (*)(const Message&, ErrorReport*);

// What `read` has the loader fill in, or InvalidArgument with all errors at once: types, ranges, required
// keys, rules. `name` stands for the whole in errors.
template <typename Message>
absl::StatusOr<Message> LoadChecked(const std::string& name, const std::function<void(Loader*)>& read,
                                    RuleCheck<Message> check_rules) {
  Message message;
  ErrorReport report(Printable(name, 200));
  Loader loader(&message, &report);
  read(&loader);
  CheckRequired(message, &report);
  check_rules(message, &report);
  if (absl::Status status = report.ToStatus(); !status.ok()) return status;
  return message;
}

// A message that was not read from YAML.
template <typename Message>
absl::Status ValidateChecked(const Message& message, RuleCheck<Message> check_rules) {
  ErrorReport report("");
  CheckValues(message, &report);
  CheckRequired(message, &report);
  // Rules compute with the values, so they wait until each is in its range.
  if (absl::Status status = report.ToStatus(); !status.ok()) return status;
  check_rules(message, &report);
  return report.ToStatus();
}

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_CHECKED_H_
