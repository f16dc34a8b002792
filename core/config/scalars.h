// The text of one scalar to a typed value, strictly.
//
// Every function returns an empty string and sets *value, or returns what is wrong, with the offending text
// made safe to print, and leaves *value alone.
#ifndef TANREN_CORE_CONFIG_SCALARS_H_
#define TANREN_CORE_CONFIG_SCALARS_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace tanren::config {

// Decimal digits with an optional sign, fraction and exponent whose value is whole: 12, -3, 1e6, 2.5e3.
// Leading zeros are refused, for YAML 1.1 programs read 010 as eight.
std::string ParseInteger(std::string_view text, int64_t* value);

// The same grammar, any finite value: 2e-5, .5, 3. A value that double cannot hold (1e999, 1e-999) is
// refused.
std::string ParseNumber(std::string_view text, double* value);

// true or false.
std::string ParseBoolean(std::string_view text, bool* value);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_SCALARS_H_
