// What a reward model is trained and measured on, and what is stored with it: units of rankings, margins,
// calibration, the scale of its scores.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "core/base/status.h"
#include "core/comm/comm.h"
#include "core/config/config.h"
#include "core/proto/config.pb.h"
#include "core/trainer/setup.h"
#include "parallel/engine/mesh_engine.h"
#include "stages/common/pair_lengths.h"
#include "stages/preference/preference_stage.h"
#include "stages/reward_model/calibrated_loss.h"
#include "stages/reward_model/reward_model_stage.h"
#include "tests/core/tokenizer/test_data.h"
#include "tests/test_device.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// --- what is stored with the model
// ----------------------------------------------------------------------------

TEST(ScoreNormalizer, IsTheIdentityBeforeAnyScore) {
  const ScoreNormalizer none;
  EXPECT_EQ(none.mean(), 0);
  EXPECT_EQ(none.deviation(), 1);
  EXPECT_EQ(none.Normalised(-2.5), -2.5);
  const auto again = ScoreNormalizer::FromState(none.ToState());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->Normalised(-2.5), -2.5);
}

TEST(ScoreNormalizer, AveragesWithBiasCorrection) {
  ScoreNormalizer scale;
  ASSERT_TRUE(scale.Add(3, 9 + 4));
  // One step is all that is known, whatever its weight.
  EXPECT_NEAR(scale.mean(), 3, 1e-12);
  EXPECT_NEAR(scale.deviation(), 2, 1e-12);
  EXPECT_NEAR(scale.Normalised(7), 2, 1e-12);
  ASSERT_TRUE(scale.Add(5, 25 + 1));
  const double older = ScoreNormalizer::kDecay;  // against 1
  const double mean = (older * 3 + 5) / (older + 1);
  EXPECT_NEAR(scale.mean(), mean, 1e-12);
  EXPECT_NEAR(scale.deviation(), std::sqrt((older * 13 + 26) / (older + 1) - mean * mean), 1e-12);
  ScoreNormalizer constant;
  ASSERT_TRUE(constant.Add(3, 9));
  EXPECT_EQ(constant.deviation(), 1);
}

TEST(ScoreNormalizer, AStepThatIsNotFiniteLeavesItAsItIs) {
  ScoreNormalizer scale, undisturbed;
  ASSERT_TRUE(scale.Add(3, 13));
  ASSERT_TRUE(undisturbed.Add(3, 13));
  EXPECT_FALSE(scale.Add(kNan, kNan));
  EXPECT_FALSE(scale.Add(kInfinity, kInfinity));
  EXPECT_FALSE(scale.Add(1e30, kInfinity));  // scores whose squares overflow
  ASSERT_TRUE(scale.Add(-1, 2));
  ASSERT_TRUE(undisturbed.Add(-1, 2));
  EXPECT_EQ(scale.ToState(), undisturbed.ToState());
}

TEST(ScoreNormalizer, StateGoesRoundBitForBit) {
  ScoreNormalizer scale;
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(scale.Add(1.0 / (i + 3), 0.7 + 1.0 / (i + 1)));
  const auto again = ScoreNormalizer::FromState(scale.ToState());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->ToState(), scale.ToState());
  EXPECT_EQ(again->Normalised(0.3), scale.Normalised(0.3));
  // Float moments of one and the same score: a variance a little below 0.
  ScoreNormalizer rounded;
  ASSERT_TRUE(rounded.Add(1000, 1e6 - 0.1));
  EXPECT_TRUE(ScoreNormalizer::FromState(rounded.ToState()).ok());
  EXPECT_EQ(rounded.deviation(), 1);
}

