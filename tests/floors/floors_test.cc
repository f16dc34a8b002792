#include <filesystem>
#include <fstream>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/floors/includes.h"

namespace tanren::floors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Floors, NoArrowOfThisTreeRunsUp) {
  const Report report = CheckTree(TANREN_SOURCE_ROOT);
  // A test that looked at the wrong folder would find nothing wrong either.
  EXPECT_GT(report.files, 100);
  EXPECT_GT(report.includes, 500);
  EXPECT_TRUE(report.violations.empty()) << absl::StrJoin(report.violations, "\n");
}

TEST(Floors, EachFloorSeesItselfAndWhatIsBelow) {
  const std::vector<std::string> floors = {"kernels", "core", "parallel", "stages", "launch"};
  const bool allowed[5][5] = {
      // kernels core parallel stages launch: from the row, including the column
      {true, false, false, false, false}, {true, true, false, false, false}, {true, true, true, false, false},
      {true, true, false, true, false},   {true, true, true, true, true},
  };
  for (size_t from = 0; from < floors.size(); ++from) {
    for (size_t to = 0; to < floors.size(); ++to) {
      const std::string reason = ReasonAgainst(floors[from] + "/a/x.cc", floors[to] + "/b/y.h");
      EXPECT_EQ(reason.empty(), allowed[from][to]) << floors[from] << " -> " << floors[to] << ": " << reason;
    }
    EXPECT_THAT(ReasonAgainst(floors[from] + "/x.cc", "tests/y.h"), HasSubstr("tests"));
    EXPECT_EQ(ReasonAgainst(floors[from] + "/x.cc", "absl/status/status.h"), "");
    EXPECT_EQ(ReasonAgainst(floors[from] + "/x.cc", "vector"), "");
    const bool knows_mpi = floors[from] == "parallel" || floors[from] == "launch";
    EXPECT_EQ(ReasonAgainst(floors[from] + "/x.cc", "mpi.h").empty(), knows_mpi) << floors[from];
  }
  EXPECT_THAT(ReasonAgainst("core/a/x.cc", "../../launch/y.h"), HasSubstr("root"));
}

TEST(Floors, ReadsEveryWayToWriteAnInclude) {
  EXPECT_EQ(IncludedPath("#include \"core/a.h\""), "core/a.h");
  EXPECT_EQ(IncludedPath("  #  include   <launch/a.h>  // why"), "launch/a.h");
  EXPECT_EQ(IncludedPath("\t#include\"core/a.h\"\r"), "core/a.h");
  EXPECT_EQ(IncludedPath("import public \"core/proto/options.proto\";"), "core/proto/options.proto");
  EXPECT_EQ(IncludedPath("// #include \"launch/a.h\""), "");
  EXPECT_EQ(IncludedPath("#include HWY_TARGET_INCLUDE"), "");
  EXPECT_EQ(IncludedPath("important(\"launch/a.h\");"), "");
  EXPECT_EQ(IncludedPath(""), "");
}

TEST(Floors, FindsAPlantedViolation) {
  const std::filesystem::path root = std::filesystem::path(testing::TempDir()) / "floors_test_tree";
  std::filesystem::remove_all(root);
  const auto plant = [&](const char* file, const char* text) {
    std::filesystem::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  plant("kernels/cpu/good.cc", "#include \"kernels/types.h\"\n#include <vector>\n");
  plant("kernels/cpu/up.cu", "// header\n#include \"core/base/status.h\"\n");
  plant("core/a/up.h", "\n\n#include \"stages/a.h\"\n");
  plant("core/a/up.proto", "import \"launch/a.proto\";\n");
  plant("parallel/across.cc", "#include \"stages/a.h\"\n");
  plant("launch/good.cc", "#include \"stages/a.h\"\n#include \"parallel/a.h\"\n#include <mpi.h>\n");
  plant("launch/notes.md", "#include \"tests/a.h\"\n");
  const Report report = CheckTree(root.string());
  std::filesystem::remove_all(root);
  EXPECT_EQ(report.files, 6);
  EXPECT_THAT(report.violations,
              ElementsAre(StartsWith("core/a/up.h:3: "), StartsWith("core/a/up.proto:1: "),
                          StartsWith("kernels/cpu/up.cu:2: "), StartsWith("parallel/across.cc:1: ")));
}

}  // namespace
}  // namespace tanren::floors
