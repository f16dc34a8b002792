// Every communicator for CPU memory, one body: results against a naive fold in rank order, bit for bit, and
// against double. Bit equality with one reference on every rank is also equality between ranks, repeats and
// implementations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/comm/comm.h"
#include "parallel/comm/make_comm.h"

namespace tanren {
namespace {

uint64_t base_seed = 0;

struct Implementation {
  const char* name;
  bool shared_memory;
  bool crowded;
  int threads;
};

// A function of seed, rank and index: every rank can recompute every other's input.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

template <class T>
T Input(uint64_t seed, int rank, int64_t i) {
  const uint64_t bits = Mix(seed ^ Mix(rank * 1'000'003u + static_cast<uint64_t>(i)));
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(bits);  // full range: sums wrap around
  } else {
    // Magnitudes over several powers of two, so that the order of additions shows in the bits.
    const double unit = static_cast<double>(bits >> 11) * 0x1p-52 - 1;
    return static_cast<T>(static_cast<float>(std::ldexp(unit, static_cast<int>(bits % 12))));
  }
}

template <class T>
std::vector<T> Inputs(uint64_t seed, int rank, int64_t begin, int64_t count) {
  std::vector<T> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = Input<T>(seed, rank, begin + i);
  return values;
}

double ToDouble(BFloat16 value) { return static_cast<float>(value); }
template <class T>
double ToDouble(T value) {
  return static_cast<double>(value);
}

// The contract, naively: a fold from rank 0 upwards, bf16 carried in float.
template <class T>
T Fold(uint64_t seed, int size, int64_t i, ReduceOp op) {
  using Carry = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;
  Carry carry = static_cast<Carry>(Input<T>(seed, 0, i));
  for (int rank = 1; rank < size; ++rank) {
    const Carry next = static_cast<Carry>(Input<T>(seed, rank, i));
    if (op == ReduceOp::kMax) {
      carry = std::max(carry, next);
    } else if (op == ReduceOp::kMin) {
      carry = std::min(carry, next);
    } else if constexpr (std::is_integral_v<T>) {
      carry = static_cast<T>(static_cast<uint64_t>(carry) + static_cast<uint64_t>(next));
    } else {
      carry = carry + next;
    }
  }
  return static_cast<T>(carry);
}

template <class T>
void Poison(std::vector<T>& values) {
  if (!values.empty()) std::memset(static_cast<void*>(values.data()), 0xff, values.size() * sizeof(T));
}

template <class T>
bool SameBits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

class CollectivesTest : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    CommOptions options;
    options.crowded = GetParam().crowded;
    options.threads = GetParam().threads;
    if (GetParam().shared_memory) {
      auto comm = MakeSharedMemoryComm(MPI_COMM_WORLD, "world", options);
      ASSERT_TRUE(comm.ok()) << comm.status().message();
      comm_ = *std::move(comm);
    } else {
      comm_ = MakeMpiComm(MPI_COMM_WORLD, "world", options);
    }
    rank_ = comm_->rank();
    size_ = comm_->size();
  }

  // Zero, one, less than a rank's share, primes, around staging sizes (64 Ki floats), several chunks, and
  // random.
  std::vector<int64_t> Counts() {
    std::vector<int64_t> counts = {0,    1,    2,    3,     63,    64,    65,     1009,
                                   2048, 8192, 8193, 65535, 65536, 65537, 270'001};
    std::mt19937_64 random(base_seed);
    for (int i = 0; i < 3; ++i) counts.push_back(static_cast<int64_t>(random() % 100'000));
    return counts;
  }

  template <class T>
  void TestAllReduce(int64_t count, ReduceOp op) {
    const uint64_t seed = base_seed + count;
    std::vector<T> data = Inputs<T>(seed, rank_, 0, count);
    comm_->AllReduce(stream_, "all-reduce", data.data(), count, op);
    int64_t wrong = 0;
    double difference = 0, magnitude = 1e-300;
    for (int64_t i = 0; i < count; ++i) {
      wrong += !SameBits(data[i], Fold<T>(seed, size_, i, op));
      if (op != ReduceOp::kSum || std::is_integral_v<T>) continue;
      double exact = 0;
      for (int r = 0; r < size_; ++r) exact += ToDouble(Input<T>(seed, r, i));
      difference += std::pow(ToDouble(data[i]) - exact, 2);
      magnitude += exact * exact;
    }
    EXPECT_EQ(wrong, 0) << NameOf(kDTypeOf<T>) << " of " << count;
    // One rounding of bf16 (8 bits), or a few of fp32 and fp64.
    const double bound = sizeof(T) == 2 ? 4e-3 : sizeof(T) == 4 ? 1e-6 : 1e-14;
    EXPECT_LE(std::sqrt(difference / magnitude), bound) << NameOf(kDTypeOf<T>);
  }

  template <class T>
  void TestReduceScatter(int64_t count, bool in_place) {
    const uint64_t seed = base_seed + 7 * count;
    std::vector<T> in = Inputs<T>(seed, rank_, 0, count * size_);
    std::vector<T> out(count);
    Poison(out);
    T* target = in_place ? in.data() + rank_ * count : out.data();
    comm_->ReduceScatter(stream_, "reduce-scatter", in.data(), target, count);
    int64_t wrong = 0, changed = 0;
    for (int64_t i = 0; i < count; ++i) {
      wrong += !SameBits(target[i], Fold<T>(seed, size_, rank_ * count + i, ReduceOp::kSum));
    }
    for (int64_t i = 0; i < count * size_; ++i) {
      const bool is_out = in_place && i / count == rank_;
      changed += !is_out && !SameBits(in[i], Input<T>(seed, rank_, i));
    }
    EXPECT_EQ(wrong, 0) << NameOf(kDTypeOf<T>) << " of " << count << " in place " << in_place;
    EXPECT_EQ(changed, 0) << NameOf(kDTypeOf<T>) << " of " << count << " in place " << in_place;
  }

  template <class T>
  void TestAllGather(int64_t count, bool in_place) {
    const uint64_t seed = base_seed + 13 * count;
    const std::vector<T> in = Inputs<T>(seed, rank_, 0, count);
    std::vector<T> out(count * size_);
    Poison(out);
    if (in_place) std::copy(in.begin(), in.end(), out.begin() + rank_ * count);
    comm_->AllGather(stream_, "all-gather", in_place ? out.data() + rank_ * count : in.data(), out.data(),
                     count);
    int64_t wrong = 0;
    for (int64_t i = 0; i < count * size_; ++i)
      wrong += !SameBits(out[i], Input<T>(seed, static_cast<int>(i / count), i % count));
    EXPECT_EQ(wrong, 0) << NameOf(kDTypeOf<T>) << " of " << count << " in place " << in_place;
  }

  template <class T>
  void TestBroadcast(int64_t count, int root) {
    const uint64_t seed = base_seed + 17 * count;
    std::vector<T> data(count);
    Poison(data);
    if (rank_ == root) data = Inputs<T>(seed, root, 0, count);
    comm_->Broadcast(stream_, "broadcast", data.data(), count, root);
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; ++i) wrong += !SameBits(data[i], Input<T>(seed, root, i));
    EXPECT_EQ(wrong, 0) << NameOf(kDTypeOf<T>) << " of " << count << " from " << root;
  }

  std::unique_ptr<Comm> comm_;
  Stream stream_;
  int rank_ = 0;
  int size_ = 0;
};

TEST_P(CollectivesTest, SumsInRankOrder) {
  for (const int64_t count : Counts()) {
    TestAllReduce<float>(count, ReduceOp::kSum);
    TestAllReduce<BFloat16>(count, ReduceOp::kSum);
  }
  for (const int64_t count : {0, 1, 1009, 65'537, 140'001}) {
    TestAllReduce<double>(count, ReduceOp::kSum);
    TestAllReduce<int32_t>(count, ReduceOp::kSum);
    TestAllReduce<int64_t>(count, ReduceOp::kSum);
    TestAllReduce<uint8_t>(count, ReduceOp::kSum);
  }
}

TEST_P(CollectivesTest, MaximaAndMinima) {
  for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin}) {
    for (const int64_t count : {0, 1, 1009, 65'537}) {
      TestAllReduce<float>(count, op);
      TestAllReduce<BFloat16>(count, op);
      TestAllReduce<double>(count, op);
      TestAllReduce<int32_t>(count, op);
      TestAllReduce<int64_t>(count, op);
      TestAllReduce<uint8_t>(count, op);
    }
  }
}