TEST(ScoreNormalizer, RefusesAStateThatWouldPoisonEveryScore) {
  for (const std::string state : {"", "1 2", "1 2 x", "0.1 0.2 0.5 1"}) {
    const absl::Status refused = ScoreNormalizer::FromState(state).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << state;
    EXPECT_THAT(std::string(View(refused.message())),
                HasSubstr("normalisation \"" + state + "\" is damaged"));
  }
  for (const std::string state :
       {"nan nan 0.05", "0.1 inf 0.05", "0.1 0.2 inf", "0.1 0.2 nan", "0.1 0.2 -0.5", "0.1 0.2 0",
        "0.1 0.2 1e300", "1e300 1e300 1e-300", "0.5 0.1 0.5"}) {
    const absl::Status refused = ScoreNormalizer::FromState(state).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << state;
    EXPECT_THAT(std::string(View(refused.message())),
                HasSubstr("score normalisation \"" + state + "\" has a mean"));
    EXPECT_THAT(std::string(View(refused.message())), HasSubstr("take an earlier step"));
  }
  const absl::Status variance = ScoreNormalizer::FromState("0.5 0.1 0.5").status();
  EXPECT_THAT(std::string(View(variance.message())), HasSubstr("a mean of 1 and a variance of -0.8"));
  EXPECT_FALSE(RewardScale::FromState({{"stage.normalization", "nan nan 0.05"}}).ok());
}

// --- calibration
// ------------------------------------------------------------------------------------------------

// Units of rankings with scores, as a head gives them to a loss.
struct Scored {
  std::vector<int32_t> unit_segments = {0};
  std::vector<float> value, rank, margin, logp_sum, trained_tokens;

  void Add(const std::vector<float>& values, const std::vector<float>& ranks) {
    value.insert(value.end(), values.begin(), values.end());
    rank.insert(rank.end(), ranks.begin(), ranks.end());
    margin.resize(value.size(), 0);
    logp_sum.resize(value.size(), 0);
    trained_tokens.resize(value.size(), 1);
    unit_segments.push_back(static_cast<int32_t>(value.size()));
  }
  // The loss's sums over these units, of `units` of the step.
  std::vector<double> Sums(const Loss& loss, double units, bool likelihood = false) const {
    std::vector<const float*> columns;
    for (const std::string& name : loss.segment_columns()) {
      columns.push_back(name == "rank" ? rank.data() : margin.data());
    }
    SegmentStatsView view;
    view.units = static_cast<int64_t>(unit_segments.size()) - 1;
    view.unit_segments = unit_segments.data();
    view.logp_sum = likelihood ? logp_sum.data() : nullptr;
    view.trained_tokens = trained_tokens.data();
    view.value = value.data();
    view.segment_columns = columns.data();
    Normalizers normalizers;
    normalizers.units = units;
    std::vector<double> sums(1 + loss.metrics().size(), 0);
    loss.Segments(Stream(), view, normalizers, {}, sums.data());
    return sums;
  }
};

double FigureOf(const CalibratedLoss& loss, const std::vector<double>& sums, const std::string& name) {
  for (const Metric& figure : loss.Figures({sums.begin() + 1, sums.end()})) {
    if (figure.name == name) return figure.value;
  }
  ADD_FAILURE() << "no figure " << name;
  return kNan;
}

float Logit(double probability) { return static_cast<float>(std::log(probability / (1 - probability))); }

