#include "core/report/environment.h"

#include <sched.h>

#include <fstream>

#include "core/report/build_info.h"
#include "core/report/machine_info.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

using nlohmann::json;

TEST(BuildInfo, NamesThisBinary) {
  const BuildInfo& build = ThisBuild();
  EXPECT_THAT(build.version, testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_NE(build.compile_flags, "");
  EXPECT_THAT(build.compiler, testing::MatchesRegex("(GCC|Clang) [0-9].*"));
  // The linker's hash, looked for in the file itself by another way: its bytes stand behind the note's name.
  ASSERT_GE(build.build_id.size(), 16);
  const std::string program = ReadAll("/proc/self/exe");
  std::string bytes;
  for (size_t i = 0; i < build.build_id.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(build.build_id.substr(i, 2), nullptr, 16));
  }
  EXPECT_NE(program.find(std::string("GNU\0", 4) + bytes), std::string::npos);
}

TEST(MachineInfo, DescribesThisMachine) {
  const MachineInfo machine = ThisMachine();
  EXPECT_EQ(machine.hostname, HostName());
  EXPECT_THAT(machine.system, testing::HasSubstr("Linux "));
  EXPECT_GE(machine.cores_online, 1);
  EXPECT_GE(machine.memory_bytes, int64_t{64} << 20);

  cpu_set_t former, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof(former), &former), 0);
  EXPECT_EQ(machine.cores_usable, CPU_COUNT(&former));
  CPU_ZERO(&one);
  for (int core = 0; CPU_COUNT(&one) == 0; ++core) {
    if (CPU_ISSET(core, &former)) CPU_SET(core, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(ThisMachine().cores_usable, 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(former), &former), 0);
}

TEST(Environment, SaysWhatTheRunRanWith) {
  const TemporaryDirectory run;
  EnvironmentFacts facts;
  facts.command = {"tanren", "train", "a\x1b[2Jb\n", "\xff"};
  facts.ranks = 2;
  facts.threads = 3;
  facts.libraries = {{"Open MPI", "4.1.4"}};
  const absl::Status status = WriteEnvironment(run.path(), facts);
  ASSERT_TRUE(status.ok()) << status;
  const json document = json::parse(ReadAll(run / "env.json"));
  EXPECT_EQ(document.at("command"), (json{"tanren", "train", "a\\x1b[2Jb\\n", "\\xff"}));
  EXPECT_EQ(document.at("ranks"), 2);
  EXPECT_EQ(document.at("threads"), 3);
  EXPECT_EQ(document.at("build").at("version"), ThisBuild().version);
  EXPECT_EQ(document.at("machine").at("hostname"), HostName());
  EXPECT_EQ(document.at("libraries").at("Open MPI"), "4.1.4");
  EXPECT_TRUE(document.at("libraries").contains("protobuf"));
  EXPECT_THAT(document.at("start_time").get<std::string>(), testing::MatchesRegex("20[0-9-]{8}T[0-9:]{8}Z"));
  EXPECT_EQ(document.at("earlier"), json::array());
}

TEST(Environment, KeepsEarlierStarts) {
  const TemporaryDirectory run;
  for (int start = 0; start <= 103; ++start) {
    EnvironmentFacts facts;
    facts.resumed_step = 10 * start;
    ASSERT_TRUE(WriteEnvironment(run.path(), facts).ok());
  }
  const json document = json::parse(ReadAll(run / "env.json"));
  EXPECT_EQ(document.at("resumed_step"), 1030);
  ASSERT_EQ(document.at("earlier").size(), 100);
  EXPECT_EQ(document.at("earlier").front().at("resumed_step"), 30);
  EXPECT_EQ(document.at("earlier").back().at("resumed_step"), 1020);
  EXPECT_FALSE(document.at("earlier").back().contains("earlier"));
}

TEST(Environment, ADamagedFormerFileStopsNoRun) {
  for (const char* former : {"", "{\"start", "[1]", "{\"earlier\":3}"}) {
    const TemporaryDirectory run;
    WriteAll(run / "env.json", former);
    const absl::Status status = WriteEnvironment(run.path(), {});
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(json::parse(ReadAll(run / "env.json")).at("ranks"), 1) << former;
  }
  const absl::Status status = WriteEnvironment("/nonexistent/run", {});
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("/nonexistent/run"));
}

}  // namespace
}  // namespace tanren
