// Collectives from point-to-point messages: MPI's own reductions promise no order of additions.
//
// A reduction sends slice d of every rank to rank d, which adds the slices in rank order; an all-reduce then
// sends the sums back. Large buffers go through in blocks, so that scratch is bounded; the return of one
// block travels beside the sending of the next.
#include <algorithm>
#include <climits>
#include <cstring>
#include <vector>

#include "core/base/status.h"
#include "parallel/comm/call.h"
#include "parallel/comm/make_comm.h"
#include "parallel/comm/mpi_exchange.h"
#include "parallel/comm/reduce.h"

namespace tanren {
namespace {

constexpr int64_t kScratchBytes = 8 << 20;
// Up to here every rank sends everything to every rank: one exchange instead of two.
constexpr int64_t kSmallBytes = 8 << 10;
constexpr int64_t kPieceBytes = 16 << 20;

int RankIn(MPI_Comm group) {
  int rank = 0;
  MPI_Comm_rank(group, &rank);
  return rank;
}

int SizeIn(MPI_Comm group) {
  int size = 0;
  MPI_Comm_size(group, &size);
  return size;
}

class MpiComm final : public Comm {
 public:
  MpiComm(MPI_Comm group, std::string axis, const CommOptions& options)
      : Comm(std::move(axis), RankIn(group), SizeIn(group)),
        exchange_(*this, group, options.limits, options.crowded),
        scratch_(std::max(kScratchBytes, kSmallBytes * size())),
        sources_(size()) {}

  ~MpiComm() override {
    // A rank that leaves early is named by the ranks that did not.
    exchange_.Begin(Call::Make(CallKind::kClose, "close", DType::kU8, 0));
    exchange_.Finish();
  }

  void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/true);
    exchange_.Begin(Call::Make(CallKind::kAllReduce, name, data.dtype, count, op));
    if (count * SizeOf(data.dtype) <= kSmallBytes) {
      AllReduceSmall(data, count, op);
    } else {
      AllReduceBlocks(data, count, op);
    }
  }

