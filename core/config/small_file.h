// Reads a text file that a person wrote, within a size limit.
#ifndef TANREN_CORE_CONFIG_SMALL_FILE_H_
#define TANREN_CORE_CONFIG_SMALL_FILE_H_

#include <cstddef>
#include <string>

namespace tanren::config {

// Reads the regular file `path` of at most `max_bytes` bytes into *text. Returns "" or what is wrong; never
// waits on a pipe and never reads more than the limit.
std::string ReadSmallFile(const std::string& path, size_t max_bytes, std::string* text);

}  // namespace tanren::config

#endif  // TANREN_CORE_CONFIG_SMALL_FILE_H_
