#include "tests/core/checkpoint/testing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <barrier>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/base/status.h"

namespace tanren::testing {
namespace {

struct Meeting {
  explicit Meeting(int ranks) : barrier(ranks), posted(static_cast<size_t>(ranks)) {}
  std::barrier<> barrier;
  std::vector<const void*> posted;
};

// Collectives by looking into each other's memory between two barriers.
class ThreadComm final : public Comm {
 public:
  ThreadComm(int rank, int size, Meeting* meeting) : Comm("world", rank, size), meeting_(meeting) {}

  void AllReduce(const Stream&, const char*, Buffer data, int64_t count, ReduceOp op) override {
    if (data.dtype == DType::kI64) return Reduce<int64_t>(data, count, op);
    TANREN_CHECK(data.dtype == DType::kI32);
    Reduce<int32_t>(data, count, op);
  }
  void ReduceScatter(const Stream&, const char*, ConstBuffer, Buffer, int64_t) override {
    TANREN_CHECK(false);
  }
  void AllGather(const Stream&, const char*, ConstBuffer in, Buffer out, int64_t count) override {
    const size_t bytes = static_cast<size_t>(count * SizeOf(in.dtype));
    Post(in.data);
    for (int r = 0; r < size(); ++r) {
      if (bytes > 0)
        memcpy(static_cast<char*>(out.data) + static_cast<size_t>(r) * bytes, meeting_->posted[r], bytes);
    }
    meeting_->barrier.arrive_and_wait();
  }
  void Broadcast(const Stream&, const char*, Buffer data, int64_t count, int root) override {
    const size_t bytes = static_cast<size_t>(count * SizeOf(data.dtype));
    Post(data.data);
    if (rank() != root && bytes > 0) memcpy(data.data, meeting_->posted[root], bytes);
    meeting_->barrier.arrive_and_wait();
  }
  void Send(const Stream&, const char*, ConstBuffer, int64_t, int) override { TANREN_CHECK(false); }
  void Recv(const Stream&, const char*, Buffer, int64_t, int) override { TANREN_CHECK(false); }
  void Barrier(const char*) override { meeting_->barrier.arrive_and_wait(); }

 private:
  void Post(const void* data) {
    meeting_->posted[rank()] = data;
    meeting_->barrier.arrive_and_wait();
  }

  template <class T>
  void Reduce(Buffer data, int64_t count, ReduceOp op) {
    Post(data.data);
    std::vector<T> result(static_cast<size_t>(count));
    for (int r = 0; r < size(); ++r) {
      const T* other = static_cast<const T*>(meeting_->posted[r]);
      for (int64_t i = 0; i < count; ++i) {
        T& value = result[i];
        value = r == 0                 ? other[i]
                : op == ReduceOp::kSum ? value + other[i]
                : op == ReduceOp::kMax ? std::max(value, other[i])
                                       : std::min(value, other[i]);
      }
    }
    meeting_->barrier.arrive_and_wait();
    if (count > 0) memcpy(data.data, result.data(), result.size() * sizeof(T));
    meeting_->barrier.arrive_and_wait();
  }

