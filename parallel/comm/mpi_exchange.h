// A batch of MPI messages between the ranks of a group that belong to one collective, checked for agreement.
//
// Agreement costs one small message per rank and call: each rank tells its right neighbour what it is calling
// and compares with what its left neighbour tells. If all neighbours agree, all ranks do; if not, at least
// one rank notices, and ends the job. The check runs beside the data and completes before the collective
// returns.
#ifndef TANREN_PARALLEL_COMM_MPI_EXCHANGE_H_
#define TANREN_PARALLEL_COMM_MPI_EXCHANGE_H_

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "parallel/comm/call.h"
#include "parallel/comm/wait.h"

namespace tanren {

class MpiExchange {
 public:
  // Duplicates `group`; `comm` is named in reports and outlives this.
  MpiExchange(const Comm& comm, MPI_Comm group, const WaitLimits& limits, bool crowded);
  ~MpiExchange();
  MpiExchange(const MpiExchange&) = delete;
  MpiExchange& operator=(const MpiExchange&) = delete;

  MPI_Comm mpi() const { return mpi_; }

  // Starts a collective: numbers the call and sends it to the neighbour.
  void Begin(const Call& call);

  // Post one message of at most INT_MAX bytes; buffers belong to MPI until Finish.
  void Send(const void* data, int64_t bytes, int to);
  void Recv(void* data, int64_t bytes, int from);
  // Takes over a request of another kind on mpi(); the argument receives the handle.
  MPI_Request* Add();

  // Waits for all posted messages and for the neighbour's call.
  void Finish();

  // Point to point, of any size: the call travels first and is compared before data is accepted.
  void SendChecked(Call call, const void* data, int to);
  void RecvChecked(Call call, void* data, int from);

 private:
  void PollNeighbour();
  void WaitOnce(Wait& wait);
  [[noreturn]] void FailTransport(int error);

  const Comm& comm_;
  MPI_Comm mpi_ = MPI_COMM_NULL;
  WaitLimits limits_;
  bool crowded_;
  std::vector<MPI_Request> requests_;

  uint64_t sequence_ = 0;
  std::vector<uint64_t> sent_to_, received_from_;  // numbers of point-to-point calls, by peer
  Call own_, left_;
  MPI_Request left_request_ = MPI_REQUEST_NULL;
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_MPI_EXCHANGE_H_
