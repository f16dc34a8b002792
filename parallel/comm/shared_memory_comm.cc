// Collectives of the ranks of one node through shared memory.
//
// Every rank owns three staging slots. A collective is a row of steps; in step e each rank fills its slot
// e % 3, publishes e, waits until every rank has published e, and then reads the peers' slots. Publishing
// e + 1 says that the slots of step e have been read (a pipelined reduction reads them until it publishes
// e + 2), so slot e % 3 may be filled again in step e + 3, when everybody's e + 2 has been seen: one meeting
// per step, no second barrier.
//
// Slots are filled with stores past the cache: measured three to four times as fast as plain stores between
// two virtual cores, presumably because the reader otherwise fetches modified lines out of the writer's
// cache.
//
// Each rank publishes its call beside the first step of it, and compares all ranks' calls after the meeting.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <ctime>
#include <vector>

#include "core/base/status.h"
#include "parallel/comm/call.h"
#include "parallel/comm/copy.h"
#include "parallel/comm/make_comm.h"
#include "parallel/comm/mpi_exchange.h"
#include "parallel/comm/reduce.h"
#include "parallel/comm/shared_region.h"

namespace tanren {
namespace {

constexpr int kSlots = 3;
constexpr int64_t kPageBytes = 4096;
constexpr int64_t kSlotBytesPerThread = 256 << 10;
constexpr int64_t kMaxSlotBytes = 4 << 20;
// Up to here each rank adds everything: more reading, but one meeting instead of two. Two ranks read no more
// that way than by slices, so for them the limit is a slot.
constexpr int64_t kWholeBytes = 32 << 10;
// Below this a fill is too short for stores past the cache to pay.
constexpr int64_t kFillPastCacheBytes = 4 << 10;
// Results larger than this will have left the cache before they are read.
constexpr int64_t kPastCacheBytes = 4 << 20;
// Below this much per thread, waking threads costs more than they save.
constexpr int64_t kMinThreadBytes = 64 << 10;

// One rank's progress. Own lines: peers poll it.
struct alignas(128) Progress {
  std::atomic<uint32_t> step;  // the last step published; also a futex
  alignas(64) std::atomic<uint32_t> sleepers;
};
struct alignas(128) PublishedCall {
  Call call;
};
// The region starts with the cookie of SharedRegion; everything else is zero.
struct alignas(128) Preamble {
  char cookie[128];
};
static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4);

int64_t RoundUp(int64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

int64_t ControlBytes(int size) {
  return RoundUp(sizeof(Preamble) + size * (sizeof(Progress) + kSlots * sizeof(PublishedCall)));
}

class SharedMemoryComm final : public Comm {
 public:
  SharedMemoryComm(MPI_Comm group, std::string axis, int rank, int size, SharedRegion region,
                   int64_t slot_bytes, const CommOptions& options)
      : Comm(std::move(axis), rank, size),
        options_(options),
        region_(std::move(region)),
        slot_bytes_(slot_bytes),
        pairs_(*this, group, options.limits, options.crowded),
        sources_(size) {
    progress_ = reinterpret_cast<Progress*>(region_.data() + sizeof(Preamble));
    calls_ = reinterpret_cast<PublishedCall*>(progress_ + size);
    slots_ = region_.data() + ControlBytes(size);
    // Pages lie on the node of the processor that touches them first.
    std::memset(Slot(rank, 0), 0, kSlots * slot_bytes_);
  }

  ~SharedMemoryComm() override {
    Begin(Call::Make(CallKind::kClose, "close", DType::kU8, 0));
    OpenStep();
    Meet();
  }

  void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/true);
    Begin(Call::Make(CallKind::kAllReduce, name, data.dtype, count, op));
    if (count * SizeOf(data.dtype) <= (size() == 2 ? slot_bytes_ : kWholeBytes)) {
      AllReduceWhole(data, count, op);
    } else {
      AllReduceSliced(data, count, op);
    }
  }

  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    ValidateCall(*this, stream, name, in, count, /*reduces=*/true);
    TANREN_CHECK(in.dtype == out.dtype);
    Begin(Call::Make(CallKind::kReduceScatter, name, in.dtype, count));
    const int64_t width = SizeOf(in.dtype);
    // A slot carries one part for each peer.
    const int64_t step_count = std::max<int64_t>(1, slot_bytes_ / (size() - 1) / width / 64 * 64);
    const char* source = in.as<char>();
    int64_t begin = 0;
    do {
      const int64_t n = std::min(step_count, count - begin);
      std::byte* slot = OpenStep();
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        Fill(slot + PartIn(rank(), peer) * n * width, source + (peer * count + begin) * width, n * width);
      }
      Meet();
      for (int peer = 0; peer < size(); ++peer) {
        sources_[peer] = peer == rank() ? static_cast<const void*>(source + (rank() * count + begin) * width)
                                        : Slot(peer, step_) + PartIn(peer, rank()) * n * width;
      }
      Reduce(in.dtype, ReduceOp::kSum, 0, out.as<char>() + begin * width, n);
      begin += n;
    } while (begin < count);
  }

  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    ValidateCall(*this, stream, name, in, count, /*reduces=*/false);
    TANREN_CHECK(in.dtype == out.dtype);
    Begin(Call::Make(CallKind::kAllGather, name, in.dtype, count));
    const int64_t bytes = count * SizeOf(in.dtype);
    const char* source = in.as<char>();
    char* target = out.as<char>();
    const bool past_cache = bytes * size() >= kPastCacheBytes;
    const bool in_place = target + rank() * bytes == source;
    int64_t begin = 0;
    do {
      const int64_t n = std::min(slot_bytes_, bytes - begin);
      Fill(OpenStep(), source + begin, n);
      Meet();
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank() && in_place) continue;
        Copy(target + peer * bytes + begin, Slot(peer, step_), n, past_cache);
      }
      begin += n;
    } while (begin < bytes);
  }

  void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/false);
    TANREN_CHECK(root >= 0 && root < size());
    Begin(Call::Make(CallKind::kBroadcast, name, data.dtype, count, ReduceOp::kSum, root));
    const int64_t bytes = count * SizeOf(data.dtype);
    int64_t begin = 0;
    do {
      const int64_t n = std::min(slot_bytes_, bytes - begin);
      std::byte* slot = OpenStep();
      if (rank() == root) Fill(slot, data.as<char>() + begin, n);
      Meet();
      if (rank() != root) Copy(data.as<char>() + begin, Slot(root, step_), n, bytes >= kPastCacheBytes);
      begin += n;
    } while (begin < bytes);
  }

  // Point to point goes by MPI, which copies directly between processes on a node.
  void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/false);
    TANREN_CHECK(to >= 0 && to < size() && to != rank());
    pairs_.SendChecked(Call::Make(CallKind::kSendRecv, name, data.dtype, count), data.data, to);
  }

  void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/false);
    TANREN_CHECK(from >= 0 && from < size() && from != rank());
    pairs_.RecvChecked(Call::Make(CallKind::kSendRecv, name, data.dtype, count), data.data, from);
  }

  void Barrier(const char* name) override {
    Begin(Call::Make(CallKind::kBarrier, name, DType::kU8, 0));
    OpenStep();
    Meet();
  }

 private:
  std::byte* Slot(int owner, uint32_t step) const {
    return slots_ + (int64_t{owner} * kSlots + step % kSlots) * slot_bytes_;
  }
  PublishedCall& CallAt(int owner, uint32_t step) const { return calls_[owner * kSlots + step % kSlots]; }
  // The place of `reader`'s part in `owner`'s slot, which has none for the owner.
  static int PartIn(int owner, int reader) { return reader < owner ? reader : reader - 1; }

  void Begin(const Call& call) {
    own_ = call;
    own_.sequence = ++sequence_;
    call_is_new_ = true;
  }

  // Starts the next step; the returned slot may be filled.
  std::byte* OpenStep() {
    step_ = (step_ + 1) % kStepCycle;
    return Slot(rank(), step_);
  }

  // Publishes the step and waits for every peer to do so; then the peers' slots of this step may be read.
  void Meet() {
    if (call_is_new_) CallAt(rank(), step_).call = own_;
    Progress& own = progress_[rank()];
    // The store must be visible before the look at `sleepers`, and a sleeper counts itself before its last
    // look at `step`: one of the two sees the other.
    own.step.store(step_, std::memory_order_seq_cst);
    if (own.sleepers.load(std::memory_order_seq_cst) != 0) Futex(own.step, FUTEX_WAKE, INT32_MAX, nullptr);
    for (int i = 1; i < size(); ++i) Await((rank() + i) % size());
    if (!call_is_new_) return;
    call_is_new_ = false;
    for (int peer = 0; peer < size(); ++peer) {
      const Call& theirs = CallAt(peer, step_).call;
      if (!own_.Matches(theirs)) FailMismatch(*this, own_, peer, theirs);
    }
  }

  // A peer is at most one step ahead and at most one behind, so "behind" is one value of the cycle.
  bool IsBehind(uint32_t step) const { return (step + 1) % kStepCycle == step_; }

  void Await(int peer) {
    Progress& theirs = progress_[peer];
    if (!IsBehind(theirs.step.load(std::memory_order_acquire))) return;
    Wait wait(options_.limits, options_.crowded);
    while (true) {
      const uint32_t seen = theirs.step.load(std::memory_order_acquire);
      if (!IsBehind(seen)) return;
      switch (wait.Next()) {
        case Wait::Advice::kPoll:
          break;
        case Wait::Advice::kNap: {
          const timespec nap{0, Wait::kNapNanoseconds};
          theirs.sleepers.fetch_add(1, std::memory_order_seq_cst);
          if (theirs.step.load(std::memory_order_seq_cst) == seen) Futex(theirs.step, FUTEX_WAIT, seen, &nap);
          theirs.sleepers.fetch_sub(1, std::memory_order_seq_cst);
          break;
        }
        case Wait::Advice::kReport:
          WarnComm(*this,
                   absl::StrFormat("has waited %.0f s in %s for rank %d, which was last seen here in %s",
                                   wait.seconds_waited(), own_.ToString(), peer, LastCall(peer, seen)));
          break;
        case Wait::Advice::kTimeOut:
          FailComm(*this,
                   absl::StrFormat("gave up after %.0f s (TANREN_COMM_TIMEOUT_SECONDS) in %s waiting for "
                                   "rank %d, which was last seen here in %s",
                                   wait.seconds_waited(), own_.ToString(), peer, LastCall(peer, seen)));
      }
    }
  }

  // For reports: calls are only published with their first step, so the newest of the three may be an older
  // step's.
  std::string LastCall(int peer, uint32_t step) const {
    const Call* newest = &CallAt(peer, step).call;
    for (int i = 0; i < kSlots; ++i) {
      if (CallAt(peer, i).call.sequence > newest->sequence) newest = &CallAt(peer, i).call;
    }
    return newest->ToString();
  }

  static void Futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* limit) {
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation, value, limit, nullptr, 0);
  }

  // Runs body(begin, end) over [0, count) in as many threads as pay.
  template <class Body>
  void InThreads(int64_t count, int64_t width, const Body& body) const {
    const int threads =
        static_cast<int>(std::min<int64_t>(options_.threads, count * width / kMinThreadBytes));
    if (threads <= 1) {
      body(int64_t{0}, count);
      return;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) body(Cut(count, t, threads), Cut(count, t + 1, threads));
  }

  // Parts start at cache lines for every element width, so that two writers share none.
  static int64_t Cut(int64_t count, int part, int parts) {
    return part == parts ? count : count * part / parts / 64 * 64;
  }

  void Fill(void* slot, const void* from, int64_t bytes) const {
    Copy(slot, from, bytes, bytes >= kFillPastCacheBytes);
  }

  void Copy(void* to, const void* from, int64_t bytes, bool past_cache) const {
    InThreads(bytes, 1, [&](int64_t begin, int64_t end) {
      char* target = static_cast<char*>(to) + begin;
      const char* source = static_cast<const char*>(from) + begin;
      if (past_cache) {
        CopyPastCache(target, source, end - begin);
      } else if (begin < end) {
        std::memcpy(target, source, end - begin);
      }
    });
  }

  // out[i] = sum over ranks of sources_[r][offset + i], in rank order.
  void Reduce(DType dtype, ReduceOp op, int64_t offset, void* out, int64_t count) {
    const int64_t width = SizeOf(dtype);
    InThreads(count, width, [&](int64_t begin, int64_t end) {
      // Few ranks: the shifted pointers fit on the stack of the thread.
      constexpr int kStack = 64;
      const void* stack[kStack];
      std::vector<const void*> heap;
      const void** shifted = stack;
      if (size() > kStack) {
        heap.resize(size());
        shifted = heap.data();
      }
      for (int r = 0; r < size(); ++r) {
        shifted[r] = static_cast<const char*>(sources_[r]) + (offset + begin) * width;
      }
      ReduceInOrder(dtype, op, shifted, size(), static_cast<char*>(out) + begin * width, end - begin);
    });
  }

  // Every rank shows everything and adds everything, in one step; the data fits into a slot.
  void AllReduceWhole(Buffer data, int64_t count, ReduceOp op) {
    Fill(OpenStep(), data.data, count * SizeOf(data.dtype));
    Meet();
    for (int r = 0; r < size(); ++r) sources_[r] = r == rank() ? data.data : Slot(r, step_);
    Reduce(data.dtype, op, 0, data.data, count);
  }

  // Each rank adds its slice of every chunk and shows the sum in its slot. Three chunks are under way at
  // once, one being shown, one being added, one being collected, so that a chunk still costs one meeting.
  void AllReduceSliced(Buffer data, int64_t count, ReduceOp op) {
    const int64_t width = SizeOf(data.dtype);
    const int64_t chunk = slot_bytes_ / width;
    const int64_t chunks = (count + chunk - 1) / chunk;
    uint32_t steps[kSlots] = {};  // the step in which chunk c was shown, at c % kSlots
    for (int64_t i = 0; i <= chunks + 1; ++i) {
      if (i <= chunks) OpenStep();
      if (i < chunks) {
        steps[i % kSlots] = step_;
        const int64_t n = std::min(chunk, count - i * chunk);
        const int64_t own_begin = Cut(n, rank(), size()) * width,
                      own_end = Cut(n, rank() + 1, size()) * width;
        std::byte* slot = Slot(rank(), step_);
        const char* part = data.as<char>() + i * chunk * width;
        Fill(slot, part, own_begin);
        Fill(slot + own_end, part + own_end, n * width - own_end);
      }
      if (i >= 1 && i <= chunks) AddOwnSlice(data, count, chunk, i - 1, steps[(i - 1) % kSlots], op);
      if (i >= 2) CollectSlices(data, count, chunk, i - 2, steps[(i - 2) % kSlots]);
      if (i <= chunks) Meet();
    }
  }

  void AddOwnSlice(Buffer data, int64_t count, int64_t chunk, int64_t c, uint32_t shown_step, ReduceOp op) {
    const int64_t width = SizeOf(data.dtype);
    const int64_t n = std::min(chunk, count - c * chunk);
    const int64_t begin = Cut(n, rank(), size()), end = Cut(n, rank() + 1, size());
    char* part = data.as<char>() + c * chunk * width;
    for (int r = 0; r < size(); ++r)
      sources_[r] = r == rank() ? static_cast<void*>(part) : Slot(r, shown_step);
    Reduce(data.dtype, op, begin, part + begin * width, end - begin);
    Fill(Slot(rank(), shown_step) + begin * width, part + begin * width, (end - begin) * width);
  }

  void CollectSlices(Buffer data, int64_t count, int64_t chunk, int64_t c, uint32_t shown_step) {
    const int64_t width = SizeOf(data.dtype);
    const int64_t n = std::min(chunk, count - c * chunk);
    char* part = data.as<char>() + c * chunk * width;
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      const int64_t begin = Cut(n, r, size()) * width, end = Cut(n, r + 1, size()) * width;
      Copy(part + begin, Slot(r, shown_step) + begin, end - begin, /*past_cache=*/false);
    }
  }

  // A multiple of kSlots, so that slots follow each other across the wrap.
  static constexpr uint32_t kStepCycle = 3u << 24;

  CommOptions options_;
  SharedRegion region_;
  int64_t slot_bytes_;
  MpiExchange pairs_;
  Progress* progress_ = nullptr;
  PublishedCall* calls_ = nullptr;
  std::byte* slots_ = nullptr;

  uint32_t step_ = 0;
  uint64_t sequence_ = 0;
  Call own_;
  bool call_is_new_ = false;
  std::vector<const void*> sources_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Comm>> MakeSharedMemoryComm(MPI_Comm group, std::string axis,
                                                           const CommOptions& options) {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(group, &rank);
  MPI_Comm_size(group, &size);
  if (size == 1) return MakeSoloComm(std::move(axis));
  int64_t slot_bytes = std::clamp(options.threads * kSlotBytesPerThread, kSlotBytesPerThread, kMaxSlotBytes);
  MPI_Bcast(&slot_bytes, 1, MPI_INT64_T, 0, group);
  TANREN_ASSIGN_OR_RETURN(SharedRegion region,
                          SharedRegion::Create(group, ControlBytes(size) + size * kSlots * slot_bytes));
  return std::make_unique<SharedMemoryComm>(group, std::move(axis), rank, size, std::move(region), slot_bytes,
                                            options);
}

}  // namespace tanren
