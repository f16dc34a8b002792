// Where tests find the shared data, and a directory of their own.
#ifndef TANREN_TESTS_CORE_TOKENIZER_TEST_DATA_H_
#define TANREN_TESTS_CORE_TOKENIZER_TEST_DATA_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

namespace tanren {

// $TANREN_DATA, by default ../shared/data of the project; empty when it is absent.
inline std::string DataDirectory() {
  const char* given = std::getenv("TANREN_DATA");
  const std::string path = given != nullptr ? given : std::string(TANREN_SOURCE_ROOT) + "/../shared/data";
  return std::filesystem::is_directory(path) ? path : "";
}

#define TANREN_NEED_DATA(directory)              \
  const std::string directory = DataDirectory(); \
  if (directory.empty()) GTEST_SKIP() << "no shared data: set TANREN_DATA to its directory"

inline bool Soak() {
  const char* soak = std::getenv("TANREN_SOAK");
  return soak != nullptr && std::string(soak) == "1";
}

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteAll(const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

// A fresh seed, printed so that a failure can be repeated with TANREN_SEED.
inline uint64_t FreshSeed() {
  const char* given = std::getenv("TANREN_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

// Removed at the end of its scope.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tanren-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace tanren

#endif  // TANREN_TESTS_CORE_TOKENIZER_TEST_DATA_H_
