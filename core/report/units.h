// Figures for people: short, of even width, never wrong by more than their last digit.
#ifndef TANREN_CORE_REPORT_UNITS_H_
#define TANREN_CORE_REPORT_UNITS_H_

#include <cstdint>
#include <string>

namespace tanren {

// "-" for what is unknown (NaN, infinite or negative).
std::string FormatCount(double count);       // 999, 12.3k, 1.23M, 4.56G, 7.89T
std::string FormatBytes(double bytes);       // 512 B, 1.50 KiB, 12.3 MiB, 139 GiB
std::string FormatDuration(double seconds);  // 0:00:05, 1:02:03, from a day on 3d 04h

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_UNITS_H_