TEST(CalibratedLoss, ARankingCountsOnceAndTiesDoNot) {
  for (const auto kind : {config::RewardModelConfig::pairwise, config::RewardModelConfig::listwise}) {
    config::RewardModelConfig config;
    config.set_loss(kind);
    const std::unique_ptr<Loss> inner = MakeRewardLoss(config, std::nullopt);
    const CalibratedLoss loss(*inner, std::nullopt);
    Scored scored;
    scored.Add({Logit(0.925), 0}, {1, 2});        // right at 0.925
    scored.Add({0, Logit(0.625), 0}, {1, 2, 2});  // two pairs: wrong at 0.625, and equal
    const std::vector<double> sums = scored.Sums(loss, 2);
    const double brier = 0.5 * (0.075 * 0.075) + 0.25 * (0.625 * 0.625 + 0.25);
    EXPECT_NEAR(FigureOf(loss, sums, "brier"), brier, 1e-6);
    EXPECT_NEAR(FigureOf(loss, sums, "calibration_error"), 0.5 * 0.075 + 0.25 * 0.625, 1e-6);
    EXPECT_NEAR(FigureOf(loss, sums, "accuracy"), 0.5 + 0.25 * 0.5, 1e-6);
    // What it wraps is as it was.
    const std::vector<double> plain = scored.Sums(*inner, 2);
    for (size_t s = 0; s < plain.size(); ++s) EXPECT_EQ(sums[s], plain[s]) << s;
    EXPECT_EQ(loss.Figures({sums.begin() + 1, sums.end()}).size(), inner->metrics().size() + 2);
  }
}

// The data ranks' sums are added metric by metric before they become figures: an error of opposite signs in
// the same bin of two ranks cancels, as over one rank.
TEST(CalibratedLoss, FiguresOfSeveralRanksAreThoseOfOne) {
  const std::unique_ptr<Loss> inner = MakeRewardLoss(config::RewardModelConfig(), std::nullopt);
  const CalibratedLoss loss(*inner, std::nullopt);
  Scored whole, right, wrong;
  for (int i = 0; i < 3; ++i) {
    whole.Add({Logit(0.775), 0}, {1, 2});
    right.Add({Logit(0.775), 0}, {1, 2});
  }
  whole.Add({Logit(0.775), 0}, {2, 1});
  wrong.Add({Logit(0.775), 0}, {2, 1});
  const std::vector<double> all = whole.Sums(loss, 4), first = right.Sums(loss, 4),
                            second = wrong.Sums(loss, 4);
  std::vector<double> added(all.size());
  for (size_t s = 0; s < all.size(); ++s) added[s] = first[s] + second[s];
  for (const char* name : {"brier", "calibration_error", "accuracy"}) {
    EXPECT_NEAR(FigureOf(loss, added, name), FigureOf(loss, all, name), 1e-12) << name;
  }
  EXPECT_NEAR(FigureOf(loss, added, "calibration_error"), 0.025, 1e-6);
  // A mean of the ranks' own errors would be another figure.
  EXPECT_GT(FigureOf(loss, first, "calibration_error"), 0.2);
  Scored none;
  for (const double sum : none.Sums(loss, 4)) EXPECT_EQ(sum, 0);  // a rank without a micro-batch
}

TEST(CalibratedLoss, ScoresAreThoseOfTheLikelihoodTermToo) {
  const LikelihoodTerm term = HeadAndLikelihoodScore{0.5, /*mean=*/true};
  const std::unique_ptr<Loss> inner = MakeRewardLoss(config::RewardModelConfig(), term);
  const CalibratedLoss loss(*inner, term);
  Scored scored;
  scored.Add({1, 2}, {1, 2});
  scored.logp_sum = {-2, -24};
  scored.trained_tokens = {4, 6};  // 1 - 0.25 against 2 - 2
  const std::vector<double> sums = scored.Sums(loss, 1, /*likelihood=*/true);
  const double wrong = 1 / (1 + std::exp(0.75));
  EXPECT_NEAR(FigureOf(loss, sums, "brier"), wrong * wrong, 1e-6);
  EXPECT_NEAR(FigureOf(loss, sums, "margin"), 0.75, 1e-6);
}

TEST(CalibratedLoss, AScoreThatIsNotFiniteIsSeen) {
  const std::unique_ptr<Loss> inner = MakeRewardLoss(config::RewardModelConfig(), std::nullopt);
  const CalibratedLoss loss(*inner, std::nullopt);
  Scored scored;
  scored.Add({std::numeric_limits<float>::quiet_NaN(), 0}, {1, 2});
  const std::vector<double> sums = scored.Sums(loss, 1);
  EXPECT_TRUE(std::isnan(FigureOf(loss, sums, "brier")));
  EXPECT_TRUE(std::isnan(FigureOf(loss, sums, "calibration_error")));
}

