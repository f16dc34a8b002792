// Single kernels: attention, matrix products, memory-bound kernels.
#include <cmath>
#include <cstdio>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/head.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/rotary.h"
#include "launch/bench_support.h"
#include "launch/bench_verb.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

struct Setting {
  Stream stream;
  DType dtype = DType::kBF16;
};

absl::StatusOr<Setting> Start(const BenchOptions& options) {
  Setting setting;
  TANREN_ASSIGN_OR_RETURN(setting.dtype, DTypeOf(options));
  TANREN_ASSIGN_OR_RETURN(const Device device, DeviceOf(options));
  if (device == Device::kCuda) {
    setting.stream = kernels::MakeCudaStream(0);
    std::printf("device       %s\n", kernels::PropertiesOf(0).name.c_str());
  }
  return setting;
}

template <class Body>
int Run(const BenchOptions& options, const Body& body) {
  const absl::StatusOr<Setting> setting = Start(options);
  if (!setting.ok()) return StatusExit(setting.status());
  const absl::Status status = body(*setting);
  kernels::DestroyStream(setting->stream);
  return StatusExit(status);
}

// Lengths of a skewed mix like that of real documents: many short ones, a few long ones; cut to fill the row.
std::vector<int32_t> MixedSegments(int64_t tokens, int64_t longest) {
  std::vector<int32_t> ends = {0};
  for (uint64_t i = 0; ends.back() < tokens; ++i) {
    const double draw = kernels::RandomUniform(7, 0, i);
    const auto length = static_cast<int64_t>(longest * std::exp(-4.5 * draw)) + 1;
    ends.push_back(static_cast<int32_t>(std::min<int64_t>(ends.back() + length, tokens)));
  }
  return ends;
}

absl::Status AttentionCase(const Setting& setting, const BenchOptions& options, int64_t head_dim,
                           int64_t length) {
  const Stream& stream = setting.stream;
  const int64_t heads = options.width / head_dim;
  if (heads < 1 || heads % options.kv_groups != 0 || options.tokens < length) {
    return InvalidInput(
        "attention: width %d, head size %d, %d query heads a key head, %d tokens, length %d do not fit",
        options.width, head_dim, options.kv_groups, options.tokens, length);
  }
  const int64_t kv_heads = heads / options.kv_groups;
  const int64_t tokens = options.tokens;
  std::vector<int32_t> ends;
  if (options.mixed) {
    ends = MixedSegments(tokens, length);
  } else {
    for (int64_t end = 0; end <= tokens; end += length) ends.push_back(static_cast<int32_t>(end));
    if (ends.back() != tokens) ends.push_back(static_cast<int32_t>(tokens));
  }
  double pairs = 0;
  for (size_t s = 1; s < ends.size(); ++s) {
    const double n = ends[s] - ends[s - 1];
    pairs += options.full ? n * n : n * (n + 1) / 2;
  }
  const int64_t stride = (heads + 2 * kv_heads) * head_dim;
  BenchMemory qkv(stream, setting.dtype, tokens * stride), dqkv(stream, setting.dtype, tokens * stride);
  BenchMemory o(stream, setting.dtype, tokens * heads * head_dim);
  BenchMemory d_o(stream, setting.dtype, tokens * heads * head_dim);
  BenchMemory lse(stream, DType::kF32, tokens * heads);
  BenchMemory cu(stream, DType::kI32, static_cast<int64_t>(ends.size()));
  qkv.FillNormal(stream, 1, 1);
  d_o.FillNormal(stream, 1, 2);
  kernels::CopyToDevice(stream, cu.buffer().data, ends.data(),
                        static_cast<int64_t>(ends.size() * sizeof(int32_t)));
  kernels::AttentionShape shape;
  shape.tokens = tokens;
  shape.segments = static_cast<int64_t>(ends.size()) - 1;
  shape.cu_seqlens = cu.as<int32_t>();
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = head_dim;
  shape.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  shape.mask = options.full ? kernels::AttentionMask::kFull : kernels::AttentionMask::kCausal;
  const auto at = [&](const BenchMemory& memory, int64_t column) {
    return kernels::Heads{Buffer(memory.as<char>() + column * SizeOf(setting.dtype), setting.dtype), stride};
  };
  const auto read = [](kernels::Heads heads_of) {
    return kernels::ConstHeads{heads_of.data, heads_of.stride};
  };
  const int64_t key = heads * head_dim, value = key + kv_heads * head_dim;
  const kernels::Heads out{o, heads * head_dim}, dout{d_o, heads * head_dim};
  BenchMemory workspace(stream, DType::kU8, kernels::AttentionBackwardWorkspaceBytes(stream, shape));
  const auto forward = [&] {
    kernels::AttentionForward(stream, shape, read(at(qkv, 0)), read(at(qkv, key)), read(at(qkv, value)), out,
                              lse.as<float>());
  };
  const auto backward = [&] {
    kernels::AttentionBackward(stream, shape, read(at(qkv, 0)), read(at(qkv, key)), read(at(qkv, value)),
                               read(out), lse.as<float>(), read(dout), at(dqkv, 0), at(dqkv, key),
                               at(dqkv, value), workspace.buffer().data);
  };
  const double forward_seconds = MedianSeconds(stream, forward);
  const double backward_seconds = MedianSeconds(stream, backward);
  const double flops = 4 * pairs * static_cast<double>(heads * head_dim);
  std::printf(
      "attention    d %-3lld length %-6lld heads %lld/%lld %s%s  forward %8.3f ms %7.1f TFLOP/s  backward "
      "%8.3f ms "
      "%7.1f TFLOP/s\n",
      static_cast<long long>(head_dim), static_cast<long long>(length), static_cast<long long>(heads),
      static_cast<long long>(kv_heads), options.full ? "full" : "causal", options.mixed ? " mixed" : "",
      forward_seconds * 1e3, flops / forward_seconds / 1e12, backward_seconds * 1e3,
      2.5 * flops / backward_seconds / 1e12);
  std::fflush(stdout);
  return absl::OkStatus();
}

