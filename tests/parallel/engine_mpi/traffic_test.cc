// The traffic that is priced is the traffic there is: calls and bytes of a real step, by name, at every
// layout.
#include "core/estimate/traffic.h"

#include <map>
#include <tuple>

#include "core/loss/next_token.h"
#include "gtest/gtest.h"
#include "tests/parallel/engine_mpi/support.h"

namespace tanren {
namespace {

struct Count {
  int64_t calls = 0;
  int64_t bytes = 0;  // of whole tensors
  bool operator==(const Count&) const = default;
};
void PrintTo(const Count& count, std::ostream* out) {
  *out << count.calls << " calls, " << count.bytes << " bytes";
}
using Counts = std::map<std::string, Count>;

// Hands every call on, and counts it.
class CountingComm final : public Comm {
 public:
  explicit CountingComm(Comm& inner) : Comm(inner.axis(), inner.rank(), inner.size()), inner_(inner) {}

  void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) override {
    Add(name, count * SizeOf(data.dtype));
    inner_.AllReduce(stream, name, data, count, op);
  }
  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    Add(name, count * size() * SizeOf(in.dtype));
    inner_.ReduceScatter(stream, name, in, out, count);
  }
  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    Add(name, count * size() * SizeOf(in.dtype));
    inner_.AllGather(stream, name, in, out, count);
  }
  void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) override {
    inner_.Broadcast(stream, name, data, count, root);
  }
  void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) override {
    inner_.Send(stream, name, data, count, to);
  }
  void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) override {
    inner_.Recv(stream, name, data, count, from);
  }
  void Barrier(const char* name) override { inner_.Barrier(name); }

  Counts counts;

 private:
  void Add(const char* name, int64_t bytes) {
    if (size() == 1) return;  // nothing is sent
    ++counts[name].calls;
    counts[name].bytes += bytes;
  }

  Comm& inner_;
};

// Micro-batches without padding, every token but the last trained.
std::vector<MicroBatch> FullStep(int count, int vocab) {
  std::mt19937 random(3);
  std::vector<MicroBatch> batches(count);
  for (MicroBatch& batch : batches) {
    std::vector<Unit> units;
    for (int u = 0; u < 4; ++u) {
      Unit unit;
      unit.segment_lengths = {32};
      for (int t = 0; t < 32; ++t) {
        unit.ids.push_back(static_cast<int32_t>(random() % vocab));
        unit.targets.push_back(t + 1 < 32 ? static_cast<int32_t>(random() % vocab) : -1);
        unit.mask.push_back(t + 1 < 32);
      }
      units.push_back(std::move(unit));
    }
    TANREN_CHECK(PackMicroBatch(units, 128, &batch).ok());
  }
  return batches;
}

// Recomputation, and elastic gradients.
class TrafficTest : public testing::TestWithParam<std::tuple<Recompute, bool>> {};

TEST_P(TrafficTest, IsWhatAStepSends) {
  for (const ModelShape& shape : {Gpt2Shape(), Qwen3Shape()}) {
    SCOPED_TRACE(shape.family);
    const Mesh& real = TestRuntime().mesh();
    CountingComm data(*real.data), tensor(*real.tensor);
    Mesh mesh = real;
    mesh.data = &data;
    mesh.tensor = &tensor;
    ModelOptions model = MakeModel("policy", shape);
    std::tie(model.recompute, model.optimizer.elastic) = GetParam();
    const EngineOptions options = MakeOptions({model});
    const auto engine = MakeEngine(options, mesh);
    const auto batches = Deal(FullStep(4 * data.size(), static_cast<int>(shape.vocab_size)), mesh);
    // The first step of elastic gradients is computed twice.
    ASSERT_TRUE(engine->Train("policy", batches, NextTokenLoss(), 1e-3).ok());
    data.counts.clear();
    tensor.counts.clear();
    ASSERT_TRUE(engine->Train("policy", batches, NextTokenLoss(), 1e-3).ok());
    for (const char* small : {"normalizers", "loss sums"}) data.counts.erase(small);

    StepShape step;
    step.micro_batches = 4;
    step.tokens = 128;
    step.trained_tokens = 4 * 31;
    Counts expected_data, expected_tensor;
    for (const Traffic& one : TrainTraffic(model, options, mesh.shape, step)) {
      (one.axis == "data" ? expected_data : expected_tensor)[one.name] = {one.calls, one.tensor_bytes};
    }
    EXPECT_EQ(data.counts, expected_data);
    EXPECT_EQ(tensor.counts, expected_tensor);

    // Scoring: the forward pass and the statistics.
    tensor.counts.clear();
    ASSERT_TRUE(engine->Score("policy", batches[0], kLogp, false, 1).ok());
    step.micro_batches = 1;
    expected_tensor.clear();
    for (const Traffic& one : ScoreTraffic(model, options, mesh.shape, step)) {
      expected_tensor[one.name] = {one.calls, one.tensor_bytes};
    }
    EXPECT_EQ(tensor.counts, expected_tensor);
  }
}

INSTANTIATE_TEST_SUITE_P(Recomputing, TrafficTest,
                         testing::Combine(testing::Values(Recompute::kNone, Recompute::kSelective,
                                                          Recompute::kFull),
                                          testing::Bool()));

}  // namespace
}  // namespace tanren
