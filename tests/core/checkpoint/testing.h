// What the checkpoint tests share: a world of threads, random tensors at random layouts, files to damage.
#ifndef TANREN_TESTS_CORE_CHECKPOINT_TESTING_H_
#define TANREN_TESTS_CORE_CHECKPOINT_TESTING_H_

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/checkpoint/piece.h"
#include "core/checkpoint/reader.h"
#include "core/checkpoint/save.h"
#include "core/comm/comm.h"

namespace tanren::testing {

// A fresh directory, removed with all in it: in memory where there is /dev/shm, since a sync to a busy disk
// may take a second; on the disk where the test is about writing to one.
class ScratchDirectory {
 public:
  enum Where { kMemory, kDisk };
  explicit ScratchDirectory(Where where = kMemory);
  ~ScratchDirectory();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Runs body(comm) on `ranks` threads, each with its own rank of one world.
void OnRanks(int ranks, const std::function<void(Comm& world)>& body);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& contents);

// A seed that a failing test prints; TANREN_TEST_SEED fixes it.
uint64_t FreshSeed();
// TANREN_SOAK set: the long form of a test.
bool Soak();

// A global tensor with random bits.
struct GlobalTensor {
  TensorInfo info;
  std::vector<char> data;
  int shard_dim = -1;  // tensor-parallel along it; -1: replicated
};

// Random tensors: 0 to 4 dims, odd sizes, every element type, some without elements.
std::vector<GlobalTensor> RandomTensors(std::mt19937_64& random, int count);

// One rank's pieces at data x tensor, with their memory: boxes along shard_dim in parts of ceil(size /
// tensor), the last ones clipped, perhaps empty; the weights written by data rank 0 only or by all as ranges;
// all else as ZeRO ranges of ceil(elements / data), perhaps empty.
struct RankPieces {
  std::vector<TensorPiece> pieces;
  std::vector<std::unique_ptr<std::vector<char>>> memory;
};
RankPieces MakePieces(const std::vector<GlobalTensor>& tensors, int data_ranks, int tensor_ranks, int rank,
                      bool fill);

// Element by element, without any of the code under test: a piece's elements out of the global tensor.
std::vector<char> NaiveSlice(const GlobalTensor& tensor, const TensorPiece& piece);

// Saves at one layout; ranks' statuses are required to agree. `adjust` may change a rank's request.
absl::Status SaveAt(const std::string& run_dir, int64_t step, const std::vector<GlobalTensor>& tensors,
                    int data_ranks, int tensor_ranks,
                    const std::function<void(int rank, SaveRequest*)>& adjust = nullptr,
                    SaveReport* report = nullptr);

// OK when the checkpoint at `path` opens, with all data verified, and holds exactly these bits.
absl::Status CheckHolds(const std::string& path, const std::vector<GlobalTensor>& tensors);

}  // namespace tanren::testing

#endif  // TANREN_TESTS_CORE_CHECKPOINT_TESTING_H_
