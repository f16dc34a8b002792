#include "tests/emulation/emulator.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/emulation/context.h"

thread_local constinit tanren::emulation::Index threadIdx, blockIdx, blockDim, gridDim;

namespace tanren::emulation {

thread_local constinit unsigned char* shared_memory = nullptr;
thread_local constinit size_t shared_first = 0, shared_bytes = 0;

namespace {

constexpr size_t kStackBytes = 128 * 1024, kGuardBytes = 4096;
constexpr int kBarriers = 16;
constexpr auto kPatience = std::chrono::seconds(60);  // of polls that nobody answers
constexpr int kPoison = 0xff;                         // NaN in every floating-point format

// --- Threads and blocks. ---

struct Round {
  unsigned mask = 0;
  const char* kind = nullptr;
  unsigned left = 0;  // lanes that have read it; free when all have
  Exchange exchange;
};

struct Groups {
  std::vector<std::function<void()>> open;
  std::deque<std::vector<std::function<void()>>> closed;

  void FinishOldest() {
    for (const auto& work : closed.front()) work();
    closed.pop_front();
  }
};

enum class State { kReady, kAtBarrier, kInExchange, kAwaiting, kPolling, kEnded };

struct Fiber {
  Context context;
  void* stack = nullptr;
  Index index;
  State state = State::kReady;
  bool was_polling = false;    // when it was resumed
  const char* waits_for = "";  // for the report of a deadlock
  int barrier = 0;
  uint64_t generation = 0;
  Round* round = nullptr;
  const std::function<bool()>* holds = nullptr;
  Groups groups[4];
};

struct Barrier {
  int arrived = 0;
  int expected = 0;
  uint64_t generation = 0;
  bool any = false, any_of_last = false;
};

class Worker;
thread_local Worker* this_worker = nullptr;

std::atomic<uint64_t> progress_of_all = 1;  // rounds in which a thread of any block went on

class Worker {
 public:
  Worker() {
    shared_ = static_cast<unsigned char*>(std::aligned_alloc(kSharedAlignment, kSharedBytes));
    fibers_.resize(kMaxThreads);
  }

  void RunBlock(Index block, Index threads, size_t bytes, const std::function<void()>& thread) {
    this_worker = this;
    blockIdx = block;
    blockDim = threads;
    shared_memory = shared_;
    shared_first = 0;
    shared_bytes = bytes;
    std::memset(shared_, kPoison, bytes + kSharedAlignment);
    thread_ = &thread;
    count_ = static_cast<int>(threads.x * threads.y * threads.z);
    alive_ = count_;
    for (Barrier& barrier : barriers_) barrier = {};
    for (unsigned& lanes : ended_) lanes = 0;
    for (int i = 0; i < count_; ++i) {
      Fiber& fiber = fibers_[i];
      if (fiber.stack == nullptr) {
        // Below the stack lies a page that ends the process when it overflows.
        char* const memory =
            static_cast<char*>(mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
          Fail("no memory for the stacks of threads");
        }
        fiber.stack = memory + kGuardBytes;
      }
      const unsigned at = static_cast<unsigned>(i);
      fiber.index = {at % threads.x, at / threads.x % threads.y, at / threads.x / threads.y};
      fiber.state = State::kReady;
      fiber.round = nullptr;
      fiber.context.Prepare(fiber.stack, kStackBytes, &Worker::Enter);
    }
    RunThreads();
    this_worker = nullptr;
  }

  Fiber& current() { return *current_; }

  void Sync(int id, int threads, bool predicate, bool waits) {
    if (id < 0 || id >= kBarriers) Fail("barrier %d: there are 0..15", id);
    Barrier& barrier = barriers_[id];
    if (threads % kWarp != 0) Fail("barrier %d of %d threads: no multiple of a warp", id, threads);
    if (barrier.arrived == 0) {
      barrier.expected = threads;
    } else if (barrier.expected != threads) {
      Fail("barrier %d of %d threads: others wait for %d", id, threads, barrier.expected);
    }
    ++barrier.arrived;
    barrier.any |= predicate;
    if (IsFull(barrier)) return Release(barrier);
    if (!waits) return;
    Fiber& self = *current_;
    self.barrier = id;
    self.generation = barrier.generation;
    Suspend(State::kAtBarrier, "barrier");
  }
  bool AnyOfLast(int id) const { return barriers_[id].any_of_last; }

