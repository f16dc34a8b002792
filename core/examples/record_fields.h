// Typed access to the fields of one JSON record, for parse_example.cc. Messages of errors begin with a short
// reason and ": ", by which a report counts them.
#ifndef TANREN_CORE_EXAMPLES_RECORD_FIELDS_H_
#define TANREN_CORE_EXAMPLES_RECORD_FIELDS_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/chat/message.h"
#include "core/examples/example.h"
#include "nlohmann/json.hpp"

namespace tanren {

using Json = nlohmann::json;

// Null when there is none, or it is null, which many exporters write for "nothing".
const Json* Field(const Json& record, const char* name);
// The first of several names that the record has.
const char* FirstOf(const Json& record, std::initializer_list<const char*> names);

absl::Status Missing(std::string_view name);
absl::Status WrongType(std::string_view name, std::string_view wanted, const Json& value);

// `name` is only what an error calls the value.
absl::StatusOr<std::string> TextOf(const Json& value, std::string_view name);
// As TextOf, refusing what is empty or white space only: nothing could be learnt from it.
absl::StatusOr<std::string> ResponseOf(const Json& value, std::string_view name);
absl::StatusOr<std::vector<std::string>> ResponsesOf(const Json& value, std::string_view name);

absl::StatusOr<std::string> RequiredText(const Json& record, const char* name);
// "" when there is none; numbers as they are written.
absl::StatusOr<std::string> OptionalTextOrNumber(const Json& record, const char* name);
absl::StatusOr<double> OptionalNumber(const Json& record, const char* name, double otherwise);

// A list of {role, content} or {from, value}.
absl::StatusOr<std::vector<Message>> MessagesOf(const Json& value, std::string_view name);

// Formats that compare answers (parse_comparison.cc). The prompt, if the record has one, is in *example
// already.
absl::Status ReadPreference(const Json& record, Example* example);
absl::Status ReadRanking(const Json& record, Example* example);
// Of responses with the same text the first is kept, and ranks are then without gaps: a pair of them says
// nothing, and the text would count twice against the others. InvalidArgument where their ranks differ, for
// no text is better than itself. `name` and its index are what an error calls a response.
absl::Status MergeEqualResponses(const std::string& name, Example* example);

bool IsBlankText(std::string_view text);

}  // namespace tanren

#endif  // TANREN_CORE_EXAMPLES_RECORD_FIELDS_H_