// --- units, margins and lengths
// -------------------------------------------------------------------------------

class RankingUnits : public ::testing::Test {
 protected:
  void Load(const std::string& more, const std::string& examples) {
    WriteAll(directory_ / "examples.jsonl", examples);
    const std::string text =
        "model: {layers: 1, width: 16, heads: 2, mlp_width: 16, context_length: 128}\n"
        "batch: {micro_batch_tokens: 256, micro_batches: 2}\nchat: {template: chatml}\n"
        "data: {examples: [{path: examples.jsonl}]}\n" +
        more;
    const std::vector<std::string> place = {"data.examples.0.path=" + directory_ / "examples.jsonl"};
    absl::StatusOr<config::Config> config = config::LoadConfigText(text, "test.yaml", place);
    TANREN_CHECK_MSG(config.ok(), config.status().ToString());
    config_ = config::Resolve(*config);
    tokenizer_ = *TokenizerFromConfig(config_);
    chat_ = *ChatTemplateFromConfig(config_, *tokenizer_);
  }
  // Units as the config's stage makes them, and what it says of them.
  std::vector<UnitSet> Read() {
    const MakeUnit make = [&](const Example& example, Unit* unit) {
      if (config_.stage() == "reward_model") return MakeRankingUnit(config_, *chat_, example, unit);
      if (config_.preference().loss() == config::PreferenceConfig::kto)
        return MakeLabelledUnit(config_, *chat_, example, unit);
      return MakePairUnit(config_, *chat_, example, unit);
    };
    std::vector<UnitReport> reports;
    absl::StatusOr<std::vector<UnitSet>> sets = ReadUnits(config_, false, make, &reports);
    TANREN_CHECK_MSG(sets.ok(), sets.status().ToString());
    said_ = reports.at(0).ToString();
    return *std::move(sets);
  }

  TemporaryDirectory directory_;
  config::Config config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_;
  std::string said_;
};

constexpr const char* kMargins = R"({"prompt":"p","chosen":"good","rejected":"poor","margin":1.5}
{"prompt":"p","responses":["a","b","c"],"ranking":[2,1,2],"margin":-0.5}
{"prompt":"p","chosen":"right","rejected":"wrong"}
)";

TEST_F(RankingUnits, TheMarginOfARecordIsWhatItsPairsMustWinBy) {
  Load("stage: reward_model\n", kMargins);
  const std::vector<UnitSet> sets = Read();
  ASSERT_EQ(sets.size(), 1u);
  ASSERT_EQ(sets[0].units.size(), 3u);
  const auto column = [&](size_t unit, const char* name) {
    const std::vector<float>* values = sets[0].units[unit].segment_columns.Find(name);
    return values == nullptr ? std::vector<float>() : *values;
  };
  EXPECT_THAT(column(0, "rank"), ElementsAre(1, 2));
  EXPECT_THAT(column(0, "margin"), ElementsAre(1.5, 1.5));
  EXPECT_THAT(column(1, "rank"), ElementsAre(2, 1, 2));
  EXPECT_THAT(column(1, "margin"), ElementsAre(-0.5, -0.5, -0.5));
  EXPECT_THAT(column(2, "margin"), ElementsAre(0, 0));
  // Of equal scores the pairwise loss is then log(1 + e^margin), as it reads the columns by their names.
  const std::unique_ptr<Loss> loss = MakeRewardLoss(config_.reward_model(), std::nullopt);
  const double margins[] = {1.5, -0.5, 0};
  for (size_t u = 0; u < 3; ++u) {
    MicroBatch batch;
    const absl::Status packed = PackMicroBatch({sets[0].units[u]}, 256, &batch);
    ASSERT_TRUE(packed.ok()) << packed;
    Scored scored;
    scored.Add(std::vector<float>(batch.segments(), 0), *batch.segment_columns.Find("rank"));
    scored.margin = *batch.segment_columns.Find("margin");
    EXPECT_NEAR(scored.Sums(*loss, 1)[0], std::log1p(std::exp(margins[u])), 1e-6) << u;
  }
  EXPECT_THAT(said_, HasSubstr("2 units have a margin, 0.5 in the mean, from -0.5 to 1.5 (1 below 0"));
  EXPECT_THAT(said_, Not(HasSubstr("no effect")));
}

