#include "core/pipeline/pipeline.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPipeline = R"(name: path
home: runs/path
ranks: 4
slurm: {partition: gpu, time: 1:00:00, options: [--exclusive], prologue: [module load cuda]}
stages:
  - name: data
    run: [make data]
  - name: pretrain
    config: pretrain.yaml
  - name: sft
    config: sft.yaml
    inputs: [init.from=pretrain]
  - name: gate
    eval: suite.yaml
    inputs: [checkpoint=sft]
    ranks: 1
  - name: dpo
    config: dpo.yaml
    after: [gate]
    inputs: [init.from=sft, init.reference=sft]
    slurm: {partition: big, options: [--mem=0]}
)";

std::string ErrorOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto pipeline = LoadPipelineText(text, "p.yaml", overrides);
  return pipeline.ok() ? "" : std::string(pipeline.status().message());
}

TEST(LoadPipeline, ReadsKindsOrderRanksAndSettings) {
  const auto pipeline = LoadPipelineText(kPipeline, "p.yaml");
  ASSERT_TRUE(pipeline.ok()) << pipeline.status();
  EXPECT_EQ(KindOf(pipeline->stages(0)), StageKind::kRun);
  EXPECT_EQ(KindOf(pipeline->stages(1)), StageKind::kTrain);
  EXPECT_EQ(KindOf(pipeline->stages(3)), StageKind::kEval);
  EXPECT_THAT(NamedDependencies(*pipeline, 0), ElementsAre());
  EXPECT_THAT(NamedDependencies(*pipeline, 1), ElementsAre("data"));  // the stage before
  EXPECT_THAT(NamedDependencies(*pipeline, 4), ElementsAre("sft", "gate"));
  EXPECT_EQ(RanksOf(*pipeline, pipeline->stages(0)), 1);
  EXPECT_EQ(RanksOf(*pipeline, pipeline->stages(1)), 4);
  EXPECT_EQ(RanksOf(*pipeline, pipeline->stages(3)), 1);
  const config::SlurmConfig slurm = SlurmOf(*pipeline, pipeline->stages(4));
  EXPECT_EQ(slurm.partition(), "big");
  EXPECT_EQ(slurm.time(), "1:00:00");
  EXPECT_THAT(slurm.options(), ElementsAre("--mem=0"));  // a list is replaced as a whole
  EXPECT_THAT(slurm.prologue(), ElementsAre("module load cuda"));
}

TEST(LoadPipeline, NamesAllThatIsWrongWithItsPlace) {
  const std::string error = ErrorOf(
      "name: path\nhome: runs/path\nstages:\n  - name: a\n    confg: x.yaml\n    run: [x]\n  - name: b\n    "
      "config: b.yaml\n"
      "    slurm: {nodez: 2}\n");
  EXPECT_THAT(error, HasSubstr("p.yaml:5:5: stages.0.confg: unknown key; did you mean stages.0.config?"));
  EXPECT_THAT(
      error, HasSubstr("p.yaml:9:13: stages.1.slurm.nodez: unknown key; did you mean stages.1.slurm.nodes?"));
  EXPECT_THAT(ErrorOf("stages: [{name: a, run: [x]}]"), HasSubstr("home: is required"));
  EXPECT_THAT(ErrorOf("name: a\nhome: h\n"), HasSubstr("stages: has no stage"));
}

TEST(LoadPipeline, RefusesWrongOrder) {
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.2.inputs=[init.from=pretrian]"}),
              HasSubstr("there is no stage pretrian; did you mean pretrain?"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.1.after=[sft]", "stages.2.inputs=[]", "stages.2.after=[data]"}),
              HasSubstr("stage sft comes later; move it in front of this one"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.1.after=[dpo]"}),
              HasSubstr("stages pretrain and dpo wait for each other"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.1.after=[pretrain]"}), HasSubstr("cannot come after itself"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.2.inputs=[init.from]"}), HasSubstr("expected KEY=STAGE"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.2.name=pretrain"}),
              HasSubstr("pretrain is the name, and the directory, of an earlier stage too"));
}

TEST(LoadPipeline, RefusesStagesThatMakeNoSense) {
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.1.eval=suite.yaml"}), HasSubstr("stages.1: is 2 kinds of work"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.0.run=[]"}), HasSubstr("stages.0: is 0 kinds of work"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.0.overrides=[a=b]"}), HasSubstr("only config and eval have keys"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.0.ranks=2"}), HasSubstr("lines of bash run once"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.0.run=[]", "stages.0.command=[tanren, eval]"}),
              HasSubstr("begins with the verb"));
}

TEST(LoadPipeline, RefusesWhatAShellOrSbatchCouldMisread) {
  EXPECT_THAT(ErrorOf(kPipeline, {"home='a b'"}), HasSubstr("home: a b: only letters"));
  EXPECT_THAT(ErrorOf(kPipeline, {"home='$(x)'"}), HasSubstr("home: "));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.1.name=../x"}), HasSubstr("a name has"));
  EXPECT_THAT(ErrorOf(kPipeline, {"stages.1.name=-x"}), HasSubstr("a name has"));
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.partition='a b'"}), HasSubstr("slurm.partition: a b: a word"));
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.account='a\"; rm'"}), HasSubstr("slurm.account"));
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.time='1h'"}), HasSubstr("slurm.time: 1h: expected"));
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.options=[\"--a\\nrm -rf x\"]"}),
              HasSubstr("expected one option of sbatch"));
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.options=[exclusive]"}), HasSubstr("expected one option of sbatch"));
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.environment=['A B=c']"}), HasSubstr("expected NAME=value"));
  EXPECT_EQ(ErrorOf(kPipeline, {"slurm.environment=['A=b c; \"$d\"']"}), "");
}

TEST(LoadPipeline, ChecksPlacesOfRanks) {
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.nodes=2", "slurm.tasks_per_node=4"}),
              HasSubstr("stage pretrain: 2 nodes of 4 ranks are not its 4 ranks"));
  // Stages of one rank need one node whatever the pipeline says.
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.nodes=2", "slurm.tasks_per_node=4"}), Not(HasSubstr("stage data")));
  EXPECT_EQ(ErrorOf(kPipeline, {"slurm.nodes=2", "slurm.tasks_per_node=2"}), "");
  EXPECT_THAT(ErrorOf(kPipeline, {"slurm.launcher=mpirun", "slurm.container={image: a.sif}"}),
              HasSubstr("a container needs launcher srun"));
}

}  // namespace
}  // namespace tanren
