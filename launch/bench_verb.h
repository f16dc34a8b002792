// `tanren bench`: the speed of kernels and steps on this machine, on either device, on random data.
//
// Each prints one line a case: sizes, median time, rate and, where there is one, the share of the measured
// peak. They are what docs/benchmarks is made with.
#ifndef TANREN_LAUNCH_BENCH_VERB_H_
#define TANREN_LAUNCH_BENCH_VERB_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

struct BenchOptions {
  std::string device = "cpu";  // cpu or cuda
  std::string precision = "bf16";

  // attention
  std::vector<int64_t> head_dims = {64, 128};
  std::vector<int64_t> lengths = {2048, 4096, 8192, 16384};
  int64_t tokens = 16384;  // of a packed row: tokens / length segments of equal length
  int64_t width = 2048;    // heads * head_dim
  int64_t kv_groups = 1;   // query heads a key/value head
  bool full = false;       // no causal mask
  bool mixed = false;      // segment lengths drawn from a fixed skewed distribution instead

  // step, decode
  std::string model = "configs/models/gpt2_124m.yaml";
  std::vector<std::string> overrides;
  int64_t steps = 10;
  int64_t batch = 1;     // decode: sequences at once
  int64_t prompt = 128;  // decode: tokens of a prompt
  bool parts = false;    // decode: the kernels of a step instead, together and by kind

  // collectives
  std::vector<int64_t> sizes = {65536, 1048576, 16777216, 134217728};  // bytes
  int64_t tensor = 1;                                                  // ranks of the tensor axis
};

// Exit codes as of every verb.
int BenchAttention(const BenchOptions& options);
int BenchMatmul(const BenchOptions& options);
int BenchKernels(const BenchOptions& options);
int BenchStep(const BenchOptions& options);
int BenchDecode(const BenchOptions& options);
int BenchCollectives(const BenchOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_BENCH_VERB_H_
