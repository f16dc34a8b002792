// From records to units: weights, several references, examples that are too long; and the mixture with
// replay.
#include "stages/common/example_units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/proto/config.pb.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "stages/common/unit_source.h"
#include "stages/sft/sft_stage.h"

namespace tanren {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

class ExampleUnitsTest : public testing::Test {
 protected:
  ExampleUnitsTest()
      : path_(absl::StrCat(testing::TempDir(), "/example_units_", getpid(), ".jsonl")),
        tokenizer_(*MakeByteTokenizer({"<|endoftext|>"})),
        chat_(*ChatTemplate::Make(ChatTemplateKind::kPlain, *tokenizer_)) {}
  ~ExampleUnitsTest() override { std::filesystem::remove(path_); }

  config::Config Load(const std::string& stage, const std::string& records, const std::string& more = "") {
    std::ofstream(path_) << records;
    const absl::StatusOr<config::Config> config = config::LoadConfigText(
        absl::StrCat(
            "model: {layers: 1, width: 32, heads: 2, context_length: 32}\nbatch: {micro_batch_tokens: 128",
            more, "}\nstage: ", stage, "\ndata: {examples: [{path: ", path_, "}]}\n"),
        "run.yaml");
    EXPECT_TRUE(config.ok()) << config.status();
    return config::Resolve(*config);
  }

  absl::StatusOr<std::vector<UnitSet>> Read(const config::Config& config) {
    reports_.clear();
    return ReadUnits(
        config, /*validation=*/false,
        [&](const Example& example, Unit* unit) { return MakeSftUnit(config, chat_, example, unit); },
        &reports_);
  }

  static std::vector<float> Weights(const Unit& unit) {
    const std::vector<float>* weights = unit.columns.Find("weight");
    return weights == nullptr ? std::vector<float>() : *weights;
  }

  std::string path_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ChatTemplate chat_;
  std::vector<UnitReport> reports_;
};

TEST_F(ExampleUnitsTest, AnInstructionCountsOnceHoweverManyAnswersItHas) {
  const config::Config config = Load("sft",
                                     R"({"prompt":"a","completion":"b"}
{"prompt":"a","completions":["b","c","d","e"],"weight":2}
{"prompt":"a","completion":"b","weight":0.5}
)");
  const auto sets = Read(config);
  ASSERT_TRUE(sets.ok()) << sets.status();
  const std::vector<Unit>& units = (*sets)[0].units;
  ASSERT_EQ(units.size(), 3u);
  EXPECT_EQ(units[1].segment_lengths.size(), 4u);
  EXPECT_THAT(Weights(units[0]), Each(1.0f));
  EXPECT_THAT(Weights(units[1]), Each(0.5f));  // 2 / 4
  EXPECT_THAT(Weights(units[2]), Each(0.5f));
  EXPECT_THAT(reports_[0].ToString(), Not(HasSubstr("has no effect")));
}

TEST_F(ExampleUnitsTest, SaysWhereWeightsDoNothing) {
  const std::string records = R"({"prompt":"a","completion":"b","weight":2}
{"prompt":"a","completion":"b"}
{"prompt":"a","completion":"b","weight":0.5}
)";
  for (const char* stage : {"rl", "preference", "reward_model"}) {
    ASSERT_TRUE(Read(Load(stage, records)).ok());
    EXPECT_THAT(reports_[0].ToString(), HasSubstr("the weight of 2 has no effect in this stage"));
  }
}

TEST_F(ExampleUnitsTest, ExamplesThatAreTooLongAreLeftOutAndCount) {
  const std::string records =
      absl::StrCat("{\"prompt\":\"", std::string(40, 'x'),
                   "\",\"completion\":\"b\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n");
  const auto refused = Read(Load("sft", records));
  EXPECT_THAT(std::string(refused.status().message()), AllOf(HasSubstr("1 of 2 examples are of no use"),
                                                             HasSubstr("longer than model.context_length")));
  const auto dropped = Read(Load("sft", records, ", oversize: drop"));
  ASSERT_TRUE(dropped.ok()) << dropped.status();
  EXPECT_EQ((*dropped)[0].units.size(), 1u);
  EXPECT_THAT(reports_[0].ToString(), HasSubstr("left out 1 (longer than model.context_length)"));
  // Others that are of no use still count.
  const auto damaged =
      Read(Load("sft", absl::StrCat(records, "{\"prompt\":\"a\",\"answer\":\"b\"}\n"), ", oversize: drop"));
  EXPECT_THAT(std::string(damaged.status().message()), HasSubstr("1 of 3 examples are of no use"));
}

// Units of one length.
class Lengths final : public Source {
 public:
  explicit Lengths(int64_t tokens) : tokens_(tokens) {}
  absl::StatusOr<UnitRef> Next() override {
    UnitRef ref;
    ref.index = taken_++;
    ref.tokens = tokens_;
    return ref;
  }
  absl::Status Load(const UnitRef& ref, Unit* unit) override {
    unit->ids.assign(ref.tokens, 0);
    return absl::OkStatus();
  }
  std::string SaveState() const override { return absl::StrCat(taken_); }
  absl::Status RestoreState(const std::string& state) override {
    taken_ = std::stoll(state);
    return absl::OkStatus();
  }
  int64_t taken() const { return taken_; }

 private:
  int64_t tokens_;
  int64_t taken_ = 0;
};

TEST(MixedSource, TheShareIsOfTokens) {
  for (const double share : {0.1, 0.25, 0.5}) {
    for (const auto& [one, two] : {std::pair<int64_t, int64_t>{10, 10}, {7, 100}, {100, 7}}) {
      Lengths first(one), second(two);
      MixedSource mixed(&first, &second, share);
      double tokens = 0, own = 0;
      for (int i = 0; i < 3000; ++i) {
        const absl::StatusOr<UnitRef> ref = mixed.Next();
        tokens += static_cast<double>(ref->tokens);
        Unit unit;
        ASSERT_TRUE(mixed.Load(*ref, &unit).ok());
        // Of the second source, and of it alone, units get a weight.
        if (unit.columns.Find("weight") != nullptr) own += static_cast<double>(ref->tokens);
        // Never off by more than a unit.
        EXPECT_LE(std::abs(own - share * tokens), static_cast<double>(std::max(one, two)));
      }
      EXPECT_EQ(own, static_cast<double>(second.taken() * two));
    }
  }
}

TEST(MixedSource, GoesOnWhereItWas) {
  Lengths first(3), second(5), first_again(3), second_again(5);
  MixedSource mixed(&first, &second, 0.3), again(&first_again, &second_again, 0.3);
  for (int i = 0; i < 17; ++i) ASSERT_TRUE(mixed.Next().ok());
  ASSERT_TRUE(again.RestoreState(mixed.SaveState()).ok());
  for (int i = 0; i < 50; ++i) {
    const absl::StatusOr<UnitRef> expected = mixed.Next(), got = again.Next();
    EXPECT_EQ(expected->key, got->key);
    EXPECT_EQ(expected->index, got->index);
    EXPECT_EQ(expected->tokens, got->tokens);
  }
}

}  // namespace
}  // namespace tanren
