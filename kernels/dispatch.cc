// Each kernel call goes to the backend of its stream's device.
#include <cstdio>
#include <cstdlib>

#include "kernels/backend.h"
#include "kernels/device.h"

namespace tanren::kernels {
namespace {

const Backend& BackendOf(Device device) {
  if (device == Device::kCpu) return CpuBackend();
  const Backend* cuda = CudaBackend();
  if (cuda == nullptr) {
    std::fprintf(stderr, "a kernel was called on a CUDA stream: %s\n", WhyNoDevice().c_str());
    std::fflush(stderr);
    std::abort();
  }
  return *cuda;
}

// One call: the backend of its stream while the call lasts.
class Of {
 public:
  explicit Of(const Stream& stream) : stream_(stream) {}
  ~Of() {
    if (stream_.device != Device::kCpu && IsBlocking()) Synchronize(stream_);
  }
  Of(const Of&) = delete;
  Of& operator=(const Of&) = delete;
  const Backend* operator->() const { return &BackendOf(stream_.device); }

 private:
  const Stream& stream_;
};

}  // namespace

bool IsBlocking() {
  static const bool blocking = [] {
    const char* value = std::getenv("TANREN_BLOCKING");
    return value != nullptr && value[0] == '1';
  }();
  return blocking;
}

void ActivationForward(const Stream& stream, Activation kind, int64_t rows, int64_t width, ConstBuffer x,
                       Buffer y) {
  Of(stream)->ActivationForward(stream, kind, rows, width, x, y);
}
void ActivationBackward(const Stream& stream, Activation kind, int64_t rows, int64_t width, ConstBuffer dy,
                        ConstBuffer x, Buffer dx) {
  Of(stream)->ActivationBackward(stream, kind, rows, width, dy, x, dx);
}

void SoftCap(const Stream& stream, int64_t count, float cap, float* x) {
  Of(stream)->SoftCap(stream, count, cap, x);
}

void AttentionForward(const Stream& stream, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                      ConstHeads v, Heads o, float* lse) {
  Of(stream)->AttentionForward(stream, shape, q, k, v, o, lse);
}
int64_t AttentionBackwardWorkspaceBytes(const Stream& stream, const AttentionShape& shape) {
  return Of(stream)->AttentionBackwardWorkspaceBytes(stream, shape);
}
void AttentionBackward(const Stream& stream, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                       ConstHeads v, ConstHeads o, const float* lse, ConstHeads d_o, Heads dq, Heads dk,
                       Heads dv, void* workspace) {
  Of(stream)->AttentionBackward(stream, shape, q, k, v, o, lse, d_o, dq, dk, dv, workspace);
}
void CacheAppend(const Stream& stream, const CachedAttentionShape& shape, ConstHeads k, ConstHeads v,
                 Buffer k_cache, Buffer v_cache) {
  Of(stream)->CacheAppend(stream, shape, k, v, k_cache, v_cache);
}
void RotaryAppend(const Stream& stream, const RotaryArgs& rotary, const CachedAttentionShape& shape,
                  Buffer qkv, Buffer k_cache, Buffer v_cache) {
  Of(stream)->RotaryAppend(stream, rotary, shape, qkv, k_cache, v_cache);
}
void CachedAttention(const Stream& stream, const CachedAttentionShape& shape, ConstHeads q,
                     ConstBuffer k_cache, ConstBuffer v_cache, Heads o) {
  Of(stream)->CachedAttention(stream, shape, q, k_cache, v_cache, o);
}

void EmbeddingForward(const Stream& stream, const EmbeddingArgs& args, ConstBuffer table, float scale,
                      Buffer y, bool accumulate) {
  Of(stream)->EmbeddingForward(stream, args, table, scale, y, accumulate);
}
void EmbeddingBackward(const Stream& stream, const EmbeddingArgs& args, ConstBuffer dy, float scale,
                       float* dtable) {
  Of(stream)->EmbeddingBackward(stream, args, dy, scale, dtable);
}
void GatherRows(const Stream& stream, int64_t count, int64_t width, const int32_t* indices, ConstBuffer in,
                Buffer out) {
  Of(stream)->GatherRows(stream, count, width, indices, in, out);
}
void ScatterAddRows(const Stream& stream, int64_t count, int64_t width, const int32_t* indices,
                    ConstBuffer in, Buffer out) {
  Of(stream)->ScatterAddRows(stream, count, width, indices, in, out);
}

void LogitRowMax(const Stream& stream, const LogitShard& shard, const float* logits, float* max) {
  Of(stream)->LogitRowMax(stream, shard, logits, max);
}
void LogitRowSums(const Stream& stream, const LogitShard& shard, const float* logits, const float* max,
                  float* sums) {
  Of(stream)->LogitRowSums(stream, shard, logits, max, sums);
}
void LogitRowMaxAndSums(const Stream& stream, const LogitShard& shard, const float* logits, float* max,
                        float* sums) {
  Of(stream)->LogitRowMaxAndSums(stream, shard, logits, max, sums);
}
void TokenStatistics(const Stream& stream, int64_t rows, const float* max, const float* sums, float* logp,
                     float* lse, float* entropy) {
  Of(stream)->TokenStatistics(stream, rows, max, sums, logp, lse, entropy);
}
void LogitGradient(const Stream& stream, const LogitShard& shard, const float* logits, const float* lse,
                   const float* entropy, const float* dlogp, const float* dlse, const float* dentropy,
                   Buffer dlogits) {
  Of(stream)->LogitGradient(stream, shard, logits, lse, entropy, dlogp, dlse, dentropy, dlogits);
}
void ScalarHeadForward(const Stream& stream, int64_t rows, int64_t width, ConstBuffer x, ConstBuffer weight,
                       float bias, float* y) {
  Of(stream)->ScalarHeadForward(stream, rows, width, x, weight, bias, y);
}
void ScalarHeadBackward(const Stream& stream, int64_t rows, int64_t width, const float* dy, ConstBuffer x,
                        ConstBuffer weight, Buffer dx, float* dweight, float* dbias) {
  Of(stream)->ScalarHeadBackward(stream, rows, width, dy, x, weight, dx, dweight, dbias);
}

void NormForward(const Stream& stream, const NormForwardArgs& args) { Of(stream)->NormForward(stream, args); }
void NormBackward(const Stream& stream, const NormBackwardArgs& args) {
  Of(stream)->NormBackward(stream, args);
}
void HeadNormForward(const Stream& stream, const HeadNormArgs& args, ConstBuffer x, Buffer y, float* rstd) {
  Of(stream)->HeadNormForward(stream, args, x, y, rstd);
}
void HeadNormBackward(const Stream& stream, const HeadNormArgs& args, ConstBuffer dy, ConstBuffer x,
                      const float* rstd, Buffer dx, float* dweight) {
  Of(stream)->HeadNormBackward(stream, args, dy, x, rstd, dx, dweight);
}

void AdamW(const Stream& stream, const AdamWArgs& args, const float* g, float* w, Buffer m, Buffer v,
           Buffer w_model) {
  Of(stream)->AdamW(stream, args, g, w, m, v, w_model);
}

void FillNormal(const Stream& stream, uint64_t seed, uint64_t stream_id, uint64_t first_index, int64_t count,
                float std, float* out) {
  Of(stream)->FillNormal(stream, seed, stream_id, first_index, count, std, out);
}

void SumOfSquares(const Stream& stream, const float* x, int64_t count, double* result) {
  Of(stream)->SumOfSquares(stream, x, count, result);
}
void Digest(const Stream& stream, int64_t bytes, const void* x, uint64_t* result) {
  Of(stream)->Digest(stream, bytes, x, result);
}
void AddFixed(const Stream& stream, int64_t count, double unit, float* x, int64_t* sum, int32_t* largest) {
  Of(stream)->AddFixed(stream, count, unit, x, sum, largest);
}
void FixedToFloat(const Stream& stream, int64_t count, const int64_t* sum, double unit, double bound,
                  float* x, int64_t* squares) {
  Of(stream)->FixedToFloat(stream, count, sum, unit, bound, x, squares);
}
void Cast(const Stream& stream, int64_t count, ConstBuffer x, Buffer y) {
  Of(stream)->Cast(stream, count, x, y);
}
void AddScaled(const Stream& stream, int64_t count, float alpha, ConstBuffer x, Buffer y) {
  Of(stream)->AddScaled(stream, count, alpha, x, y);
}
void ColumnSum(const Stream& stream, int64_t rows, int64_t width, ConstBuffer x, int64_t stride, float* out) {
  Of(stream)->ColumnSum(stream, rows, width, x, stride, out);
}
void Fill(const Stream& stream, int64_t bytes, uint8_t value, void* data) {
  Of(stream)->Fill(stream, bytes, value, data);
}

void Rotary(const Stream& stream, const RotaryArgs& args, Buffer x, bool inverse) {
  Of(stream)->Rotary(stream, args, x, inverse);
}

void SampleTokens(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                  const float* logits, const SamplingParams* params, SampleResult* results) {
  Of(stream)->SampleTokens(stream, rows, vocab, vocab_stride, logits, params, results);
}
void PenalizeLogits(const Stream& stream, int64_t count, const TokenPenalty* penalties, int64_t vocab_stride,
                    float* logits, float* plain) {
  Of(stream)->PenalizeLogits(stream, count, penalties, vocab_stride, logits, plain);
}
void RestoreLogits(const Stream& stream, int64_t count, const TokenPenalty* penalties, int64_t vocab_stride,
                   const float* plain, float* logits) {
  Of(stream)->RestoreLogits(stream, count, penalties, vocab_stride, plain, logits);
}
void ScoreSamples(const Stream& stream, int64_t rows, int64_t vocab, int64_t vocab_stride,
                  const float* logits, const SamplingParams* params, SampleResult* results) {
  Of(stream)->ScoreSamples(stream, rows, vocab, vocab_stride, logits, params, results);
}

Linear::Linear(int64_t out_features, int64_t in_features, DType dtype, Device device)
    : impl_(BackendOf(device).MakeLinear(out_features, in_features, dtype)) {}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;
int64_t Linear::PackedBytes(bool backward) const { return impl_->PackedBytes(backward); }
void Linear::Bind(ConstBuffer weight, void* packed, bool backward) { impl_->Bind(weight, packed, backward); }
void Linear::Pack(const Stream& stream) {
  const Of call(stream);
  impl_->Pack(stream);
}
void Linear::Forward(const Stream& stream, int64_t rows, ConstMatrix x, ConstBuffer bias, Matrix y) {
  const Of call(stream);
  impl_->Forward(stream, rows, x, bias, y);
}
void Linear::BackwardInput(const Stream& stream, int64_t rows, ConstMatrix dy, Matrix dx, bool accumulate) {
  const Of call(stream);
  impl_->BackwardInput(stream, rows, dy, dx, accumulate);
}
void Linear::BackwardWeight(const Stream& stream, int64_t rows, ConstMatrix dy, ConstMatrix x, float* dw,
                            float* dbias) {
  const Of call(stream);
  impl_->BackwardWeight(stream, rows, dy, x, dw, dbias);
}
int64_t Linear::out_features() const { return impl_->out_features(); }
int64_t Linear::in_features() const { return impl_->in_features(); }

}  // namespace tanren::kernels
