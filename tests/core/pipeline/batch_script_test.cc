#include "core/pipeline/batch_script.h"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/pipeline/shell.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kNasty = "a 'b' \"c\" $(touch bad) `touch bad` ; touch bad & \\ \n* ? # {x} ~ ! %j";

PlannedStage Training() {
  PlannedStage stage;
  stage.name = "sft";
  stage.kind = StageKind::kTrain;
  stage.directory = "runs/path/sft";
  stage.ranks = 4;
  stage.arguments = {"train", "sft.yaml", kNasty, "run_directory='runs/path/sft'"};
  stage.slurm.set_nodes(2);
  stage.slurm.set_partition("gpu");
  stage.slurm.set_signal_seconds(120);
  stage.slurm.set_time("4:00:00");
  stage.hash = std::string(64, 'a');
  return stage;
}

ScriptOptions Options(bool local = false) {
  ScriptOptions options;
  options.pipeline = "path";
  options.local = local;
  options.program = "/opt/tanren dir/tanren";
  options.working_directory = "/data/it's \"here\"";
  return options;
}

// What bash prints for `command`.
std::string Bash(const std::string& command) {
  const std::string script = testing::TempDir() + "/quoting.sh";
  std::ofstream(script) << command;
  FILE* pipe = popen(absl::StrCat("bash ", script, " 2>&1").c_str(), "r");
  std::string output;
  std::array<char, 256> text;
  while (const size_t count = fread(text.data(), 1, text.size(), pipe)) output.append(text.data(), count);
  pclose(pipe);
  return output;
}

TEST(ShellQuote, GivesBashExactlyTheText) {
  for (const std::string text :
       {"", "plain", "a b", kNasty, "'", "''", "\\", "-n", "A=b", "~/x", "\x80\xff", "\t"}) {
    EXPECT_EQ(Bash("printf %s " + ShellQuote(text)), text);
    EXPECT_EQ(Bash("printf '%s|' " + ShellJoin(std::vector<std::string>{text, "end"})), text + "|end|");
  }
  EXPECT_EQ(ShellQuote("runs/a.b-c_d@e:1,2=3"), "runs/a.b-c_d@e:1,2=3");
  EXPECT_EQ(YamlQuote("it's"), "'it''s'");
}

TEST(StageScript, HandsEveryArgumentOnAsItIs) {
  // The function `start` of the script, with the launcher replaced by a printer of its arguments.
  for (const bool local : {false, true}) {
    std::string script = StageScript(Training(), Options(local));
    const size_t begin = script.find("start() {"), end = script.find("\n}\n", begin);
    ASSERT_NE(begin, std::string::npos);
    std::string function = script.substr(begin, end - begin + 3);
    const std::string launcher = local ? "exec '/opt/tanren dir/tanren'" : "exec srun";
    const size_t at = function.find(launcher);
    ASSERT_NE(at, std::string::npos) << function;
    function.replace(at, launcher.size(), "printf '%s|'");
    EXPECT_THAT(Bash(function + "start"),
                HasSubstr(absl::StrCat("train|sft.yaml|", kNasty, "|run_directory='runs/path/sft'|")));
  }
}

TEST(StageScript, AsksForWhatTheStageNeeds) {
  const std::string script = StageScript(Training(), Options());
  for (const char* line :
       {"#SBATCH --job-name=path.sft\n", "#SBATCH --chdir=\"/data/it's \\\"here\\\"\"\n",
        "#SBATCH --open-mode=append\n", "#SBATCH --requeue\n", "#SBATCH --signal=B:USR1@120\n",
        "#SBATCH --partition=gpu\n", "#SBATCH --nodes=2\n", "#SBATCH --ntasks=4\n",
        "#SBATCH --time=4:00:00\n", "runs/path/sft/job.log\"\n"}) {
    EXPECT_THAT(script, HasSubstr(line));
  }
  EXPECT_TRUE(script.starts_with("#!/bin/bash\n"));
  EXPECT_THAT(
      script,
      HasSubstr("exec srun --ntasks=\"$ranks\" --mpi=pmix --kill-on-bad-exit=0 --wait=30 '/opt/tanren "
                "dir/tanren' train"));
  const std::string local = StageScript(Training(), Options(true));
  EXPECT_THAT(local, Not(HasSubstr("#SBATCH")));
  EXPECT_THAT(local, HasSubstr("launch -n \"$ranks\" train sft.yaml"));
}

// What SLURM 22.05 was seen to say of its nodes.
TEST(StageScript, TakesTheRanksThatAreGranted) {
  const std::string script = StageScript(Training(), Options());
  const size_t begin = script.find("ranks="), end = script.find("\nsaves=", begin);
  ASSERT_NE(end, std::string::npos);
  const std::string line = script.substr(begin, end - begin);
  for (const auto& [nodes, ranks] :
       {std::pair("2", "2"), {"2(x3)", "6"}, {"2,1", "3"}, {"8(x2),1,3(x10)", "47"}}) {
    EXPECT_EQ(Bash(absl::StrCat("SLURM_TASKS_PER_NODE='", nodes, "'\n", line, "\necho -n $ranks")), ranks);
  }
  EXPECT_EQ(Bash("unset SLURM_TASKS_PER_NODE\n" + line + "\necho -n $ranks"), "4");
  EXPECT_THAT(StageScript(Training(), Options(true)), HasSubstr("\nranks=4\n"));
}

TEST(StageScript, KnowsLaunchersContainersAndEnvironment) {
  PlannedStage stage = Training();
  stage.slurm.set_launcher(config::SlurmConfig::mpirun);
  EXPECT_THAT(StageScript(stage, Options()),
              HasSubstr("exec '/opt/tanren dir/tanren' launch -n \"$ranks\" train"));
  stage = Training();
  stage.slurm.set_program("/usr/bin/tanren");
  stage.slurm.set_cpus_per_task(8);
  stage.slurm.mutable_container()->set_image("my image.sif");
  stage.slurm.mutable_container()->add_options("--nv");
  stage.slurm.add_environment("NCCL_DEBUG=it's");
  stage.slurm.add_prologue("module load cuda");
  const std::string apptainer = StageScript(stage, Options());
  EXPECT_THAT(apptainer,
              HasSubstr("--cpus-per-task=8 apptainer exec --nv 'my image.sif' /usr/bin/tanren train"));
  EXPECT_THAT(apptainer, HasSubstr("export OMP_NUM_THREADS=8\nexport NCCL_DEBUG='it'\\''s'\n"));
  EXPECT_THAT(apptainer, HasSubstr("\nmodule load cuda\n"));
  stage.slurm.mutable_container()->set_runtime(config::ContainerConfig::pyxis);
  EXPECT_THAT(StageScript(stage, Options()),
              HasSubstr("'--container-image=my image.sif' --nv /usr/bin/tanren train"));
}

TEST(StageScript, OtherWorkIsNotAskedToSave) {
  PlannedStage stage = Training();
  stage.kind = StageKind::kRun;
  stage.ranks = 1;
  stage.lines = {"echo 'one'", "echo two >two.txt"};
  const std::string script = StageScript(stage, Options());
  EXPECT_THAT(script, Not(HasSubstr("--signal")));
  EXPECT_THAT(script, HasSubstr("saves=no"));
  EXPECT_THAT(script, HasSubstr("exec bash -euo pipefail -c 'echo '\\''one'\\''\necho two >two.txt'"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --nodes=1\n"));
}

}  // namespace
}  // namespace tanren