  Exchange& BeginExchange(unsigned mask, const char* kind) {
    Fiber& self = *current_;
    const int lane = Lane();
    if ((mask >> lane & 1) == 0) Fail("%s: lane %d is not in its own mask %08x", kind, lane, mask);
    Leave(self);
    auto& rounds = rounds_[static_cast<int>(threadIdx.x) / kWarp];
    Round* round = nullptr;
    for (const auto& open : rounds) {
      if (open->mask == mask && (open->exchange.lanes >> lane & 1) == 0) {
        round = open.get();
        break;
      }
    }
    if (round == nullptr) {
      for (const auto& free : rounds) {
        if (free->mask == 0) {
          round = free.get();
          break;
        }
      }
      if (round == nullptr) {
        rounds.push_back(std::make_unique<Round>());
        round = rounds.back().get();
      }
      round->mask = mask;
      round->kind = kind;
      round->exchange.lanes = 0;
      round->left = 0;
    }
    if (round->kind != kind && std::strcmp(round->kind, kind) != 0) {
      Fail("a warp's lanes meet in %s and in %s", round->kind, kind);
    }
    round->exchange.lanes |= 1u << lane;
    self.round = round;
    return round->exchange;
  }
  void FinishExchange() {
    if (!IsFull(*current_)) Suspend(State::kInExchange, current_->round->kind);
  }
  // The thread reads no more of its last exchange.
  static void Leave(Fiber& fiber) {
    Round* const round = std::exchange(fiber.round, nullptr);
    if (round == nullptr) return;
    round->left |= 1u << fiber.index.x % kWarp;
    if (round->left == round->exchange.lanes) round->mask = 0;
  }

  void Await(const char* what, const std::function<bool()>& holds) {
    if (holds()) return;
    current_->holds = &holds;
    Suspend(State::kAwaiting, what);
  }
  void Poll() { Suspend(State::kPolling, "poll"); }

  void Later(std::function<void()> work) { engine_.push_back(std::move(work)); }

 private:
  static constexpr size_t kSharedBytes = 256 * 1024;

  static void Enter() {
    Worker& worker = *this_worker;
    (*worker.thread_)();
    Fiber& self = *worker.current_;
    Leave(self);
    // Products write the registers of a thread, which are gone; what still reads shared memory would read
    // another block's. Other work is finished by the machine.
    for (const Work kind : {Work::kProducts, Work::kBulkReads}) {
      const Groups& groups = self.groups[static_cast<int>(kind)];
      if (!groups.open.empty() || !groups.closed.empty()) {
        Fail("a thread ends with %s that it has not waited for",
             kind == Work::kProducts ? "products" : "copies from shared memory");
      }
    }
    for (const Work kind : {Work::kCopies, Work::kBulkWrites}) {
      CommitWork(kind);
      WaitForWork(kind, 0);
    }
    self.state = State::kEnded;
    worker.ended_[threadIdx.x / kWarp] |= 1u << Lane();
    --worker.alive_;
    for (Barrier& barrier : worker.barriers_) {
      if (barrier.arrived > 0 && worker.IsFull(barrier)) worker.Release(barrier);
    }
    worker.progress_ = true;
    worker.GoOn(self);
    std::abort();  // an ended thread is not resumed
  }

