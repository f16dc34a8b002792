// The collectives of one group of ranks: the only way by which ranks exchange data.
//
// Implementations live in parallel/: a group of one, MPI with a shared-memory path on a node, NCCL.
//
// Contract, for every implementation:
//  - All ranks of the group call the same collectives in the same order with the same name, count, type and
//    operation. Each call carries a sequence number; a rank that calls another collective than its peers is
//    reported by rank, sequence number and both names, and the job ends with a non-zero code.
//  - A collective has no error value: when one fails (a lost peer, a broken transport), no step can be
//    completed, so the process prints which collective failed on which rank and ends.
//  - Reductions add in ascending rank order, so the same group gives the same bits every time, and every rank
//    of the group receives the same bits. bf16 sums are carried in fp32.
//  - On Device::kCpu a call is complete on return: outputs are readable and inputs may be reused. On a GPU it
//    is ordered on `stream`.
//  - Every implementation also serves host memory, with a Stream of Device::kCpu: scalars and agreement.
//  - Counts are elements. A count of zero is allowed and moves nothing, but still takes part in the order.
#ifndef TANREN_CORE_COMM_COMM_H_
#define TANREN_CORE_COMM_COMM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/types.h"

namespace tanren {

enum class ReduceOp : uint8_t { kSum, kMax, kMin };

class Comm {
 public:
  virtual ~Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  // The axis this group runs along ("world", "data", "tensor"); appears in reports.
  const std::string& axis() const { return axis_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  // data[i] = op over ranks of data[i].
  virtual void AllReduce(const Stream& stream, const char* name, Buffer data, int64_t count, ReduceOp op) = 0;

  // out[0, count) = sum over ranks of in[rank() * count, (rank() + 1) * count). `in` holds size() * count
  // elements. `out` may be that slice of `in`; `in` is otherwise unchanged.
  virtual void ReduceScatter(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                             int64_t count) = 0;

  // out[r * count, (r + 1) * count) = rank r's in[0, count). `in` may be the caller's own slice of `out`.
  virtual void AllGather(const Stream& stream, const char* name, ConstBuffer in, Buffer out,
                         int64_t count) = 0;

  // data on every rank = root's data.
  virtual void Broadcast(const Stream& stream, const char* name, Buffer data, int64_t count, int root) = 0;

  // Point to point; matched in order per pair of ranks.
  virtual void Send(const Stream& stream, const char* name, ConstBuffer data, int64_t count, int to) = 0;
  virtual void Recv(const Stream& stream, const char* name, Buffer data, int64_t count, int from) = 0;

  virtual void Barrier(const char* name) = 0;

 protected:
  Comm(std::string axis, int rank, int size) : axis_(std::move(axis)), rank_(rank), size_(size) {}

 private:
  std::string axis_;
  int rank_;
  int size_;
};

// The group of one: every collective copies in to out where they differ, or does nothing.
std::unique_ptr<Comm> MakeSoloComm(std::string axis);

// Host-side agreement, for the slow path (start-up, checkpoints). `comm` must serve Device::kCpu.
//
// Every rank passes its own status; all return OK when all were OK. Otherwise all return the error of the
// lowest failing rank, with "rank R: " before its message (but in a group of one).
absl::Status AgreeStatus(Comm& comm, const char* name, const absl::Status& local);
std::string BroadcastString(Comm& comm, const char* name, const std::string& text, int root);
// All ranks receive all texts, by rank.
std::vector<std::string> AllGatherStrings(Comm& comm, const char* name, const std::string& text);

}  // namespace tanren

#endif  // TANREN_CORE_COMM_COMM_H_