  void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                     int64_t count) override {
    ValidateCall(*this, stream, name, in, count, /*reduces=*/true);
    TANREN_CHECK(in.dtype == out.dtype);
    exchange_.Begin(Call::Make(CallKind::kReduceScatter, name, in.dtype, count));
    const int64_t width = SizeOf(in.dtype);
    const int64_t step = BlockElements(width);
    const char* source = in.as<char>();
    char* target = out.as<char>();
    for (int64_t begin = 0; begin < count; begin += step) {
      const int64_t n = std::min(step, count - begin);
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        exchange_.Recv(Scratch(peer, n * width), n * width, peer);
        exchange_.Send(source + (peer * count + begin) * width, n * width, peer);
      }
      exchange_.Finish();
      Reduce(in.dtype, ReduceOp::kSum, source + (rank() * count + begin) * width, target + begin * width, n);
    }
    exchange_.Finish();
  }

  void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out, int64_t count) override {
    ValidateCall(*this, stream, name, in, count, /*reduces=*/false);
    TANREN_CHECK(in.dtype == out.dtype);
    exchange_.Begin(Call::Make(CallKind::kAllGather, name, in.dtype, count));
    const int64_t bytes = count * SizeOf(in.dtype);
    const char* source = in.as<char>();
    char* target = out.as<char>();
    if (bytes > 0 && target + rank() * bytes != source) std::memcpy(target + rank() * bytes, source, bytes);
    for (int64_t begin = 0; begin < bytes; begin += kPieceBytes) {
      const int64_t n = std::min(kPieceBytes, bytes - begin);
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        exchange_.Recv(target + peer * bytes + begin, n, peer);
        exchange_.Send(source + begin, n, peer);
      }
      exchange_.Finish();
    }
    exchange_.Finish();
  }

  void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/false);
    TANREN_CHECK(root >= 0 && root < size());
    exchange_.Begin(Call::Make(CallKind::kBroadcast, name, data.dtype, count, ReduceOp::kSum, root));
    // The root's tree messages must not meet a peer that waits for something else.
    exchange_.Finish();
    const int64_t bytes = count * SizeOf(data.dtype);
    for (int64_t begin = 0; begin < bytes; begin += kPieceBytes) {
      const int n = static_cast<int>(std::min(kPieceBytes, bytes - begin));
      const int error =
          MPI_Ibcast(data.as<char>() + begin, n, MPI_BYTE, root, exchange_.mpi(), exchange_.Add());
      if (error != MPI_SUCCESS) FailComm(*this, absl::StrCat("broadcast '", name, "' could not start"));
      exchange_.Finish();
    }
  }

  void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/false);
    TANREN_CHECK(to >= 0 && to < size() && to != rank());
    exchange_.SendChecked(Call::Make(CallKind::kSendRecv, name, data.dtype, count), data.data, to);
  }

  void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) override {
    ValidateCall(*this, stream, name, data, count, /*reduces=*/false);
    TANREN_CHECK(from >= 0 && from < size() && from != rank());
    exchange_.RecvChecked(Call::Make(CallKind::kSendRecv, name, data.dtype, count), data.data, from);
  }

  void Barrier(const char* name) override {
    exchange_.Begin(Call::Make(CallKind::kBarrier, name, DType::kU8, 0));
    const int error = MPI_Ibarrier(exchange_.mpi(), exchange_.Add());
    if (error != MPI_SUCCESS) FailComm(*this, absl::StrCat("barrier '", name, "' could not start"));
    exchange_.Finish();
  }

 private:
  // Elements of each peer's slice that fit into scratch together.
  int64_t BlockElements(int64_t width) const { return kScratchBytes / (size() - 1) / width; }

  char* Scratch(int peer, int64_t bytes) {
    return scratch_.data() + (peer < rank() ? peer : peer - 1) * bytes;
  }

  // Adds the peers' parts in scratch and the own one, in rank order.
  void Reduce(DType dtype, ReduceOp op, const void* own, void* out, int64_t count) {
    for (int peer = 0; peer < size(); ++peer) {
      sources_[peer] = peer == rank() ? own : Scratch(peer, count * SizeOf(dtype));
    }
    ReduceInOrder(dtype, op, sources_.data(), size(), out, count);
  }

  void AllReduceSmall(Buffer data, int64_t count, ReduceOp op) {
    const int64_t bytes = count * SizeOf(data.dtype);
    for (int peer = 0; peer < size() && bytes > 0; ++peer) {
      if (peer == rank()) continue;
      exchange_.Recv(Scratch(peer, bytes), bytes, peer);
      exchange_.Send(data.data, bytes, peer);
    }
    exchange_.Finish();
    Reduce(data.dtype, op, data.data, data.data, count);
  }

  void AllReduceBlocks(Buffer data, int64_t count, ReduceOp op) {
    const int64_t width = SizeOf(data.dtype);
    const int64_t block = BlockElements(width) * size();
    const int64_t blocks = (count + block - 1) / block;
    auto slice_begin = [&](int64_t b, int r) {
      const int64_t n = std::min(block, count - b * block);
      return b * block + n * r / size();
    };
    auto address = [&](int64_t element) { return data.as<char>() + element * width; };
    for (int64_t b = 0; b <= blocks; ++b) {
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        if (b < blocks) {
          const int64_t own = slice_begin(b, rank() + 1) - slice_begin(b, rank());
          const int64_t theirs = slice_begin(b, peer + 1) - slice_begin(b, peer);
          exchange_.Recv(Scratch(peer, own * width), own * width, peer);
          exchange_.Send(address(slice_begin(b, peer)), theirs * width, peer);
        }
        if (b > 0) {
          const int64_t own = slice_begin(b - 1, rank()), theirs = slice_begin(b - 1, peer);
          exchange_.Recv(address(theirs), (slice_begin(b - 1, peer + 1) - theirs) * width, peer);
          exchange_.Send(address(own), (slice_begin(b - 1, rank() + 1) - own) * width, peer);
        }
      }
      exchange_.Finish();
      if (b == blocks) break;
      const int64_t own = slice_begin(b, rank());
      Reduce(data.dtype, op, address(own), address(own), slice_begin(b, rank() + 1) - own);
    }
  }

  MpiExchange exchange_;
  std::vector<char> scratch_;
  std::vector<const void*> sources_;
};

}  // namespace

std::unique_ptr<Comm> MakeMpiComm(MPI_Comm group, std::string axis, const CommOptions& options) {
  if (SizeIn(group) == 1) return MakeSoloComm(std::move(axis));
  return std::make_unique<MpiComm>(group, std::move(axis), options);
}

}  // namespace tanren
