// A GPU in plain C++, so that CUDA kernels run, and are tested, where there is none.
//
// The sources of kernels/cuda are compiled by the host's compiler against the headers of include/, which
// stand in for those of the CUDA toolkit and for the three headers of single machine instructions. A kernel
// then runs thread by thread: each thread of a block is a fiber with a stack of its own, and fibers change
// only where a CUDA thread may wait: at barriers, at exchanges within a warp, at an mbarrier, at a poll.
// Blocks run side by side on as many workers as the emulated card has multiprocessors.
//
// What it shows: that a kernel computes what it should, and that it keeps the rules of the machine. A lane
// that is missing from an exchange, a barrier that never fills, a write past the end of device memory, a copy
// that a barrier was not told of, an address outside the block's dynamic shared memory or not aligned, a
// product or a read of shared memory that nobody has waited for end the process with its place in the grid.
// Device memory and dynamic shared memory that nobody wrote hold NaN. Races show as results that differ from
// one schedule to another; TANREN_EMULATION chooses it:
//   early (default)   threads run in ascending order; a copy or a product is done where it is asked for, a
//   stream's
//                     work where it is ordered.
//   late              threads run in descending order; a copy is done when nothing else can run, a product of
//   a
//                     warpgroup when it is waited for, a stream's work when the host waits.
//   random[:seed]     threads run in an order that changes from round to round; otherwise as late.
// What it does not show: speed; missing fences (they do nothing) and the order of memory accesses between
// multiprocessors, which on the host is stronger; kernels that overlap by the rules of chain.cuh, since each
// starts when the one before has ended; static shared memory that nobody wrote (it holds what it held);
// rounding of multiply-adds that the GPU's compiler fuses on its own; whatever the hardware does that the
// manuals do not say. It is no substitute for a run on a GPU.
#ifndef TANREN_TESTS_EMULATION_EMULATOR_H_
#define TANREN_TESTS_EMULATION_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

namespace tanren::emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

}  // namespace tanren::emulation

// Of the thread that runs, under the names of the language.
extern thread_local constinit tanren::emulation::Index threadIdx, blockIdx, blockDim, gridDim;

