#include "core/report/samples_log.h"

#include "core/base/status.h"
#include "core/config/text.h"
#include "nlohmann/json.hpp"

namespace tanren {

absl::StatusOr<SamplesLog> SamplesLog::Open(const std::string& run_directory, int64_t resumed_step) {
  TANREN_ASSIGN_OR_RETURN(JsonLinesFile file,
                          JsonLinesFile::Open(run_directory + "/samples.jsonl", resumed_step));
  return SamplesLog(std::move(file));
}

absl::Status SamplesLog::Write(const Sample& sample) {
  nlohmann::ordered_json object;
  object["step"] = sample.step;
  object["prompt"] = sample.prompt;
  object["completion"] = sample.completion;
  object["tokens"] = sample.tokens;
  return file_.Append(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string FormatSample(const Sample& sample) {
  return absl::StrCat("sample at step ", sample.step, ": ", config::Printable(sample.prompt, 160), " => ",
                      config::Printable(sample.completion, 320));
}

}  // namespace tanren
