// Collectives of Tanren against plain MPI, in one run:
//   mpirun -np 2 comm_benchmark [megabytes] [repeats]
// Prints medians over repeats of the slowest rank's time. GB/s is buffer bytes by time (the figure of the
// house goal), for all-gather and reduce-scatter the whole buffer's.
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/make_comm.h"

namespace tanren {
namespace {

double MedianSeconds(int repeats, int calls, const std::function<void()>& body) {
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    for (int call = 0; call < calls; ++call) body();
    double elapsed = (MPI_Wtime() - begin) / calls;
    MPI_Allreduce(MPI_IN_PLACE, &elapsed, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (i > 0) seconds.push_back(elapsed);  // the first is the warm-up
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[repeats / 2];
}

void Print(int rank, const char* what, const std::string& name, int64_t bytes, double seconds) {
  if (rank != 0) return;
  std::printf("%-22s %-18s %12ld bytes %10.3f ms %8.2f GB/s\n", what, name.c_str(), static_cast<long>(bytes),
              1e3 * seconds, 1e-9 * bytes / seconds);
}

struct Peer {
  std::string name;
  Comm* comm;  // null: plain MPI
};

void MeasureLarge(const Peer& peer, std::vector<float>& data, int rank, int size, int repeats) {
  const int64_t count = static_cast<int64_t>(data.size()), part = count / size;
  const int64_t bytes = count * 4;
  const Stream stream;
  float* own = data.data() + rank * part;
  const int plain_count = static_cast<int>(count), plain_part = static_cast<int>(part);
  Print(rank, "all-reduce float32", peer.name, bytes, MedianSeconds(repeats, 1, [&] {
          if (peer.comm != nullptr)
            return peer.comm->AllReduce(stream, "sum", data.data(), count, ReduceOp::kSum);
          MPI_Allreduce(MPI_IN_PLACE, data.data(), plain_count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        }));
  if (peer.comm != nullptr) {
    auto* half = reinterpret_cast<BFloat16*>(data.data());
    Print(rank, "all-reduce bfloat16", peer.name, bytes, MedianSeconds(repeats, 1, [&] {
            peer.comm->AllReduce(stream, "sum", half, 2 * count, ReduceOp::kSum);
          }));
  }
  Print(rank, "reduce-scatter float32", peer.name, bytes, MedianSeconds(repeats, 1, [&] {
          if (peer.comm != nullptr) return peer.comm->ReduceScatter(stream, "sum", data.data(), own, part);
          MPI_Reduce_scatter_block(MPI_IN_PLACE, data.data(), plain_part, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        }));
  Print(rank, "all-gather float32", peer.name, bytes, MedianSeconds(repeats, 1, [&] {
          if (peer.comm != nullptr) return peer.comm->AllGather(stream, "gather", own, data.data(), part);
          MPI_Allgather(MPI_IN_PLACE, 0, MPI_FLOAT, data.data(), plain_part, MPI_FLOAT, MPI_COMM_WORLD);
        }));
}

void MeasureSmall(const Peer& peer, std::vector<float>& data, int rank, int repeats) {
  for (const int count : {1, 256, 4096, 65536, 262144}) {
    const int calls = count <= 4096 ? 1000 : 100;
    Print(rank, "all-reduce float32", peer.name, count * 4, MedianSeconds(repeats, calls, [&] {
            if (peer.comm != nullptr)
              return peer.comm->AllReduce(Stream{}, "sum", data.data(), count, ReduceOp::kMax);
            MPI_Allreduce(MPI_IN_PLACE, data.data(), count, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD);
          }));
  }
}

int Main(int argc, char** argv) {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int64_t megabytes = argc > 1 ? std::atoi(argv[1]) : 474;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 9;
  CommOptions options;
  const int cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  options.crowded = size > cores;
  options.threads = std::max(1, cores / size);
  auto shared = MakeSharedMemoryComm(MPI_COMM_WORLD, "world", options);
  auto mpi = MakeMpiComm(MPI_COMM_WORLD, "world", options);
  if (!shared.ok()) std::fprintf(stderr, "%s\n", std::string(shared.status().message()).c_str());

  std::vector<Peer> peers;
  if (shared.ok()) peers.push_back({"shared memory", shared->get()});
  peers.push_back({"MPI messages", mpi.get()});
  peers.push_back({"plain MPI", nullptr});
  std::vector<float> data(megabytes * 1'000'000 / 4 / size * size);
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = 1e-6f * static_cast<float>(i % 1013) + static_cast<float>(rank);
  if (rank == 0) std::printf("%d ranks, %d cores, median of %d\n", size, cores, repeats);
  for (const Peer& peer : peers) MeasureLarge(peer, data, rank, size, repeats);
  for (const Peer& peer : peers) MeasureSmall(peer, data, rank, repeats);
  return 0;
}

}  // namespace
}  // namespace tanren

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const int code = tanren::Main(argc, argv);
  MPI_Finalize();
  return code;
}
