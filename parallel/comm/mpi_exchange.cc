#include "parallel/comm/mpi_exchange.h"

#include <algorithm>
#include <ctime>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int kCallTag = 1;
constexpr int kPairCallTag = 2;
constexpr int kPairDataTag = 3;
// Data messages of neighbouring collectives carry different tags, so that a rank that left the common order
// cannot have its data taken for another call's before the mismatch is seen.
constexpr int kFirstDataTag = 16;
constexpr int kDataTags = 16384;
constexpr int64_t kPairPieceBytes = int64_t{1} << 28;

}  // namespace

MpiExchange::MpiExchange(const Comm& comm, MPI_Comm group, const WaitLimits& limits, bool crowded)
    : comm_(comm), limits_(limits), crowded_(crowded), sent_to_(comm.size()), received_from_(comm.size()) {
  MPI_Comm_dup(group, &mpi_);
  MPI_Comm_set_errhandler(mpi_, MPI_ERRORS_RETURN);
  requests_.reserve(4 * comm.size() + 2);
}

MpiExchange::~MpiExchange() { MPI_Comm_free(&mpi_); }

void MpiExchange::Begin(const Call& call) {
  own_ = call;
  own_.sequence = ++sequence_;
  const int right = (comm_.rank() + 1) % comm_.size();
  const int left = (comm_.rank() + comm_.size() - 1) % comm_.size();
  int error = MPI_Irecv(&left_, sizeof(left_), MPI_BYTE, left, kCallTag, mpi_, &left_request_);
  if (error == MPI_SUCCESS) error = MPI_Isend(&own_, sizeof(own_), MPI_BYTE, right, kCallTag, mpi_, Add());
  if (error != MPI_SUCCESS) FailTransport(error);
}

MPI_Request* MpiExchange::Add() { return &requests_.emplace_back(MPI_REQUEST_NULL); }

void MpiExchange::Send(const void* data, int64_t bytes, int to) {
  const int tag = kFirstDataTag + static_cast<int>(sequence_ % kDataTags);
  const int error = MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, mpi_, Add());
  if (error != MPI_SUCCESS) FailTransport(error);
}

void MpiExchange::Recv(void* data, int64_t bytes, int from) {
  const int tag = kFirstDataTag + static_cast<int>(sequence_ % kDataTags);
  const int error = MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, from, tag, mpi_, Add());
  if (error != MPI_SUCCESS) FailTransport(error);
}

void MpiExchange::PollNeighbour() {
  int arrived = 0;
  const int error = MPI_Test(&left_request_, &arrived, MPI_STATUS_IGNORE);
  if (error != MPI_SUCCESS) FailTransport(error);
  if (arrived == 0) return;
  const int left = (comm_.rank() + comm_.size() - 1) % comm_.size();
  if (!own_.Matches(left_)) FailMismatch(comm_, own_, left, left_);
}

void MpiExchange::WaitOnce(Wait& wait) {
  switch (wait.Next()) {
    case Wait::Advice::kPoll:
      return;
    case Wait::Advice::kNap: {
      // MPI cannot block with a limit. After a wait of milliseconds, 50 us more do not matter.
      const timespec nap{0, 50'000};
      nanosleep(&nap, nullptr);
      return;
    }
    case Wait::Advice::kReport:
      WarnComm(comm_, absl::StrFormat("has waited %.0f s in %s", wait.seconds_waited(), own_.ToString()));
      return;
    case Wait::Advice::kTimeOut:
      FailComm(comm_, absl::StrFormat("gave up after %.0f s (TANREN_COMM_TIMEOUT_SECONDS) in %s",
                                      wait.seconds_waited(), own_.ToString()));
  }
}

void MpiExchange::Finish() {
  Wait wait(limits_, crowded_);
  while (true) {
    if (left_request_ != MPI_REQUEST_NULL) PollNeighbour();
    int done = 0;
    const int error =
        MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (error != MPI_SUCCESS) FailTransport(error);
    if (done != 0 && left_request_ == MPI_REQUEST_NULL) break;
    WaitOnce(wait);
  }
  requests_.clear();
}

void MpiExchange::FailTransport(int error) {
  // A message of the wrong length is most often a peer in another collective: its call says so better.
  if (left_request_ != MPI_REQUEST_NULL) {
    Wait wait(WaitLimits{.report_seconds = 2, .timeout_seconds = 2}, /*crowded=*/true);
    int arrived = 0;
    for (auto advice = Wait::Advice::kPoll; arrived == 0 && advice != Wait::Advice::kTimeOut;
         advice = wait.Next()) {
      if (MPI_Test(&left_request_, &arrived, MPI_STATUS_IGNORE) != MPI_SUCCESS) break;
    }
    const int left = (comm_.rank() + comm_.size() - 1) % comm_.size();
    if (arrived != 0 && !own_.Matches(left_)) FailMismatch(comm_, own_, left, left_);
  }
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(error, text, &length);
  FailComm(comm_, absl::StrCat("collective ", own_.ToString(), " failed: ", text));
}

void MpiExchange::SendChecked(Call call, const void* data, int to) {
  call.sequence = ++sent_to_[to];
  own_ = call;
  int error = MPI_Isend(&own_, sizeof(own_), MPI_BYTE, to, kPairCallTag, mpi_, Add());
  const char* bytes = static_cast<const char*>(data);
  const int64_t total = call.count * SizeOf(call.dtype);
  for (int64_t begin = 0; begin < total && error == MPI_SUCCESS; begin += kPairPieceBytes) {
    const int piece = static_cast<int>(std::min(kPairPieceBytes, total - begin));
    error = MPI_Isend(bytes + begin, piece, MPI_BYTE, to, kPairDataTag, mpi_, Add());
  }
  if (error != MPI_SUCCESS) FailTransport(error);
  Finish();
}

void MpiExchange::RecvChecked(Call call, void* data, int from) {
  call.sequence = ++received_from_[from];
  own_ = call;
  Call theirs;
  int error = MPI_Irecv(&theirs, sizeof(theirs), MPI_BYTE, from, kPairCallTag, mpi_, Add());
  if (error != MPI_SUCCESS) FailTransport(error);
  Finish();
  if (!own_.Matches(theirs)) FailMismatch(comm_, own_, from, theirs);

  char* bytes = static_cast<char*>(data);
  const int64_t total = call.count * SizeOf(call.dtype);
  for (int64_t begin = 0; begin < total && error == MPI_SUCCESS; begin += kPairPieceBytes) {
    const int piece = static_cast<int>(std::min(kPairPieceBytes, total - begin));
    error = MPI_Irecv(bytes + begin, piece, MPI_BYTE, from, kPairDataTag, mpi_, Add());
  }
  if (error != MPI_SUCCESS) FailTransport(error);
  Finish();
}

}  // namespace tanren
