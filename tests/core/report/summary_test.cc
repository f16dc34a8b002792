#include "core/report/summary.h"

#include <cmath>

#include "core/report/run_figures.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Summary, IsReadBackAsItWasWritten) {
  const TemporaryDirectory run;
  const std::string path = run / "summary.json";
  StageSummary grpo{"grpo", 3, 4, std::nullopt, 0.75, 5};
  grpo.base_loss = 0.5;
  grpo.kl = 0.25;
  grpo.accuracy_harder = 0.125;
  grpo.majority = 1;
  grpo.best_of_n = 0;
  grpo.pair_accuracy = 0.625;
  ASSERT_TRUE(WriteSummary(path, {{"pretrain", 400, 819200, 1.25, 0.5, 93.5},
                                  {"sft", 7, int64_t{1} << 40, std::nullopt, NAN, 0.1},
                                  grpo})
                  .ok());
  EXPECT_EQ(json::parse(ReadAll(path)), json::parse(R"({"stages": [
      {"name": "pretrain", "steps": 400, "tokens": 819200, "validation_loss": 1.25, "base_validation_loss": null,
       "kl": null, "accuracy": 0.5, "accuracy_harder": null, "majority": null, "best_of_n": null,
       "pair_accuracy": null, "seconds": 93.5},
      {"name": "sft", "steps": 7, "tokens": 1099511627776, "validation_loss": null, "base_validation_loss": null,
       "kl": null, "accuracy": null, "accuracy_harder": null, "majority": null, "best_of_n": null,
       "pair_accuracy": null, "seconds": 0.1},
      {"name": "grpo", "steps": 3, "tokens": 4, "validation_loss": null, "base_validation_loss": 0.5, "kl": 0.25,
       "accuracy": 0.75, "accuracy_harder": 0.125, "majority": 1, "best_of_n": 0, "pair_accuracy": 0.625,
       "seconds": 5}]})"));
  const auto stages = ReadSummary(path);
  ASSERT_TRUE(stages.ok()) << stages.status();
  ASSERT_EQ(stages->size(), 3);
  EXPECT_EQ((*stages)[2].pair_accuracy, 0.625);
  EXPECT_EQ((*stages)[0].name, "pretrain");
  EXPECT_EQ((*stages)[0].validation_loss, 1.25);
  EXPECT_EQ((*stages)[1].tokens, int64_t{1} << 40);
  EXPECT_FALSE((*stages)[1].accuracy.has_value());
}

TEST(Summary, UpdateReplacesAStageOrAddsIt) {
  const TemporaryDirectory run;
  const std::string path = run / "summary.json";
  ASSERT_TRUE(UpdateSummary(path, {"pretrain", 1, 2, 3, 0.25, 5}).ok());
  ASSERT_TRUE(UpdateSummary(path, {"resume", 10, 20, 2, 0.5, 50}).ok());
  ASSERT_TRUE(UpdateSummary(path, {"pretrain", 9, 2, 3, 0.25, 5}).ok());
  const auto stages = ReadSummary(path);
  ASSERT_TRUE(stages.ok()) << stages.status();
  ASSERT_EQ(stages->size(), 2);
  EXPECT_EQ((*stages)[0].steps, 9);
  EXPECT_EQ((*stages)[1].name, "resume");
  const auto entries = std::filesystem::directory_iterator(run.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1) << "a temporary file stayed";
}

TEST(Summary, AFileThatIsNoSummaryIsLeftAlone) {
  for (const std::string former :
       {"", "{", "[]", "{}", R"({"stages": 3})", R"({"stages": [3]})",
        R"({"stages": [{"name": "a", "steps": 1}]})",
        R"({"stages": [{"name": "a", "steps": 1, "tokens": 2, "accuracy": "high"}]})"}) {
    const TemporaryDirectory run;
    const std::string path = run / "summary.json";
    WriteAll(path, former);
    const absl::Status status = UpdateSummary(path, {"pretrain", 1, 2, 3, 0.25, 5});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << former;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    EXPECT_EQ(ReadAll(path), former);
  }
}

TEST(Summary, ATableSaysIt) {
  std::vector<StageSummary> stages = {{"pretrain", 400, 819200, 1.25, 0.5, 93.5},
                                      {"x\x1b", 7, 12, std::nullopt, {}, NAN}};
  EXPECT_EQ(FormatSummary(stages),
            "stage      steps   tokens  validation_loss  accuracy     time\n"
            "pretrain     400     819k           1.2500     50.0%  0:01:34\n"
            "x\\x1b          7       12                -         -        -\n");
  stages[1].kl = 0.5;
  stages[0].best_of_n = 1;
  EXPECT_EQ(FormatSummary(stages),
            "stage      steps   tokens  validation_loss      kl  accuracy  best_by_rm     time\n"
            "pretrain     400     819k           1.2500       -     50.0%      100.0%  0:01:34\n"
            "x\\x1b          7       12                -  0.5000         -           -        -\n");
}

TEST(RunFigures, AreThoseOfTheNewestLines) {
  const TemporaryDirectory run;
  WriteAll(
      run / "metrics.jsonl",
      "{\"step\":10,\"loss\":4,\"tokens\":100,\"tokens_per_second\":5}\n{\"step\":10,\"validation_loss\":3}\n"
      "damaged\n{\"loss\":7}\n"
      "{\"step\":20,\"loss\":\"nan\",\"tokens\":4294967296200,\"reference_kl\":0.5}\n"
      "{\"step\":20,\"validation_loss\":2,\"validation_base_loss\":3,\"validation_accuracy\":0.25,"
      "\"validation_margin\":1}\n{\"step\":20,\"validation_accuracy\":0.75}\n{\"st");
  const auto all = ReadRunFigures(run.path());
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->step, 20);
  EXPECT_EQ(all->tokens, 4294967296200);
  EXPECT_FALSE(all->loss.has_value());
  EXPECT_EQ(all->validation_loss, 2);
  EXPECT_EQ(all->tokens_per_second, 5);
  EXPECT_EQ(all->base_loss, 3);
  EXPECT_EQ(all->reference_kl, 0.5);
  EXPECT_EQ(all->pair_accuracy, 0.25) << "the accuracy of answers is not one of pairs";
  const auto first = ReadRunFigures(run.path(), 19);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->step, 10);
  EXPECT_EQ(first->tokens, 100);
  EXPECT_EQ(first->loss, 4);
  EXPECT_EQ(first->validation_loss, 3);
}

TEST(RunFigures, SayWhatIsMissing) {
  const TemporaryDirectory run;
  EXPECT_EQ(ReadRunFigures(run.path()).status().code(), absl::StatusCode::kNotFound);
  WriteAll(run / "metrics.jsonl", "{\"st");
  const auto empty = ReadRunFigures(run.path());
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("metrics.jsonl"));
}

}  // namespace
}  // namespace tanren