TEST_P(CollectivesTest, NotANumberSurvivesMaximum) {
  for (int bad = 0; bad < size_; ++bad) {
    for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin, ReduceOp::kSum}) {
      std::vector<float> data(37, static_cast<float>(rank_));
      std::vector<BFloat16> half(37, BFloat16(static_cast<float>(rank_)));
      if (rank_ == bad) {
        data[5] = std::numeric_limits<float>::quiet_NaN();
        half[5] = BFloat16(data[5]);
      }
      comm_->AllReduce(stream_, "nan", data.data(), 37, op);
      comm_->AllReduce(stream_, "nan", half.data(), 37, op);
      EXPECT_TRUE(std::isnan(data[5])) << "from rank " << bad;
      EXPECT_TRUE(std::isnan(static_cast<float>(half[5]))) << "from rank " << bad;
      EXPECT_FALSE(std::isnan(data[4]));
    }
  }
}

TEST_P(CollectivesTest, ReduceScatter) {
  for (const bool in_place : {false, true}) {
    for (const int64_t count : Counts()) TestReduceScatter<float>(count / 2, in_place);
    for (const int64_t count : {0, 1, 1009, 40'009}) {
      TestReduceScatter<BFloat16>(count, in_place);
      TestReduceScatter<double>(count, in_place);
      TestReduceScatter<int64_t>(count, in_place);
      TestReduceScatter<uint8_t>(count, in_place);
    }
  }
}

TEST_P(CollectivesTest, AllGather) {
  for (const bool in_place : {false, true}) {
    for (const int64_t count : Counts()) TestAllGather<float>(count / 2, in_place);
    TestAllGather<uint8_t>(1'300'003, in_place);  // large enough for stores past the cache
    TestAllGather<BFloat16>(1009, in_place);
    TestAllGather<int64_t>(70'001, in_place);
  }
}

TEST_P(CollectivesTest, BroadcastFromEveryRank) {
  for (int root = 0; root < size_; ++root) {
    for (const int64_t count : {0, 1, 1009, 65'536, 65'537}) TestBroadcast<float>(count, root);
    TestBroadcast<uint8_t>(4'200'011, root);
  }
}

TEST_P(CollectivesTest, SendAndReceiveInOrder) {
  const int next = (rank_ + 1) % size_, previous = (rank_ + size_ - 1) % size_;
  for (const int64_t count : {0, 1, 1009, 800'003}) {
    for (int repeat = 0; repeat < 2; ++repeat) {
      const std::vector<float> out = Inputs<float>(base_seed + repeat, rank_, 0, count);
      std::vector<float> in(count);
      Poison(in);
      // Rank 0 receives last, so that the ring does not wait in a circle.
      if (rank_ > 0) comm_->Recv(stream_, "ring", in.data(), count, previous);
      comm_->Send(stream_, "ring", out.data(), count, next);
      if (rank_ == 0) comm_->Recv(stream_, "ring", in.data(), count, previous);
      EXPECT_EQ(in, Inputs<float>(base_seed + repeat, previous, 0, count));
    }
  }
}

// Slots, headers and message tags are reused across collectives: any order must do, with ranks out of step.
TEST_P(CollectivesTest, RandomRowOfCollectives) {
  std::mt19937_64 random(base_seed + 1);
  for (int i = 0; i < 200; ++i) {
    const int64_t large = static_cast<int64_t>(random() % 70'000);
    const int64_t count = random() % 6 == 0 ? large : large % 300;
    const int root = static_cast<int>(random() % size_);
    const bool in_place = random() % 2 == 0;
    if (static_cast<int>(random() % 16) == rank_) sched_yield();
    switch (random() % 6) {
      case 0:
        TestAllReduce<float>(count, ReduceOp::kSum);
        break;
      case 1:
        TestAllReduce<BFloat16>(count, ReduceOp::kSum);
        break;
      case 2:
        TestReduceScatter<float>(count, in_place);
        break;
      case 3:
        TestAllGather<float>(count, in_place);
        break;
      case 4:
        TestBroadcast<float>(count, root);
        break;
      case 5:
        comm_->Barrier("barrier");
        break;
    }
  }
}

TEST_P(CollectivesTest, BarrierHoldsBackTheFast) {
  auto now = [] {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);  // one clock for all processes of the machine
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const int slow = size_ - 1;
  if (rank_ == slow) {
    const timespec pause{0, 250'000'000};  // past the spinning and yielding, into the naps
    nanosleep(&pause, nullptr);
  }
  double arrival = now();
  comm_->Barrier("barrier");
  const double departure = now();
  comm_->Broadcast(stream_, "arrival", &arrival, 1, slow);
  EXPECT_GE(departure, arrival);
}

TEST_P(CollectivesTest, AgreementAndStrings) {
  EXPECT_TRUE(AgreeStatus(*comm_, "fine", absl::OkStatus()).ok());
  // Two failing ranks: the lower one's error wins everywhere.
  const absl::Status local = rank_ >= size_ - 2 && rank_ > 0
                                 ? absl::NotFoundError("shard " + std::to_string(rank_) + " is missing")
                                 : absl::OkStatus();
  const absl::Status agreed = AgreeStatus(*comm_, "shards", local);
  const std::string first = std::to_string(std::max(1, size_ - 2));
  EXPECT_EQ(agreed.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(agreed.message(), "rank " + first + ": shard " + first + " is missing");

  for (int root = 0; root < size_; ++root) {
    const std::string text =
        std::string(1, '\0') + "from " + std::to_string(root) + std::string(100'000 * root, 'x');
    EXPECT_EQ(BroadcastString(*comm_, "text", rank_ == root ? text : "other", root), text);
  }
  std::vector<std::string> expected;
  for (int r = 0; r < size_; ++r) expected.push_back(std::string(r * 70'001, static_cast<char>('a' + r)));
  EXPECT_EQ(AllGatherStrings(*comm_, "texts", expected[rank_]), expected);
}

TEST_P(CollectivesTest, MoreThanTwoToThe31Elements) {
  if (std::getenv("TANREN_TEST_LARGE") == nullptr) {
    GTEST_SKIP() << "takes 2.1 GB a rank; set TANREN_TEST_LARGE=1";
  }
  const int64_t count = (int64_t{1} << 31) + 12'347;
  std::vector<uint8_t> data(count);
  for (int64_t i = 0; i < count; ++i) data[i] = static_cast<uint8_t>(i % 101 + rank_);
  comm_->AllReduce(stream_, "large", data.data(), count, ReduceOp::kSum);
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    wrong += data[i] != static_cast<uint8_t>(size_ * (i % 101) + size_ * (size_ - 1) / 2);
  }
  EXPECT_EQ(wrong, 0);
  if (rank_ != 0) std::fill(data.begin(), data.end(), 0);
  comm_->Broadcast(stream_, "large", data.data(), count, 0);
  EXPECT_EQ(data[count - 1], static_cast<uint8_t>(size_ * ((count - 1) % 101) + size_ * (size_ - 1) / 2));
}

INSTANTIATE_TEST_SUITE_P(All, CollectivesTest,
                         ::testing::Values(Implementation{"SharedMemory", true, false, 1},
                                           Implementation{"SharedMemoryCrowdedThreads", true, true, 3},
                                           Implementation{"Mpi", false, true, 1}),
                         [](const auto& info) { return std::string(info.param.name); });

// The factory's choice, and groups that are part of the world.
TEST(MakeCommTest, SubgroupsAndForcedChoices) {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm group = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &group);
  for (const char* choice : {"", "mpi", "shm"}) {
    setenv("TANREN_COMM", choice, 1);
    auto comm = MakeComm(group, "data", CommOptions{.crowded = true});
    ASSERT_TRUE(comm.ok()) << comm.status().message();
    EXPECT_EQ((*comm)->size(), (size + 1 - rank % 2) / 2);
    EXPECT_EQ((*comm)->rank(), rank / 2);
    int64_t sum = rank;
    (*comm)->AllReduce(Stream{}, "ranks", &sum, 1, ReduceOp::kSum);
    int64_t expected = 0;
    for (int r = rank % 2; r < size; r += 2) expected += r;
    EXPECT_EQ(sum, expected);
  }
  setenv("TANREN_COMM", "pigeon", 1);
  const auto wrong = MakeComm(group, "data", CommOptions{});
  EXPECT_THAT(std::string(wrong.status().message()),
              ::testing::HasSubstr("TANREN_COMM=pigeon: expected mpi or shm"));
  unsetenv("TANREN_COMM");
  MPI_Comm_free(&group);
}

}  // namespace

// Ranks above 0 print failures only.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed()) {
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(), result.line_number(),
                   result.message());
    }
  }

 private:
  int rank_;
};

}  // namespace tanren

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const char* given = std::getenv("TANREN_TEST_SEED");
  uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  MPI_Bcast(&seed, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
  tanren::base_seed = seed;
  // Every rank runs and judges; one tells the tale, all report failures.
  if (rank == 0) std::printf("TANREN_TEST_SEED=%lu\n", static_cast<unsigned long>(seed));
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new tanren::FailurePrinter(rank));
  }
  int failed = RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
