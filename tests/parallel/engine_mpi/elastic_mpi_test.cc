// Elastic gradients: a run is the same, bit for bit, at any number of data ranks.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "core/loss/next_token.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parallel/engine_mpi/support.h"
#include "tests/parallel/engine_mpi/toy_losses.h"

namespace tanren {
namespace {

// All bits that a step can tell.
struct Told {
  double loss, norm, weight;
  bool skipped, repeated;
  bool operator==(const Told&) const = default;
};

void PrintTo(const Told& told, std::ostream* out) {
  *out << "loss " << told.loss << " norm " << told.norm << (told.skipped ? " skipped" : "")
       << (told.repeated ? " repeated" : "");
}

// The tensor group of this rank as a job of its own: one data rank that sees the whole step.
class OneDataRank {
 public:
  OneDataRank() : data_(MakeSoloComm("data")) {
    mesh_ = TestRuntime().mesh();
    mesh_.shape.data = 1;
    mesh_.data = data_.get();
    mesh_.world = mesh_.tensor;
  }
  const Mesh& mesh() const { return mesh_; }

 private:
  std::unique_ptr<Comm> data_;
  Mesh mesh_;
};

EngineOptions Options(const ModelShape& shape, bool elastic = true) {
  ModelOptions model = MakeModel("policy", shape);
  model.optimizer.elastic = elastic;
  return MakeOptions({model});
}

class Elastic : public testing::Test {
 protected:
  static const Mesh& mesh() { return TestRuntime().mesh(); }

  // Step `number`: micro-batches whose count changes, so that ranks have unequal shares and none.
  static std::vector<MicroBatch> Step(int number) {
    return MakeStep(1 + (number * 3) % 7, 61, 500 + static_cast<uint32_t>(number));
  }

  static std::vector<Told> Train(Engine& engine, int begin, int end, const Loss& loss = NextTokenLoss()) {
    std::vector<Told> all;
    for (int step = begin; step < end; ++step) {
      const auto batches = Deal(Step(step), engine.mesh());
      const auto result = engine.Train("policy", batches, loss, 3e-3);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) return all;
      all.push_back({result->loss, result->gradient_norm, result->normalizers.trained_weight, result->skipped,
                     result->repeated});
    }
    return all;
  }

  // Every piece of the state that this rank of `many` owns has the same bits in `single`, whose ranks own
  // whole boxes.
  static void ExpectSameState(Engine& many, Engine& single) {
    const std::unique_ptr<StateAccess> mine = many.State("policy"), whole = single.State("policy");
    for (const StatePiece& piece : mine->pieces()) {
      const auto same_box = [&](const StatePiece& other) {
        return other.name == piece.name && other.role == piece.role && other.box_begin == piece.box_begin;
      };
      const auto box = std::ranges::find_if(whole->pieces(), same_box);
      ASSERT_NE(box, whole->pieces().end()) << piece.name;
      ASSERT_EQ(box->range_begin, 0);
      ASSERT_GE(box->range_end, piece.range_end);
      const int64_t bytes = (piece.range_end - piece.range_begin) * SizeOf(piece.data.dtype);
      EXPECT_EQ(std::memcmp(piece.data.data, box->data.At(piece.range_begin).data, bytes), 0)
          << piece.name << ", role " << static_cast<int>(piece.role);
    }
  }

  static uint64_t Digest(Engine& engine) { return engine.DigestWeights("policy").own; }
};

TEST_F(Elastic, EqualsOneDataRankBitForBit) {
  OneDataRank one;
  for (const ModelShape& shape : {Gpt2Shape(), Qwen3Shape()}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      for (const DType moments : {DType::kF32, DType::kBF16}) {
        EngineOptions options = Options(shape);
        options.models[0].dtype = dtype;
        options.models[0].optimizer.moments = moments;
        const auto many = MakeEngine(options, mesh()), single = MakeEngine(options, one.mesh());
        EXPECT_EQ(Train(*many, 0, 12), Train(*single, 0, 12));
        ExpectSameState(*many, *single);
        EXPECT_EQ(many->gradient_ranges("policy"), single->gradient_ranges("policy"));
      }
    }
  }
}

// The plain sums are not: or nothing above would show anything.
TEST_F(Elastic, IsWhatMakesThemEqual) {
  if (mesh().data->size() < 3) GTEST_SKIP() << "sums of two numbers do not depend on their order";
  OneDataRank one;
  const EngineOptions options = Options(Qwen3Shape(), /*elastic=*/false);
  const auto many = MakeEngine(options, mesh()), single = MakeEngine(options, one.mesh());
  EXPECT_NE(Train(*many, 0, 12), Train(*single, 0, 12));
}

TEST_F(Elastic, LearnsAsThePlainSumsDo) {
  const auto elastic = MakeEngine(Options(Qwen3Shape()), mesh());
  const auto plain = MakeEngine(Options(Qwen3Shape(), /*elastic=*/false), mesh());
  const std::vector<Told> expected = Train(*plain, 0, 20), actual = Train(*elastic, 0, 20);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i].loss, expected[i].loss, 1e-5 * expected[i].loss) << i;
    EXPECT_NEAR(actual[i].norm, expected[i].norm, 1e-4 * expected[i].norm) << i;
    EXPECT_EQ(actual[i].repeated, i == 0) << i;  // the first step finds the ranges
  }
  EXPECT_LT(actual.back().loss, actual.front().loss);
}

