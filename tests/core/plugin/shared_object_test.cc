// A plugin's file is judged without running it: what it defines, whose it is, and that damage is survived.
#include "core/plugin/shared_object.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/plugin/load.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

std::string Good() {
  std::ifstream in(TANREN_GOOD_PLUGIN, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::string Write(const std::string& bytes) {
  const std::string path =
      (std::filesystem::path(testing::TempDir()) / absl::StrCat("shared_object_test.", getpid(), ".so"))
          .string();
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// CheckPlugin's message about these bytes, "" when there is nothing to say.
std::string Judge(const std::string& bytes) {
  const auto object = SharedObject::Read(Write(bytes));
  return std::string(object.ok() ? CheckPlugin(*object).message() : object.status().message());
}

// The good plugin with its identity changed.
template <class Change>
std::string JudgeIdentity(Change change) {
  std::string bytes = Good();
  const PluginIdentity ours = CompiledIdentity();
  const size_t place = bytes.find(std::string(reinterpret_cast<const char*>(&ours), sizeof(ours)));
  EXPECT_NE(place, std::string::npos);
  PluginIdentity its = ours;
  change(&its);
  std::memcpy(bytes.data() + place, &its, sizeof(its));
  return Judge(bytes);
}

TEST(SharedObject, SeesWhatIsDefined) {
  const auto object = SharedObject::Read(TANREN_GOOD_PLUGIN);
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_THAT(object->StrongDefinitions(), Contains("_Z6Strongv"));
  EXPECT_THAT(object->StrongDefinitions(), Not(Contains("_Z6Inlinev")));
  EXPECT_THAT(object->StrongDefinitions(), Not(Contains(HasSubstr("AddStage"))));
  EXPECT_EQ(object->Data("tanren_plugin_identity", 14), std::string("tanren plugin\0", 14));
  EXPECT_EQ(object->Data("tanren_plugin_identity", sizeof(PluginIdentity) + 1), "");
  EXPECT_EQ(object->Data("no_such_symbol", 1), "");
}

TEST(SharedObject, APluginOfThisBuildIsTaken) { EXPECT_EQ(Judge(Good()), ""); }

TEST(SharedObject, AnotherIdentityIsRefused) {
  const auto set = [](auto& field, const char* text) { std::strncpy(field, text, sizeof(field)); };
  EXPECT_THAT(JudgeIdentity([&](PluginIdentity* its) { set(its->version, "9.8"); }),
              HasSubstr("is built for tanren 9.8, and this is tanren"));
  EXPECT_THAT(JudgeIdentity([&](PluginIdentity* its) { its->interface[3] ^= 1; }),
              HasSubstr("against other headers"));
  EXPECT_THAT(JudgeIdentity([&](PluginIdentity* its) { set(its->abi, "C++ ABI 1\x1b[2J"); }),
              HasSubstr("(C++ ABI 1\\x1b[2J), and this program by"));
  EXPECT_THAT(JudgeIdentity([&](PluginIdentity* its) { its->sizes[7] += 8; }), HasSubstr("layout of types"));
  EXPECT_THAT(JudgeIdentity([&](PluginIdentity* its) { its->format = 7; }), HasSubstr("format 7"));
  EXPECT_THAT(JudgeIdentity([&](PluginIdentity* its) { its->magic[0] = 'T'; }), HasSubstr("no plugin"));
  // Another compiler with the same layouts will do.
  EXPECT_EQ(JudgeIdentity([&](PluginIdentity* its) { set(its->compiler, "Clang 99"); }), "");
  // No field ends.
  EXPECT_THAT(
      JudgeIdentity([&](PluginIdentity* its) { std::memset(its->version, 'x', sizeof(its->version)); }),
      HasSubstr("is built for tanren xxx"));
}

TEST(SharedObject, WhatIsNoneIsRefused) {
  EXPECT_EQ(Judge(""), "is no shared object");
  EXPECT_EQ(Judge("plugins: [x]\n"), "is no shared object");
  EXPECT_EQ(Judge("!<arch>\n"), "is a static library, not a shared object");
  std::string bytes = Good();
  bytes[18] = 99;  // e_machine
  EXPECT_EQ(Judge(bytes), "is built for another processor than this program");
  bytes = Good();
  bytes[16] = 1;  // e_type
  EXPECT_EQ(Judge(bytes), "is no shared object but a compiled file; link it with -shared");
  EXPECT_EQ(SharedObject::Read("/no/such/file.so").status().message(), "there is no such file");
  EXPECT_EQ(SharedObject::Read("/tmp").status().message(), "is no file");
}

TEST(SharedObject, CutFilesAreRefused) {
  const std::string whole = Good();
  for (size_t i = 0; i < 40; ++i) EXPECT_NE(Judge(whole.substr(0, whole.size() * i / 40)), "") << i;
}

TEST(SharedObject, DamageIsSurvived) {
  const unsigned seed = std::random_device{}();
  std::mt19937 random(seed);
  SCOPED_TRACE(seed);
  const std::string whole = Good();
  for (int i = 0; i < 300; ++i) {
    std::string bytes = whole;
    // Where the headers are, at the beginning and at the end, and anywhere.
    for (int k = 0; k < 4; ++k) {
      const size_t range = i % 3 == 0 ? 64 : i % 3 == 1 ? 2000 : bytes.size();
      const size_t place = random() % range;
      bytes[i % 2 == 0 ? place : bytes.size() - 1 - place] = static_cast<char>(random());
    }
    Judge(bytes);
  }
}

}  // namespace
}  // namespace tanren
