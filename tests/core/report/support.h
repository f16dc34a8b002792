// Temporary directories and files for the tests of reports.
#ifndef TANREN_TESTS_CORE_REPORT_SUPPORT_H_
#define TANREN_TESTS_CORE_REPORT_SUPPORT_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace tanren {

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_(testing::TempDir() + "/report_test_XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline void WriteAll(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

// A file in memory that takes what is written to a descriptor.
class CapturedOutput {
 public:
  CapturedOutput() : fd_(memfd_create("output", 0)) {}
  ~CapturedOutput() { close(fd_); }

  int fd() const { return fd_; }
  std::string Text() const {
    std::string text(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
    if (pread(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) std::abort();
    return text;
  }
  // What came since the last call.
  std::string Take() {
    const std::string text = Text().substr(taken_);
    taken_ += text.size();
    return text;
  }

 private:
  int fd_;
  size_t taken_ = 0;
};

}  // namespace tanren

#endif  // TANREN_TESTS_CORE_REPORT_SUPPORT_H_
