#include <algorithm>

#include "core/base/status.h"
#include "core/comm/comm.h"

namespace tanren {
namespace {

// Texts travel as bytes and need no stream of a device.
constexpr Stream kHost{Device::kCpu, nullptr};

}  // namespace

std::string BroadcastString(Comm& comm, const char* name, const std::string& text, int root) {
  int64_t bytes = static_cast<int64_t>(text.size());
  comm.Broadcast(kHost, name, &bytes, 1, root);
  std::string result = comm.rank() == root ? text : std::string(bytes, '\0');
  comm.Broadcast(kHost, name, reinterpret_cast<uint8_t*>(result.data()), bytes, root);
  return result;
}

std::vector<std::string> AllGatherStrings(Comm& comm, const char* name, const std::string& text) {
  const int64_t own_bytes = static_cast<int64_t>(text.size());
  std::vector<int64_t> bytes(comm.size());
  comm.AllGather(kHost, name, &own_bytes, bytes.data(), 1);

  // Texts are padded to the longest, in pieces: one rank's long text must not cost every rank that much
  // memory.
  constexpr int64_t kPieceBytes = 64 << 10;
  const int64_t longest = *std::max_element(bytes.begin(), bytes.end());
  const int64_t piece = std::min(longest, kPieceBytes);
  std::vector<uint8_t> own(piece), all(piece * comm.size());
  std::vector<std::string> texts(comm.size());
  for (int64_t begin = 0; begin < longest; begin += piece) {
    const int64_t own_part = std::clamp<int64_t>(own_bytes - begin, 0, piece);
    std::copy_n(text.begin() + std::min(begin, own_bytes), own_part, own.begin());
    comm.AllGather(kHost, name, own.data(), all.data(), piece);
    for (int rank = 0; rank < comm.size(); ++rank) {
      const int64_t part = std::clamp<int64_t>(bytes[rank] - begin, 0, piece);
      texts[rank].append(reinterpret_cast<const char*>(all.data()) + rank * piece, part);
    }
  }
  return texts;
}

absl::Status AgreeStatus(Comm& comm, const char* name, const absl::Status& local) {
  if (comm.size() == 1) return local;
  int32_t first_failing = local.ok() ? comm.size() : comm.rank();
  comm.AllReduce(kHost, name, &first_failing, 1, ReduceOp::kMin);
  if (first_failing == comm.size()) return absl::OkStatus();

  int32_t code = static_cast<int32_t>(local.code());
  comm.Broadcast(kHost, name, &code, 1, first_failing);
  const std::string message = BroadcastString(comm, name, std::string(local.message()), first_failing);
  return absl::Status(static_cast<absl::StatusCode>(code),
                      absl::StrCat("rank ", first_failing, ": ", message));
}

}  // namespace tanren
