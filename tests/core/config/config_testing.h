// What the tests of the config share.
#ifndef TANREN_TESTS_CORE_CONFIG_CONFIG_TESTING_H_
#define TANREN_TESTS_CORE_CONFIG_CONFIG_TESTING_H_

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/config/config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren::config {

inline constexpr char kModel[] = "model: {layers: 2, width: 64, heads: 4}\n";

// The whole message of the errors in run.yaml with this text; "" when there are none.
inline std::string ErrorsOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto config = LoadConfigText(text, "run.yaml", overrides);
  return config.ok() ? "" : std::string(config.status().message());
}

// The same for keys after a valid model on the first line, so that `text` starts on line 2.
inline std::string ErrorsAfterModel(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return ErrorsOf(kModel + text, overrides);
}

inline Config MustLoad(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto config = LoadConfigText(text, "run.yaml", overrides);
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : Config();
}

// An empty directory, removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tanren_config_XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = *this / name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

 private:
  std::string path_;
};

}  // namespace tanren::config

#endif  // TANREN_TESTS_CORE_CONFIG_CONFIG_TESTING_H_