void MatmulCase(const Setting& setting, int64_t rows, int64_t out, int64_t in) {
  const Stream& stream = setting.stream;
  kernels::Linear linear(out, in, setting.dtype, stream.device);
  BenchMemory x(stream, setting.dtype, rows * in), w(stream, setting.dtype, out * in),
      y(stream, setting.dtype, rows * out);
  BenchMemory dw(stream, DType::kF32, out * in), dx(stream, setting.dtype, rows * in);
  BenchMemory packed(stream, DType::kU8, linear.PackedBytes(true));
  x.FillNormal(stream, 1, 1);
  w.FillNormal(stream, 1, 2);
  y.FillNormal(stream, 1, 3);
  linear.Bind(w, packed.buffer().data, true);
  linear.Pack(stream);
  const double flops = 2.0 * rows * out * in;
  const double forward = MedianSeconds(stream, [&] {
    linear.Forward(stream, rows, {x, in}, ConstBuffer(), {y, out});
  });
  const double input = MedianSeconds(stream, [&] {
    linear.BackwardInput(stream, rows, {y, out}, {dx, in}, false);
  });
  const double weight = MedianSeconds(stream, [&] {
    linear.BackwardWeight(stream, rows, {y, out}, {x, in}, dw.as<float>(), nullptr);
  });
  std::printf(
      "matmul       rows %-6lld out %-6lld in %-6lld  forward %7.1f  input gradient %7.1f  weight gradient "
      "%7.1f "
      "TFLOP/s\n",
      static_cast<long long>(rows), static_cast<long long>(out), static_cast<long long>(in),
      flops / forward / 1e12, flops / input / 1e12, flops / weight / 1e12);
  std::fflush(stdout);
}

// Prints a memory-bound kernel's rate beside a copy's.
class RateTable {
 public:
  RateTable(const Stream& stream, int64_t bytes) : stream_(stream) {
    BenchMemory from(stream, DType::kU8, bytes), to(stream, DType::kU8, bytes);
    copy_ = 2.0 * bytes / MedianSeconds(stream, [&] {
              kernels::CopyRows(stream, 1, bytes, to.buffer().data, bytes, from.buffer().data, bytes);
            });
    std::printf("%-28s %8.1f GB/s\n", "copy", copy_ / 1e9);
  }
  template <class Body>
  void Row(const char* name, double bytes, const Body& body) {
    const double seconds = MedianSeconds(stream_, body);
    std::printf("%-28s %8.1f GB/s  %5.2f of copy  %8.1f us\n", name, bytes / seconds / 1e9,
                bytes / seconds / copy_, seconds * 1e6);
    std::fflush(stdout);
  }

 private:
  Stream stream_;
  double copy_ = 0;
};

}  // namespace