  // Whether all lanes that the thread's exchange waits for have come or ended.
  bool IsFull(const Fiber& fiber) const {
    const Round& round = *fiber.round;
    return (round.mask & ~round.exchange.lanes & ~ended_[fiber.index.x / kWarp]) == 0;
  }
  bool IsFull(const Barrier& barrier) const {
    return barrier.arrived >= (barrier.expected == 0 ? alive_ : barrier.expected);
  }
  static void Release(Barrier& barrier) {
    barrier.arrived = 0;
    barrier.any_of_last = barrier.any;
    barrier.any = false;
    ++barrier.generation;
  }

  void Suspend(State state, const char* waits_for) {
    Fiber& self = *current_;
    self.state = state;
    self.waits_for = waits_for;
    // A thread that polls, is resumed and polls again has not moved.
    (state == State::kPolling && self.was_polling ? polls_ : progress_) = true;
    GoOn(self);
  }

  // To the next thread of this round that can run, or to the scheduler.
  void GoOn(Fiber& from) {
    Fiber* const next = NextInRound();
    if (next == nullptr) return from.context.SwitchTo(scheduler_);
    MakeCurrent(*next);
    if (next != &from) from.context.SwitchTo(next->context);
  }
  Fiber* NextInRound() {
    while (position_ < count_) {
      Fiber& fiber = fibers_[order_[position_++]];
      if (CanRun(fiber)) return &fiber;
    }
    return nullptr;
  }
  void MakeCurrent(Fiber& fiber) {
    current_ = &fiber;
    threadIdx = fiber.index;
    fiber.was_polling = fiber.state == State::kPolling;
    fiber.state = State::kReady;
  }

  bool CanRun(const Fiber& fiber) const {
    switch (fiber.state) {
      case State::kReady:
      case State::kPolling:
        return true;
      case State::kAtBarrier:
        return barriers_[fiber.barrier].generation != fiber.generation;
      case State::kInExchange:
        return IsFull(fiber);
      case State::kAwaiting:
        return (*fiber.holds)();
      case State::kEnded:
        return false;
    }
    return false;
  }

  void RunThreads() {
    order_.resize(count_);
    std::iota(order_.begin(), order_.end(), 0);
    if (TheSchedule().order == Schedule::Order::kDescending) std::reverse(order_.begin(), order_.end());
    std::mt19937_64 random(TheSchedule().seed * 0x9e3779b97f4a7c15u + blockIdx.x);
    auto idle_since = std::chrono::steady_clock::now();
    uint64_t seen_progress = 0;
    while (alive_ > 0) {
      if (TheSchedule().order == Schedule::Order::kRandom) std::shuffle(order_.begin(), order_.end(), random);
      position_ = 0;
      progress_ = polls_ = false;
      if (Fiber* const first = NextInRound()) {
        MakeCurrent(*first);
        scheduler_.SwitchTo(first->context);
      }
      if (progress_) {
        progress_of_all.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      if (!engine_.empty()) {
        const auto work = std::move(engine_.front());
        engine_.pop_front();
        work();
        continue;
      }
      if (!polls_) ReportDeadlock("no thread can go on");
      // Another block may have to come first.
      const uint64_t progress = progress_of_all.load(std::memory_order_relaxed);
      const auto now = std::chrono::steady_clock::now();
      if (std::exchange(seen_progress, progress) != progress) idle_since = now;
      if (now - idle_since > kPatience) ReportDeadlock("a poll is not answered");
      sched_yield();
    }
    // A grid ends when its copies have.
    for (; !engine_.empty(); engine_.pop_front()) engine_.front()();
  }

  [[noreturn]] void ReportDeadlock(const char* what) {
    std::string text;
    std::string last;
    int first = 0;
    const auto flush = [&](int end) {
      if (!last.empty())
        text += "\n  threads " + std::to_string(first) + ".." + std::to_string(end - 1) + ": " + last;
    };
    for (int i = 0; i < count_; ++i) {
      const Fiber& fiber = fibers_[i];
      std::string now = fiber.state == State::kEnded ? "ended" : std::string("at ") + fiber.waits_for;
      if (fiber.state == State::kAtBarrier) {
        const Barrier& barrier = barriers_[fiber.barrier];
        now += " " + std::to_string(fiber.barrier) + ", where " + std::to_string(barrier.arrived) + " of " +
               std::to_string(barrier.expected == 0 ? alive_ : barrier.expected) + " have come";
      }
      if (fiber.state == State::kInExchange) {
        char masks[64];
        std::snprintf(masks, sizeof(masks), " of lanes %08x, where %08x have come", fiber.round->mask,
                      fiber.round->exchange.lanes);
        now += masks;
      }
      if (now != last) {
        flush(i);
        last = now;
        first = i;
      }
    }
    flush(count_);
    Fail("block (%u, %u, %u): %s%s", blockIdx.x, blockIdx.y, blockIdx.z, what, text.c_str());
  }

  Context scheduler_;
  Fiber* current_ = nullptr;
  std::vector<Fiber> fibers_;
  const std::function<void()>* thread_ = nullptr;
  int count_ = 0, alive_ = 0;
  std::vector<int> order_;                 // of the threads in a round
  int position_ = 0;                       // in it
  bool progress_ = false, polls_ = false;  // in this round
  Barrier barriers_[kBarriers];
  unsigned ended_[kMaxThreads / kWarp] = {};  // lanes
  std::vector<std::unique_ptr<Round>> rounds_[kMaxThreads / kWarp];
  std::deque<std::function<void()>> engine_;  // copies that nobody has seen yet
  unsigned char* shared_ = nullptr;
};

// --- The multiprocessors. ---

class Multiprocessors {
 public:
  static Multiprocessors& Instance() {
    // Never destroyed: its threads may still wait when static objects are.
    static Multiprocessors* all = new Multiprocessors;
    return *all;
  }