TEST_F(RankingUnits, MarginsThatNothingReadsAreSaidSo) {
  Load("stage: reward_model\nreward_model: {loss: listwise}\n", kMargins);
  Read();
  EXPECT_THAT(said_, HasSubstr("2 units have a margin"));
  EXPECT_THAT(said_, HasSubstr("which has no effect with reward_model.loss listwise"));
  EXPECT_THAT(said_, HasSubstr("reward_model.loss pairwise reads it"));
  Load("stage: preference\npreference: {loss: ipo}\n", kMargins);
  Read();
  EXPECT_THAT(said_, HasSubstr("which has no effect with preference.loss ipo"));
  Load("stage: preference\n", R"({"prompt":"p","chosen":"good","rejected":"poor"})");
  Read();
  EXPECT_THAT(said_, Not(HasSubstr("margin")));
}

// The chatml prompt of "p" and the ends are the same for all: lengths differ by the answers alone.
TEST_F(RankingUnits, LengthsOfBetterAndWorseAnswers) {
  const std::string records = R"({"prompt":"p","chosen":"1234","rejected":"12"}
{"prompt":"p","responses":["1","123","3"],"ranking":[2,1,2]}
{"prompt":"p","chosen":"a","rejected":"b"}
)";
  Load("stage: reward_model\n", records);
  const std::string rankings = PairLengths(Read());
  EXPECT_THAT(rankings, HasSubstr("4 pairs: the better answer has "));
  EXPECT_THAT(rankings, HasSubstr("\"longer is better\" would be right in 87.5 %"));
  Load("stage: preference\n", records);
  // Of a ranking the best answer against the worst.
  const std::string pairs = PairLengths(Read());
  EXPECT_THAT(pairs, HasSubstr("3 pairs: the better answer has "));
  EXPECT_THAT(pairs, HasSubstr("would be right in 83.3 %"));
  // Swapped, it shows.
  Load("stage: preference\n", R"({"prompt":"p","chosen":"12","rejected":"1234"})");
  EXPECT_THAT(PairLengths(Read()), HasSubstr("would be right in 0.0 %"));
  Load("stage: preference\npreference: {loss: kto}\n", R"({"prompt":"p","completion":"12345","label":true}
{"prompt":"p","completion":"123","label":true}
{"prompt":"p","completion":"1","label":false}
)");
  const std::vector<UnitSet> labelled = Read();
  const int32_t shortest = labelled[0].units[2].segment_lengths[0];
  EXPECT_EQ(PairLengths(labelled),
            absl::StrFormat("2 good answers, of %.1f tokens; 1 bad ones, of %.1f tokens (prompts included)",
                            shortest + 3.0, static_cast<double>(shortest)));
  EXPECT_EQ(PairLengths({}), "");
}

// --- the stage
// ----------------------------------------------------------------------------------------------------