int BenchAttention(const BenchOptions& options) {
  return Run(options, [&](const Setting& setting) -> absl::Status {
    for (const int64_t head_dim : options.head_dims) {
      for (const int64_t length : options.lengths) {
        TANREN_RETURN_IF_ERROR(AttentionCase(setting, options, head_dim, length));
      }
    }
    return absl::OkStatus();
  });
}

int BenchMatmul(const BenchOptions& options) {
  return Run(options, [&](const Setting& setting) {
    const bool cuda = setting.stream.device == Device::kCuda;
    const int64_t rows = cuda ? 8192 : 1024;
    if (cuda) MatmulCase(setting, 8192, 8192, 8192);
    // The products of GPT-2 124M, of Llama 1B and, on a GPU, of Llama 8B.
    MatmulCase(setting, rows, 2304, 768);
    MatmulCase(setting, rows, 3072, 768);
    MatmulCase(setting, rows, 768, 3072);
    MatmulCase(setting, rows, 50304, 768);
    if (!cuda) return absl::OkStatus();
    MatmulCase(setting, rows, 3072, 2048);
    MatmulCase(setting, rows, 2048, 2048);
    MatmulCase(setting, rows, 16384, 2048);
    MatmulCase(setting, rows, 2048, 8192);
    MatmulCase(setting, rows, 128256, 2048);
    MatmulCase(setting, rows, 28672, 4096);
    MatmulCase(setting, rows, 4096, 14336);
    return absl::OkStatus();
  });
}