// The ranges go with the weights: what goes on elsewhere goes on as if nothing had happened.
TEST_F(Elastic, GoesOnWithItsRanges) {
  OneDataRank one;
  const auto whole = MakeEngine(Options(Qwen3Shape()), mesh());
  Train(*whole, 0, 6);
  const auto moved = MakeEngine(Options(Qwen3Shape()), one.mesh());
  Train(*moved, 0, 6);
  EXPECT_TRUE(moved->set_gradient_ranges("policy", "").ok());  // lost
  EXPECT_TRUE(moved->set_gradient_ranges("policy", whole->gradient_ranges("policy")).ok());
  const std::vector<Told> rest = Train(*whole, 6, 12);
  EXPECT_EQ(Train(*moved, 6, 12), rest);
  EXPECT_FALSE(rest[0].repeated);
  // Without them the step is computed twice, and is the same up to rounding.
  const auto lost = MakeEngine(Options(Qwen3Shape()), one.mesh());
  Train(*lost, 0, 6);
  EXPECT_TRUE(lost->set_gradient_ranges("policy", "").ok());
  const std::vector<Told> again = Train(*lost, 6, 12);
  EXPECT_TRUE(again[0].repeated);
  EXPECT_NEAR(again[0].norm, rest[0].norm, 1e-6 * rest[0].norm);
}

TEST_F(Elastic, RefusesRangesOfAnotherModel) {
  const auto engine = MakeEngine(Options(Qwen3Shape()), mesh());
  for (const char* text : {"final_norm.weight", "final_norm.weight x", "no.such.parameter 3",
                           "final_norm.weight 1 2", "final_norm.weight 4000000000"}) {
    const absl::Status status = engine->set_gradient_ranges("policy", text);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("names no parameter")) << text;
  }
}

// A loss that is a million times larger in one step: its terms do not fit, all ranks see it, and it is
// computed twice.
class Scaled final : public Loss {
 public:
  explicit Scaled(float factor) : factor_(factor) {}
  Coupling coupling() const override { return inner_.coupling(); }
  uint32_t statistics() const override { return inner_.statistics(); }
  const std::vector<std::string>& columns() const override { return inner_.columns(); }
  const std::vector<std::string>& segment_columns() const override { return inner_.segment_columns(); }
  const std::vector<std::string>& metrics() const override { return inner_.metrics(); }
  void Tokens(const Stream& stream, const TokenStatsView& stats, const Normalizers& normalizers,
              const TokenSeedsView& seeds, double* sums) const override {
    inner_.Tokens(stream, stats, normalizers, seeds, sums);
    for (int64_t i = 0; i < stats.count; ++i) seeds.logp[i] *= factor_;
  }
  void Segments(const Stream&, const SegmentStatsView&, const Normalizers&, const SegmentSeedsView&,
                double*) const override {}

 private:
  NextTokenLoss inner_;
  float factor_;
};

TEST_F(Elastic, ASpikeIsComputedTwiceAndIsTheSameEverywhere) {
  OneDataRank one;
  const auto many = MakeEngine(Options(Qwen3Shape()), mesh());
  const auto single = MakeEngine(Options(Qwen3Shape()), one.mesh());
  for (const auto& [begin, factor, repeated] : {std::tuple(0, 1.0f, true),
                                                {1, 1.0f, false},
                                                {2, 100.0f, false},
                                                {3, 1e-3f, true},
                                                {4, 1e6f, true},
                                                {5, 1.0f, true},  // or it would have few bits
                                                {6, 1.0f, false}}) {
    const std::vector<Told> told = Train(*many, begin, begin + 1, Scaled(factor));
    EXPECT_EQ(Train(*single, begin, begin + 1, Scaled(factor)), told);
    EXPECT_EQ(told[0].repeated, repeated) << begin;
    EXPECT_FALSE(told[0].skipped);
  }
  ExpectSameState(*many, *single);
}

TEST_F(Elastic, NotFiniteIsSkippedByAll) {
  const auto engine = MakeEngine(Options(Qwen3Shape()), mesh());
  Train(*engine, 0, 2);
  const std::string ranges = engine->gradient_ranges("policy");
  const uint64_t before = Digest(*engine);
  const std::vector<Told> told = Train(*engine, 2, 3, Scaled(std::numeric_limits<float>::infinity()));
  EXPECT_TRUE(told[0].skipped);
  EXPECT_FALSE(std::isfinite(told[0].norm));
  EXPECT_EQ(Digest(*engine), before);
  EXPECT_EQ(engine->gradient_ranges("policy"), ranges);
  EXPECT_FALSE(Train(*engine, 3, 4)[0].skipped);
}

TEST_F(Elastic, TakesEightBytesAParameter) {
  const auto bytes = [&](bool elastic) {
    const auto plan = PlanMemory(Options(Qwen3Shape(), elastic), mesh());
    EXPECT_TRUE(plan.ok());
    return plan->total_bytes;
  };
  const auto engine = MakeEngine(Options(Qwen3Shape()), mesh());
  const int64_t sums = 8 * engine->parameters("policy").flat_count();
  const int64_t more = bytes(true) - bytes(false);
  EXPECT_GE(more, sums);
  EXPECT_LT(more, sums + sums / 4 + 16384);
}

}  // namespace
}  // namespace tanren
