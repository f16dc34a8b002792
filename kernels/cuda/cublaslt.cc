// Plans (descriptors and an algorithm) of matrix products on cuBLASLt, and the choice of algorithms.
//
// cuBLASLt is column-major, and a row-major matrix read column-major is its transpose. So out = left right is
// asked for as out^T = right^T left^T: its A is our right factor, its B our left one, its D our out. A bias
// along the rows of D, as its epilogue adds it, then is one along the columns of out.
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/stream.h"
#include "kernels/device.h"

// `what` is made into words only when the call failed.
#define TANREN_CUBLAS(call, what)                                                               \
  do {                                                                                          \
    const cublasStatus_t tanren_status = (call);                                                \
    if (tanren_status != CUBLAS_STATUS_SUCCESS) {                                               \
      const std::string tanren_call = std::string(#call) + " for " + (what);                    \
      CallFailed(__FILE__, __LINE__, tanren_call.c_str(), cublasLtGetStatusName(tanren_status), \
                 cublasLtGetStatusString(tanren_status));                                       \
    }                                                                                           \
  } while (false)

namespace tanren::kernels::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
// The widest access to memory that an algorithm may ask an alignment for. Coarser alignments are not told
// apart, so that equal inputs at other addresses meet the same algorithm.
constexpr uintptr_t kWidestAccess = 16;
constexpr int kCandidates = 16;        // of the heuristic, when tuning
constexpr int kUntunedCandidates = 4;  // the later ones stand in should the first be declined at its launch
constexpr size_t kMaxPlans = 48;       // of one layer; beyond them the least recently used is made anew

bool IsSwitchedOn(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && value[0] == '1';
}
bool IsTuning() {
  static const bool tuning = IsSwitchedOn("TANREN_TUNE_MATMUL");
  return tuning;
}
bool IsPlain() {
  static const bool plain = IsSwitchedOn("TANREN_PLAIN_MATMUL");
  return plain;
}

std::string Describe(const Product& product) {
  const auto text = [](int64_t value) { return std::to_string(value); };
  return std::string(product.name) + " product [" + text(product.m) + ", " + text(product.k) + "] (stride " +
         text(product.left.stride) + ") by [" + text(product.k) + ", " + text(product.n) + "] (stride " +
         text(product.right.stride) + "), " + NameOf(product.dtype) + " to " +
         NameOf(product.out.data.dtype) + " (stride " + text(product.out.stride) + ")" +
         (product.bias ? ", with bias" : "") + (product.accumulate ? ", accumulating" : "");
}

struct Destroy {
  void operator()(cublasLtMatmulDesc_t owned) const {
    TANREN_CUBLAS(cublasLtMatmulDescDestroy(owned), "a plan");
  }
  void operator()(cublasLtMatrixLayout_t owned) const {
    TANREN_CUBLAS(cublasLtMatrixLayoutDestroy(owned), "a plan");
  }
  void operator()(cublasLtMatmulPreference_t owned) const {
    TANREN_CUBLAS(cublasLtMatmulPreferenceDestroy(owned), "a plan");
  }
  void operator()(cudaEvent_t owned) const { TANREN_CUDA(cudaEventDestroy(owned)); }
};
template <class Pointer>
using Owned = std::unique_ptr<std::remove_pointer_t<Pointer>, Destroy>;

// --- Plans. ---

// All that the choice of an algorithm may depend on.
struct PlanKey {
  int64_t m = 0, n = 0, k = 0;
  int64_t left_stride = 0, right_stride = 0, out_stride = 0;
  uint32_t left_alignment = 0, right_alignment = 0, out_alignment = 0;  // in bytes
  DType dtype = DType::kF32, out_dtype = DType::kF32;
  bool left_transposed = false, right_transposed = false;
  bool bias = false;
  bool accumulate = false;

  bool operator==(const PlanKey&) const = default;
};

// The alignment in bytes that every row of a matrix has, up to the widest access.
uint32_t RowAlignment(const void* data, int64_t stride, DType dtype) {
  const uintptr_t bits =
      reinterpret_cast<uintptr_t>(data) | static_cast<uintptr_t>(stride * SizeOf(dtype)) | kWidestAccess;
  return static_cast<uint32_t>(bits & -bits);  // the lowest bit that is set
}

PlanKey KeyOf(const Product& product) {
  const Matrix& out = product.out;
  return {
      .m = product.m,
      .n = product.n,
      .k = product.k,
      .left_stride = product.left.stride,
      .right_stride = product.right.stride,
      .out_stride = out.stride,
      .left_alignment = RowAlignment(product.left.data, product.left.stride, product.dtype),
      .right_alignment = RowAlignment(product.right.data, product.right.stride, product.dtype),
      .out_alignment = RowAlignment(out.data.data, out.stride, out.data.dtype),
      .dtype = product.dtype,
      .out_dtype = out.data.dtype,
      .left_transposed = product.left.transposed,
      .right_transposed = product.right.transposed,
      .bias = bool{product.bias},
      .accumulate = product.accumulate,
  };
}

}  // namespace