int BenchKernels(const BenchOptions& options) {
  return Run(options, [&](const Setting& setting) {
    const Stream& stream = setting.stream;
    const bool cuda = stream.device == Device::kCuda;
    const int64_t rows = cuda ? 32768 : 2048, width = 2048, mlp = 8192, vocab = 128256;
    const double element = static_cast<double>(SizeOf(setting.dtype));
    const double matrix = static_cast<double>(rows) * width * element;
    RateTable table(stream, rows * width * SizeOf(setting.dtype));
    {
      BenchMemory x(stream, setting.dtype, rows * width), delta(stream, setting.dtype, rows * width);
      BenchMemory sum(stream, setting.dtype, rows * width), y(stream, setting.dtype, rows * width);
      BenchMemory weight(stream, setting.dtype, width), dweight(stream, DType::kF32, width);
      BenchMemory rstd(stream, DType::kF32, rows), mean(stream, DType::kF32, rows);
      for (BenchMemory* memory : {&x, &delta, &weight, &y}) memory->FillNormal(stream, 1, 1);
      for (const auto kind : {kernels::NormKind::kRms, kernels::NormKind::kLayer}) {
        const bool rms = kind == kernels::NormKind::kRms;
        kernels::NormForwardArgs forward{kind,
                                         rows,
                                         width,
                                         1e-5f,
                                         x,
                                         delta,
                                         sum,
                                         weight,
                                         ConstBuffer(),
                                         y,
                                         rms ? nullptr : mean.as<float>(),
                                         rstd.as<float>()};
        table.Row(rms ? "residual + rms_norm" : "residual + layer_norm", 4 * matrix,
                  [&] { kernels::NormForward(stream, forward); });
        kernels::NormBackwardArgs backward{kind,
                                           rows,
                                           width,
                                           y,
                                           sum,
                                           weight,
                                           rms ? nullptr : mean.as<float>(),
                                           rstd.as<float>(),
                                           delta,
                                           delta,
                                           dweight.as<float>(),
                                           nullptr};
        table.Row(rms ? "rms_norm backward" : "layer_norm backward", 4 * matrix,
                  [&] { kernels::NormBackward(stream, backward); });
      }
      const int64_t head_dim = 64, heads = width / head_dim;
      BenchMemory positions(stream, DType::kI32, rows), table_of(stream, DType::kF32, 4096 * head_dim);
      table.Row("rotary", 2 * matrix, [&] {
        kernels::Rotary(stream,
                        {rows, heads, head_dim, width, positions.as<int32_t>(), table_of.as<float>(),
                         table_of.as<float>() + 4096 * head_dim / 2},
                        y, false);
      });
    }
    {
      const int64_t mlp_rows = rows / 4;
      const double bytes = static_cast<double>(mlp_rows) * mlp * element;
      BenchMemory x(stream, setting.dtype, mlp_rows * 2 * mlp), y(stream, setting.dtype, mlp_rows * mlp);
      x.FillNormal(stream, 1, 1);
      y.FillNormal(stream, 1, 2);
      table.Row("swiglu", 3 * bytes, [&] {
        kernels::ActivationForward(stream, kernels::Activation::kSwiGlu, mlp_rows, mlp, x, y);
      });
      table.Row("swiglu backward", 5 * bytes, [&] {
        kernels::ActivationBackward(stream, kernels::Activation::kSwiGlu, mlp_rows, mlp, y, x, x);
      });
      table.Row("gelu_tanh", 2 * bytes, [&] {
        kernels::ActivationForward(stream, kernels::Activation::kGeluTanh, mlp_rows, mlp, x, y);
      });
    }
    {
      const int64_t head_rows = cuda ? 4096 : 256;
      const double bytes = static_cast<double>(head_rows) * vocab * 4;
      BenchMemory logits(stream, DType::kF32, head_rows * vocab),
          dlogits(stream, DType::kBF16, head_rows * vocab);
      BenchMemory statistics(stream, DType::kF32, 8 * head_rows), targets(stream, DType::kI32, head_rows);
      logits.FillNormal(stream, 2, 1);
      float* s = statistics.as<float>();
      kernels::LogitShard shard{head_rows, vocab, vocab, 0, 0, 1, targets.as<int32_t>()};
      table.Row("token statistics", bytes, [&] {
        kernels::LogitRowMaxAndSums(stream, shard, logits.as<float>(), s, s + head_rows);
        kernels::TokenStatistics(stream, head_rows, s, s + head_rows, s + 4 * head_rows, s + 5 * head_rows,
                                 s + 6 * head_rows);
      });
      table.Row("logit gradient", 1.5 * bytes, [&] {
        kernels::LogitGradient(stream, shard, logits.as<float>(), s + 5 * head_rows, s + 6 * head_rows,
                               s + 7 * head_rows, nullptr, nullptr, dlogits);
      });
    }
    {
      const int64_t count = cuda ? int64_t{1} << 27 : int64_t{1} << 24;
      BenchMemory g(stream, DType::kF32, count), w(stream, DType::kF32, count), m(stream, DType::kF32, count),
          v(stream, DType::kF32, count), model(stream, DType::kBF16, count), result(stream, DType::kF64, 1);
      g.FillNormal(stream, 1, 1);
      const double bytes = static_cast<double>(count) * 4;
      table.Row("sum of squares", bytes,
                [&] { kernels::SumOfSquares(stream, g.as<float>(), count, result.as<double>()); });
      kernels::AdamWArgs args;
      args.count = count;
      args.learning_rate = 1e-4f;
      table.Row("adamw", 7.5 * bytes, [&] {
        kernels::AdamW(stream, args, g.as<float>(), w.as<float>(), m.as<float>(), v.as<float>(), model);
      });
      for (const BenchMemory* moments : {&m, &v}) {  // their fp32 bits are no numbers in bf16
        kernels::Fill(stream, count * int64_t{sizeof(float)}, 0, moments->buffer().data);
      }
      const Buffer narrow_m(m.buffer().data, DType::kBF16), narrow_v(v.buffer().data, DType::kBF16);
      table.Row("adamw, bf16 moments", 5.5 * bytes, [&] {
        kernels::AdamW(stream, args, g.as<float>(), w.as<float>(), narrow_m, narrow_v, model);
      });
      table.Row("cast fp32 to bf16", 1.5 * bytes, [&] { kernels::Cast(stream, count, g, model); });
    }
    {
      BenchMemory embedding(stream, setting.dtype, vocab * width), ids(stream, DType::kI32, rows);
      BenchMemory y(stream, setting.dtype, rows * width), gradient(stream, DType::kF32, vocab * width);
      std::vector<int32_t> drawn(rows);
      for (int64_t i = 0; i < rows; ++i) {
        const double u = kernels::RandomUniform(3, 0, i);
        drawn[i] = static_cast<int32_t>(u * u * u * (vocab - 1));  // frequent low ids, as in text
      }
      kernels::CopyToDevice(stream, ids.buffer().data, drawn.data(), rows * int64_t{sizeof(int32_t)});
      const kernels::EmbeddingArgs args{rows, width, ids.as<int32_t>(), 0, vocab};
      table.Row("embedding", 2 * matrix,
                [&] { kernels::EmbeddingForward(stream, args, embedding, 1, y, false); });
      table.Row("embedding backward", matrix,
                [&] { kernels::EmbeddingBackward(stream, args, y, 1, gradient.as<float>()); });
    }
    return absl::OkStatus();
  });
}

}  // namespace tanren