class RewardStage : public RankingUnits {
 protected:
  RewardStage() {
    mesh_.stream = TestDeviceStream();
    mesh_.world = world_.get();
    mesh_.data = data_.get();
    mesh_.tensor = tensor_.get();
  }
  // A stage that validates on what it trains on.
  void Open(const std::string& more, const std::string& examples) {
    Load("stage: reward_model\n" + more, examples);
    config_.mutable_data()->add_validation_examples()->set_path(directory_ / "examples.jsonl");
    EngineOptions options = *EngineOptionsFromConfig(config_, tokenizer_->vocab_size());
    absl::Status opened = stage_.Declare(config_, *tokenizer_, &options);
    opened.Update(stage_.Open(config_, *tokenizer_, mesh_));
    TANREN_CHECK_MSG(opened.ok(), opened.ToString());
    absl::StatusOr<std::unique_ptr<Engine>> engine = MakeMeshEngine(options, mesh_, 0);
    TANREN_CHECK_MSG(engine.ok(), engine.status().ToString());
    engine_ = *std::move(engine);
  }

  std::unique_ptr<Comm> world_ = MakeSoloComm("world"), data_ = MakeSoloComm("data"),
                        tensor_ = MakeSoloComm("tensor");
  Mesh mesh_;
  RewardModelStage stage_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(RewardStage, ValidationMeasuresCalibrationOverAllMicroBatches) {
  std::string records;
  for (int i = 0; i < 20; ++i) {
    absl::StrAppend(&records, R"({"prompt":"p)", i, R"(","responses":["a)", 3 * i, R"(","bb","c)", i,
                    R"("],"ranking":[)", i % 2 + 1, ",1,2]}\n");
  }
  Open("", records);
  const auto validation = stage_.Validate(*engine_);
  ASSERT_TRUE(validation.ok()) << validation.status();
  PairCalibration expected;  // ranks 1, 1, 2 and 2, 1, 2 have two pairs each
  int64_t units = 0;
  for (const UnitSet& set : Read()) {
    for (const Unit& unit : set.units) {
      MicroBatch batch;
      ASSERT_TRUE(PackMicroBatch({unit}, 256, &batch).ok());
      const auto scores = engine_->Score("policy", batch, kValue, /*per_segment=*/true, 1);
      ASSERT_TRUE(scores.ok()) << scores.status();
      const std::vector<float>& rank = *unit.segment_columns.Find("rank");
      for (size_t i = 0; i < rank.size(); ++i) {
        for (size_t j = 0; j < rank.size(); ++j) {
          if (rank[i] >= rank[j]) continue;
          expected.Add(static_cast<double>(scores->segment_value[i]) - scores->segment_value[j]);
        }
      }
      ++units;
    }
  }
  ASSERT_EQ(units, 20);
  std::map<std::string, double> figures;
  std::vector<std::string> names;
  for (const Metric& metric : validation->metrics) {
    figures[metric.name] = metric.value;
    names.push_back(metric.name);
  }
  EXPECT_NEAR(figures["brier"], expected.brier(), 1e-6);
  EXPECT_NEAR(figures["calibration_error"], expected.error(), 1e-6);
  EXPECT_THAT(names, ElementsAre("loss", "accuracy", "margin", "reward_mean", "reward_square", "brier",
                                 "calibration_error"));
}

TEST_F(RewardStage, OneStepThatIsNotFiniteDoesNotPoisonTheStoredScale) {
  Open("", kMargins);
  const auto sound = stage_.Step(*engine_, 0, 1e-3);
  ASSERT_TRUE(sound.ok()) << sound.status();
  EXPECT_TRUE(sound->warnings.empty());
  const std::string before = stage_.SaveState().at("normalization");
  engine_->DamageWeightsForTest("policy", Engine::Damage::kNaN);
  const auto damaged = stage_.Step(*engine_, 1, 1e-3);
  ASSERT_TRUE(damaged.ok()) << damaged.status();
  EXPECT_THAT(damaged->warnings, ElementsAre(HasSubstr("the scores of the step have a mean of")));
  EXPECT_EQ(stage_.SaveState().at("normalization"), before);
  std::map<std::string, std::string> state = stage_.SaveState();
  state["normalization"] = "nan nan 0.05";
  EXPECT_TRUE(absl::IsInvalidArgument(stage_.RestoreState(state)));
}

}  // namespace
}  // namespace tanren