  void Run(int64_t blocks, const std::function<void(Worker&, int64_t)>& run_block) {
    if (blocks == 1) return run_block(*workers_[0], 0);
    {
      const std::lock_guard lock(mutex_);
      run_block_ = &run_block;
      next_ = 0;
      blocks_ = blocks;
      ++grid_;
      working_ = static_cast<int>(threads_.size());
    }
    begin_.notify_all();
    TakeBlocks(*workers_[0]);
    std::unique_lock lock(mutex_);
    end_.wait(lock, [&] { return working_ == 0; });
  }

 private:
  Multiprocessors() {
    for (int i = 0; i < kMultiprocessors; ++i) workers_.push_back(std::make_unique<Worker>());
    for (int i = 1; i < kMultiprocessors; ++i) {
      threads_.emplace_back([this, i] {
        uint64_t seen = 0;
        while (true) {
          {
            std::unique_lock lock(mutex_);
            begin_.wait(lock, [&] { return grid_ != seen; });
            seen = grid_;
          }
          TakeBlocks(*workers_[i]);
          const std::lock_guard lock(mutex_);
          if (--working_ == 0) end_.notify_one();
        }
      });
      threads_.back().detach();
    }
  }

  void TakeBlocks(Worker& worker) {
    while (true) {
      const int64_t block = next_.fetch_add(1);
      if (block >= blocks_) return;
      (*run_block_)(worker, block);
    }
  }

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  const std::function<void(Worker&, int64_t)>* run_block_ = nullptr;
  std::atomic<int64_t> next_ = 0;
  int64_t blocks_ = 0;
  uint64_t grid_ = 0;
  int working_ = 0;
};

Groups& GroupsOf(Work kind) { return this_worker->current().groups[static_cast<int>(kind)]; }

}  // namespace

void Fail(const char* format, ...) {
  std::fprintf(stderr, "emulated GPU: ");
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  if (this_worker != nullptr) {
    std::fprintf(stderr, "\n  in block (%u, %u, %u) of (%u, %u, %u), thread (%u, %u, %u) of (%u, %u, %u)",
                 blockIdx.x, blockIdx.y, blockIdx.z, gridDim.x, gridDim.y, gridDim.z, threadIdx.x,
                 threadIdx.y, threadIdx.z, blockDim.x, blockDim.y, blockDim.z);
  }
  std::fprintf(stderr, "\n");
  std::fflush(stderr);
  std::abort();
}

Schedule the_schedule = [] {
  Schedule result;
  const char* variable = std::getenv("TANREN_EMULATION");
  const std::string value = variable == nullptr ? "early" : variable;
  if (value == "early") return result;
  result.late = true;
  if (value == "late") {
    result.order = Schedule::Order::kDescending;
  } else if (value == "random" || value.starts_with("random:")) {
    result.order = Schedule::Order::kRandom;
    if (value.size() > 7) result.seed = std::strtoull(value.c_str() + 7, nullptr, 10);
  } else {
    Fail("TANREN_EMULATION=%s: give early, late or random:<seed>", value.c_str());
  }
  return result;
}();

void RunGrid(Index blocks, Index threads, size_t shared_bytes, const std::function<void()>& thread) {
  const int64_t count = int64_t{blocks.x} * blocks.y * blocks.z;
  Multiprocessors::Instance().Run(count, [&](Worker& worker, int64_t i) {
    gridDim = blocks;
    const uint64_t at = static_cast<uint64_t>(i);
    const Index block = {static_cast<unsigned>(at % blocks.x),
                         static_cast<unsigned>(at / blocks.x % blocks.y),
                         static_cast<unsigned>(at / blocks.x / blocks.y)};
    worker.RunBlock(block, threads, shared_bytes, thread);
  });
}

uint32_t SharedAddress(const void* pointer) {
  const auto offset = static_cast<const unsigned char*>(pointer) - shared_memory;
  if (offset < static_cast<int64_t>(shared_first) ||
      offset > static_cast<int64_t>(shared_first + shared_bytes)) {
    Fail("%p is not in the block's %zu bytes of dynamic shared memory", pointer, shared_bytes);
  }
  return kSharedBase + static_cast<uint32_t>(offset);
}

void FailShared(uint32_t address, size_t bytes, size_t alignment) {
  if (address % alignment != 0) Fail("shared address %u is no multiple of %zu", address, alignment);
  Fail("shared addresses %u..%zu, of %zu..%zu", address, address + bytes, kSharedBase + shared_first,
       kSharedBase + shared_first + shared_bytes);
}

void SyncThreads(int id, int threads) { this_worker->Sync(id, threads, false, true); }
void ArriveThreads(int id, int threads) { this_worker->Sync(id, threads, false, false); }
bool SyncThreadsOr(bool predicate) {
  this_worker->Sync(0, 0, predicate, true);
  return this_worker->AnyOfLast(0);
}

Exchange& BeginExchange(unsigned mask, const char* kind) { return this_worker->BeginExchange(mask, kind); }
void FinishExchange() { this_worker->FinishExchange(); }

void Await(const char* what, const std::function<bool()>& holds) { this_worker->Await(what, holds); }
void Poll() { this_worker->Poll(); }

void DoLater(std::function<void()> work) { this_worker->Later(std::move(work)); }

void AddLateWork(Work kind, std::function<void()> work) { GroupsOf(kind).open.push_back(std::move(work)); }
void CommitWork(Work kind) {
  if (!TheSchedule().late) return;
  Groups& groups = GroupsOf(kind);
  groups.closed.push_back(std::move(groups.open));
  groups.open.clear();
}
void WaitForWork(Work kind, size_t groups_left) {
  Groups& groups = GroupsOf(kind);
  while (groups.closed.size() > groups_left) groups.FinishOldest();
}
void WaitForOpenWork(Work kind) {
  CommitWork(kind);
  WaitForWork(kind, 0);
}

std::function<void()> TakeOpenWork(Work kind) {
  auto works = std::make_shared<std::vector<std::function<void()>>>(std::move(GroupsOf(kind).open));
  GroupsOf(kind).open.clear();
  return [works] {
    for (const auto& work : *works) work();
  };
}

}  // namespace tanren::emulation