namespace tanren::emulation {

inline constexpr int kWarp = 32;
inline constexpr int kMultiprocessors = 4;
inline constexpr size_t kMaxSharedBytes = 227 * 1024;  // of a block, as on Hopper
inline constexpr size_t kSharedWithoutAsking = 48 * 1024;
inline constexpr int kMaxThreads = 1024;

[[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// ---------------------------------------------------------------------------------------------------------
// The schedule.

struct Schedule {
  enum class Order { kAscending, kDescending, kRandom };
  Order order = Order::kAscending;
  bool late = false;  // asynchronous work is done as late as the machine may
  uint64_t seed = 0;
};
// Of this process, by TANREN_EMULATION; read once.
extern Schedule the_schedule;
inline const Schedule& TheSchedule() { return the_schedule; }
// For tests of the emulation: another one for a while, between launches.
class ScheduleScope {
 public:
  explicit ScheduleScope(const Schedule& schedule) : before_(std::exchange(the_schedule, schedule)) {}
  ~ScheduleScope() { the_schedule = before_; }
  ScheduleScope(const ScheduleScope&) = delete;
  ScheduleScope& operator=(const ScheduleScope&) = delete;

 private:
  Schedule before_;
};

// ---------------------------------------------------------------------------------------------------------
// Launches.

// Runs `thread` once for each thread of each block and returns when all have ended. The caller lets
// one grid run at a time.
void RunGrid(Index blocks, Index threads, size_t shared_bytes, const std::function<void()>& thread);

// ---------------------------------------------------------------------------------------------------------
// Within a block. Everything below is called by threads of a running grid.

// Where the block's shared memory lies, and what the launch asked for of it: `shared_bytes` from
// `shared_first` on.
extern thread_local constinit unsigned char* shared_memory;
extern thread_local constinit size_t shared_first, shared_bytes;
// The block's dynamic shared memory: aligned as the kernel says, and no better.
inline constexpr size_t kSharedAlignment = 1024;
inline unsigned char* DynamicShared(size_t alignment) {
  shared_first = alignment % kSharedAlignment;
  return shared_memory + shared_first;
}

// Shared memory by its 32-bit address, as instructions name it; it does not begin at address 0, where a null
// pointer would be taken for it. FromShared: `bytes` from there must lie within what the launch asked for,
// and the address must be a multiple of `alignment`.
inline constexpr uint32_t kSharedBase = 1024;
uint32_t SharedAddress(const void* pointer);
[[noreturn]] void FailShared(uint32_t address, size_t bytes, size_t alignment);
inline unsigned char* FromShared(uint32_t address, size_t bytes, size_t alignment) {
  if (address % alignment != 0 || address < kSharedBase + shared_first ||
      address - kSharedBase - shared_first + bytes > shared_bytes) {
    FailShared(address, bytes, alignment);
  }
  return shared_memory + (address - kSharedBase);
}

// The 128-byte swizzle of the copy engine and of matrix descriptors.
constexpr uint32_t Swizzled(uint32_t address) { return address ^ (address >> 3 & 0x70u); }

// Barrier `id` (0..15) of `threads` threads; 0: all threads of the block that have not ended.
void SyncThreads(int id, int threads);
void ArriveThreads(int id, int threads);
// As SyncThreads(0, 0); returns whether any thread's predicate holds.
bool SyncThreadsOr(bool predicate);

// What the lanes of a mask bring to an exchange.
inline constexpr size_t kMostExchanged = 32;
struct Exchange {
  unsigned lanes = 0;  // that have come: all of the mask but those whose threads have ended
  alignas(16) unsigned char at[kWarp][kMostExchanged];
  template <class T>
  T Of(int lane) const {
    T value;
    std::memcpy(&value, at[lane], sizeof(T));
    return value;
  }
};
inline int Lane() { return static_cast<int>(threadIdx.x % kWarp); }

// Where the thread puts what it brings; then it waits until all lanes of the mask have come or ended. `kind`
// tells instructions apart: lanes that meet must have come for the same one. What they brought can be read
// until the thread's next exchange.
Exchange& BeginExchange(unsigned mask, const char* kind);
void FinishExchange();
template <class T>
const Exchange& ExchangeOf(unsigned mask, const char* kind, const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMostExchanged);
  Exchange& exchange = BeginExchange(mask, kind);
  std::memcpy(exchange.at[Lane()], &value, sizeof(T));
  FinishExchange();
  return exchange;
}

// Waits until `holds` is true; it reads what threads of this block change.
void Await(const char* what, const std::function<bool()>& holds);
// Lets others run: another thread of the block, or another block.
void Poll();

// Done by the copy engine: at once, or late, when no thread of the block can run.
void DoLater(std::function<void()> work);
template <class F>
void Asynchronously(F&& work) {
  if (TheSchedule().late) {
    DoLater(std::forward<F>(work));
  } else {
    work();
  }
}

// ---------------------------------------------------------------------------------------------------------
// Groups of asynchronous work that a thread started, which it waits for in the order of their begin.

// Products of a warpgroup (wgmma), copies by threads (cp.async), and what the copy engine reads and then
// writes on its way out of shared memory.
enum class Work { kProducts, kCopies, kBulkReads, kBulkWrites };
// Done now, or late: when it is waited for, or when the thread ends.
void AddLateWork(Work kind, std::function<void()> work);
template <class F>
void AddWork(Work kind, F&& work) {
  if (TheSchedule().late) {
    AddLateWork(kind, std::forward<F>(work));
  } else {
    work();
  }
}
// Closes a group.
void CommitWork(Work kind);
// Returns when at most `groups_left` closed groups are not done. WaitForOpenWork: also what no group holds.
void WaitForWork(Work kind, size_t groups_left);
void WaitForOpenWork(Work kind);
// Hands over what no group holds.
std::function<void()> TakeOpenWork(Work kind);

}  // namespace tanren::emulation

#endif  // TANREN_TESTS_EMULATION_EMULATOR_H_