struct ProductCache::Plan {
  PlanKey key;
  Owned<cublasLtMatmulDesc_t> operation;
  Owned<cublasLtMatrixLayout_t> left, right, out;
  std::vector<cublasLtMatmulAlgo_t> algorithms;  // in the order to be tried; none left: the plain kernel
  bool announced = false;                        // that none is left
  uint64_t last_use = 0;
};

// cuBLASLt on one device, with the algorithms that were tuned there.
struct ProductCache::Library {
  struct Tuned {
    PlanKey key;
    cublasLtMatmulAlgo_t algorithm;
  };
  cublasLtHandle_t handle = nullptr;  // never destroyed: when static objects are, the driver may be gone
  std::mutex mutex;                   // guards `tuned`
  std::vector<Tuned> tuned;
};

namespace {

using Plan = ProductCache::Plan;
using Library = ProductCache::Library;

Library& LibraryOfCurrentDevice() {
  static std::mutex mutex;
  static std::map<int, Library> libraries;
  int device = 0;
  TANREN_CUDA(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  Library& library = libraries[device];
  if (library.handle == nullptr) {
    TANREN_CUBLAS(cublasLtCreate(&library.handle), "device " + std::to_string(device));
  }
  return library;
}

template <class Value>
void SetAttribute(const Plan& plan, const Product& product, cublasLtMatmulDescAttributes_t attribute,
                  Value value) {
  TANREN_CUBLAS(cublasLtMatmulDescSetAttribute(plan.operation.get(), attribute, &value, sizeof(value)),
                Describe(product));
}

// Of a row-major matrix [rows, columns].
Owned<cublasLtMatrixLayout_t> MakeLayout(const Product& product, DType dtype, int64_t rows, int64_t columns,
                                         int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  TANREN_CUBLAS(
      cublasLtMatrixLayoutCreate(&layout, dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF,
                                 static_cast<uint64_t>(columns), static_cast<uint64_t>(rows), stride),
      Describe(product));
  return Owned<cublasLtMatrixLayout_t>(layout);
}
Owned<cublasLtMatrixLayout_t> MakeFactorLayout(const Product& product, const Factor& factor, int64_t rows,
                                               int64_t columns) {
  if (factor.transposed) std::swap(rows, columns);
  return MakeLayout(product, product.dtype, rows, columns, factor.stride);
}

// An answer that declines a product or an algorithm before anything was launched.
bool IsRefusal(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE ||
         status == CUBLAS_STATUS_ARCH_MISMATCH;
}

// The heuristic's algorithms, the most promising first.
std::vector<cublasLtMatmulAlgo_t> FindAlgorithms(cublasLtHandle_t handle, const Plan& plan,
                                                 const Product& product) {
  cublasLtMatmulPreference_t created = nullptr;
  TANREN_CUBLAS(cublasLtMatmulPreferenceCreate(&created), Describe(product));
  const Owned<cublasLtMatmulPreference_t> preference(created);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    TANREN_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
                  Describe(product));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, plan.key.right_alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, plan.key.left_alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, plan.key.out_alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, plan.key.out_alignment);

  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results = {};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan.operation.get(), plan.right.get(), plan.left.get(), plan.out.get(), plan.out.get(),
      preference.get(), IsTuning() ? kCandidates : kUntunedCandidates, results.data(), &found);
  if (IsRefusal(status)) return {};
  TANREN_CUBLAS(status, Describe(product));
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(results[i].algo);
  }
  return algorithms;
}