  Meeting* meeting_;
};

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

Box ShardBox(const GlobalTensor& tensor, int tensor_ranks, int tensor_rank) {
  Box box = Box::Whole(tensor.info.shape);
  if (tensor.shard_dim < 0) return box;
  const int64_t size = tensor.info.shape[tensor.shard_dim], part = CeilDivide(size, tensor_ranks);
  const int64_t begin = std::min(size, part * tensor_rank), end = std::min(size, begin + part);
  box.offset[tensor.shard_dim] = begin;
  box.size[tensor.shard_dim] = end - begin;
  return box;
}

}  // namespace

ScratchDirectory::ScratchDirectory(Where where) {
  const bool memory = where == kMemory && access("/dev/shm", W_OK) == 0;
  const std::filesystem::path parent = memory ? "/dev/shm" : std::filesystem::temp_directory_path();
  std::string pattern = (parent / "tanren-test-XXXXXX").string();
  TANREN_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void OnRanks(int ranks, const std::function<void(Comm& world)>& body) {
  Meeting meeting(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      ThreadComm world(r, ranks, &meeting);
      body(world);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

void WriteFile(const std::string& path, const std::string& contents) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << contents;
  file.close();
  TANREN_CHECK(file.good());
}

uint64_t FreshSeed() {
  const char* fixed = getenv("TANREN_TEST_SEED");
  const uint64_t seed = fixed != nullptr ? strtoull(fixed, nullptr, 10) : std::random_device{}();
  printf("seed: TANREN_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

bool Soak() { return getenv("TANREN_SOAK") != nullptr; }

std::vector<GlobalTensor> RandomTensors(std::mt19937_64& random, int count) {
  constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64,
                              DType::kI32, DType::kI64,  DType::kU8};
  const char* const models[] = {"policy", "critic"};
  std::vector<GlobalTensor> tensors;
  for (int i = 0; i < count; ++i) {
    GlobalTensor tensor;
    tensor.info.model = models[random() % 2];
    tensor.info.name = absl::StrCat("layers.", i / 3, ".weight_", i);
    tensor.info.role = static_cast<Role>(random() % 4);
    tensor.info.dtype = kTypes[random() % std::size(kTypes)];
    const int rank = static_cast<int>(random() % 5);
    for (int d = 0; d < rank; ++d) {
      tensor.info.shape.push_back(
          random() % 23 == 0 ? 0 : 1 + static_cast<int64_t>(random() % (rank > 2 ? 7 : 29)));
    }
    if (rank > 0 && random() % 4 != 0) tensor.shard_dim = static_cast<int>(random() % std::min(rank, 2));
    const int64_t bytes = Box::Whole(tensor.info.shape).elements() * SizeOf(tensor.info.dtype);
    tensor.data.resize(static_cast<size_t>(bytes));
    for (char& byte : tensor.data) byte = static_cast<char>(random());
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::vector<char> NaiveSlice(const GlobalTensor& tensor, const TensorPiece& piece) {
  const std::vector<int64_t>& shape = tensor.info.shape;
  const int64_t element_bytes = SizeOf(tensor.info.dtype);
  std::vector<char> slice;
  for (int64_t i = piece.range_begin; i < piece.range_end; ++i) {
    int64_t rest = i, global = 0, stride = 1;
    for (int d = static_cast<int>(shape.size()) - 1; d >= 0; --d) {
      global += (piece.box.offset[d] + rest % piece.box.size[d]) * stride;
      rest /= piece.box.size[d];
      stride *= shape[d];
    }
    slice.insert(slice.end(), tensor.data.begin() + global * element_bytes,
                 tensor.data.begin() + (global + 1) * element_bytes);
  }
  return slice;
}

RankPieces MakePieces(const std::vector<GlobalTensor>& tensors, int data_ranks, int tensor_ranks, int rank,
                      bool fill) {
  const int data_rank = rank / tensor_ranks, tensor_rank = rank % tensor_ranks;
  RankPieces result;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GlobalTensor& tensor = tensors[i];
    TensorPiece piece =
        TensorPiece::OfBox(tensor.info.model, tensor.info.name, tensor.info.role, tensor.info.dtype,
                           tensor.info.shape, ShardBox(tensor, tensor_ranks, tensor_rank), nullptr);
    const int64_t elements = piece.range_end;
    const bool one_writer = tensor.info.role == Role::kWeight && i % 2 == 0;
    const int64_t part = one_writer ? (data_rank == 0 ? elements : 0) : CeilDivide(elements, data_ranks);
    piece.range_begin = one_writer ? 0 : std::min(elements, part * data_rank);
    piece.range_end = std::min(elements, piece.range_begin + part);
    if (tensor.shard_dim < 0 && tensor_rank != 0)
      piece.range_end = piece.range_begin;  // one owner of replicas
    auto memory = std::make_unique<std::vector<char>>(static_cast<size_t>(piece.bytes()), '\xee');
    if (fill) *memory = NaiveSlice(tensor, piece);
    piece.data = memory->data();
    result.pieces.push_back(std::move(piece));
    result.memory.push_back(std::move(memory));
  }
  return result;
}

absl::Status SaveAt(const std::string& run_dir, int64_t step, const std::vector<GlobalTensor>& tensors,
                    int data_ranks, int tensor_ranks, const std::function<void(int, SaveRequest*)>& adjust,
                    SaveReport* report) {
  const int ranks = data_ranks * tensor_ranks;
  std::vector<absl::Status> statuses(static_cast<size_t>(ranks));
  std::filesystem::create_directories(run_dir);
  OnRanks(ranks, [&](Comm& world) {
    const RankPieces mine = MakePieces(tensors, data_ranks, tensor_ranks, world.rank(), true);
    SaveFaults no_faults;
    SaveRequest request;
    request.run_dir = run_dir;
    request.run_id = "test";
    request.stage = "pretrain";
    request.step = step;
    request.mesh.data = data_ranks;
    request.mesh.tensor = tensor_ranks;
    request.pieces = mine.pieces;
    request.state = {{"rng", std::string("\x00\x01\xff", 3)}, {"data_cursor", absl::StrCat(step * 1000)}};
    request.config_text = "model: tiny\n";
    request.tokenizer = {{"vocab.json", "{\"a\":0}"}, {"merges.txt", "a b\n"}};
    request.retention.keep_last = 1000;
    request.faults = &no_faults;
    if (adjust) adjust(world.rank(), &request);
    absl::StatusOr<SaveReport> saved = SaveCheckpoint(world, request);
    statuses[world.rank()] = saved.status();
    if (world.rank() == 0 && saved.ok() && report != nullptr) *report = *saved;
  });
  for (const absl::Status& status : statuses)
    TANREN_CHECK_MSG(status.code() == statuses[0].code(), status.ToString());
  return statuses[0];
}

absl::Status CheckHolds(const std::string& path, const std::vector<GlobalTensor>& tensors) {
  const std::unique_ptr<Comm> solo = MakeSoloComm("world");
  OpenOptions options;
  options.verify_data = true;
  TANREN_ASSIGN_OR_RETURN(const auto reader, CheckpointReader::Open(*solo, path, options));
  const RankPieces wanted = MakePieces(tensors, 1, 1, 0, false);
  TANREN_RETURN_IF_ERROR(reader->Read(*solo, wanted.pieces).status());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (*wanted.memory[i] != tensors[i].data)
      return absl::InternalError("bits differ: " + tensors[i].info.name);
  }
  return absl::OkStatus();
}

}  // namespace tanren::testing