Plan MakePlan(cublasLtHandle_t handle, const Product& product) {
  Plan plan;
  plan.key = KeyOf(product);
  cublasLtMatmulDesc_t operation = nullptr;
  // fp32 sums; of fp32 factors, products in full fp32 too.
  TANREN_CUBLAS(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), Describe(product));
  plan.operation.reset(operation);
  SetAttribute(plan, product, CUBLASLT_MATMUL_DESC_TRANSA,
               product.right.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  SetAttribute(plan, product, CUBLASLT_MATMUL_DESC_TRANSB,
               product.left.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (product.bias) {
    SetAttribute(plan, product, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    // The heuristic reads its alignment, which is the same in all calls.
    SetAttribute(plan, product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias.data);
  }
  plan.left = MakeFactorLayout(product, product.left, product.m, product.k);
  plan.right = MakeFactorLayout(product, product.right, product.k, product.n);
  plan.out = MakeLayout(product, product.out.data.dtype, product.m, product.n, product.out.stride);
  plan.algorithms = FindAlgorithms(handle, plan, product);
  return plan;
}

cublasStatus_t Multiply(cublasLtHandle_t handle, const Stream& stream, const Plan& plan,
                        const Product& product, const cublasLtMatmulAlgo_t& algorithm, void* workspace) {
  const float alpha = 1, beta = product.accumulate ? 1 : 0;
  void* out = product.out.data.data;
  return cublasLtMatmul(handle, plan.operation.get(), &alpha, product.right.data, plan.right.get(),
                        product.left.data, plan.left.get(), &beta, out, plan.out.get(), out, plan.out.get(),
                        &algorithm, workspace, kWorkspaceBytes, Handle(stream));
}

// --- Tuning. ---

constexpr int kTuningRounds = 3;  // over all candidates, whose best counts
constexpr int kTimedRuns = 4;     // in a row, of one candidate in one round
// A later candidate must be this much faster, or chance would choose among equals.
constexpr float kClearlyFaster = 0.98f;

// Milliseconds of one run after a warm-up; infinite when the algorithm is declined.
float TimeOf(cublasLtHandle_t handle, const Stream& stream, const Plan& plan, const Product& product,
             const cublasLtMatmulAlgo_t& algorithm, void* workspace) {
  const auto run = [&] { return Multiply(handle, stream, plan, product, algorithm, workspace); };
  const auto make_event = [] {
    cudaEvent_t event = nullptr;
    TANREN_CUDA(cudaEventCreate(&event));
    return Owned<cudaEvent_t>(event);
  };
  const cublasStatus_t status = run();
  if (IsRefusal(status)) return std::numeric_limits<float>::infinity();
  TANREN_CUBLAS(status, Describe(product));
  const auto begin = make_event(), end = make_event();
  TANREN_CUDA(cudaEventRecord(begin.get(), Handle(stream)));
  for (int i = 0; i < kTimedRuns; ++i) TANREN_CUBLAS(run(), Describe(product));
  TANREN_CUDA(cudaEventRecord(end.get(), Handle(stream)));
  TANREN_CUDA(cudaEventSynchronize(end.get()));
  float milliseconds = 0;
  TANREN_CUDA(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
  return milliseconds / kTimedRuns;
}

// Leaves the plan with the fastest of its algorithms. A product that accumulates is timed on other memory,
// and when there is none left the heuristic's order stands.
void Tune(Library& library, const Stream& stream, const Product& product, void* workspace, Plan& plan) {
  const std::lock_guard lock(library.mutex);
  for (const Library::Tuned& tuned : library.tuned) {
    if (tuned.key == plan.key) {
      plan.algorithms = {tuned.algorithm};
      return;
    }
  }
  Product timed = product;
  std::unique_ptr<void, decltype(&FreeDevice)> memory(nullptr, &FreeDevice);
  if (product.accumulate) {
    const int64_t count = (product.m - 1) * product.out.stride + product.n;
    memory.reset(AllocateDevice(count * SizeOf(product.out.data.dtype)));
    if (memory == nullptr) return;
    timed.out.data.data = memory.get();
  }
  const size_t candidates = plan.algorithms.size();
  std::vector<float> milliseconds(candidates, std::numeric_limits<float>::infinity());
  for (int round = 0; round < kTuningRounds; ++round) {
    for (size_t i = 0; i < candidates; ++i) {
      milliseconds[i] = std::min(milliseconds[i],
                                 TimeOf(library.handle, stream, plan, timed, plan.algorithms[i], workspace));
    }
  }
  size_t fastest = 0;
  for (size_t i = 1; i < candidates; ++i) {
    if (milliseconds[i] < kClearlyFaster * milliseconds[fastest]) fastest = i;
  }
  plan.algorithms = {cublasLtMatmulAlgo_t(plan.algorithms[fastest])};
  library.tuned.push_back({plan.key, plan.algorithms.front()});
}

bool IsCapturing(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  TANREN_CUDA(cudaStreamIsCapturing(Handle(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace

ProductCache::ProductCache() = default;
ProductCache::~ProductCache() = default;

ProductCache::Plan& ProductCache::FindOrMakePlan(const Stream& stream, const Product& product,
                                                 void* workspace) {
  const PlanKey key = KeyOf(product);
  const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const Plan& p) { return p.key == key; });
  if (found != plans_.end()) {
    found->last_use = ++clock_;
    return *found;
  }
  if (plans_.size() == kMaxPlans) {
    plans_.erase(std::min_element(plans_.begin(), plans_.end(),
                                  [](const Plan& a, const Plan& b) { return a.last_use < b.last_use; }));
  }
  Plan plan = MakePlan(library_->handle, product);
  // Tuning waits for the device, which a graph cannot record.
  if (IsTuning() && !plan.algorithms.empty() && !IsCapturing(stream)) {
    Tune(*library_, stream, product, workspace, plan);
  }
  plan.last_use = ++clock_;
  plans_.push_back(std::move(plan));
  return plans_.back();
}

void ProductCache::Run(const Stream& stream, Product product) {
  // The epilogue takes a bias of the result's dtype; at any other or at an odd address it is copied first.
  const DType out_dtype = product.out.data.dtype;
  const bool copies_bias =
      product.bias && (product.bias.dtype != out_dtype ||
                       reinterpret_cast<uintptr_t>(product.bias.data) % kWidestAccess != 0);
  const int64_t bias_bytes = copies_bias ? product.n * SizeOf(out_dtype) : 0;
  char* workspace = ScratchOf<char>(stream, kWorkspaceBytes + bias_bytes);
  if (copies_bias) {
    const Buffer copy(workspace + kWorkspaceBytes, out_dtype);
    cuda::Cast(stream, product.n, product.bias, copy);
    product.bias = copy;
  }
  if (IsPlain()) return RunPlainProduct(stream, product);

  if (library_ == nullptr) library_ = &LibraryOfCurrentDevice();
  Plan& plan = FindOrMakePlan(stream, product, workspace);
  if (product.bias) SetAttribute(plan, product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias.data);
  while (!plan.algorithms.empty()) {
    const cublasStatus_t status =
        Multiply(library_->handle, stream, plan, product, plan.algorithms.front(), workspace);
    if (status == CUBLAS_STATUS_SUCCESS) return;
    if (!IsRefusal(status)) TANREN_CUBLAS(status, Describe(product));
    plan.algorithms.erase(plan.algorithms.begin());
  }
  if (!plan.announced) {
    std::fprintf(stderr, "cuBLASLt has no algorithm for the %s: the plain kernel computes it\n",
                 Describe(product).c_str());
    plan.announced = true;
  }
  RunPlainProduct(stream, product);
}

}  // namespace tanren::kernels::cuda
