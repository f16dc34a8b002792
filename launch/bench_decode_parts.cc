// Where the time of a decoding step goes: its kernels in the order of a step, all together and each kind
// alone, over the weights of all layers, so that none is read from a cache. On a GPU a part is one recorded
// graph, as the step itself.
//
// Alone, a part does not overlap with its neighbours: the parts add up to more than the step.
#include "launch/bench_decode_parts.h"

#include <array>
#include <cstdio>
#include <deque>
#include <string>
#include <vector>

#include "core/model/shape.h"
#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"
#include "kernels/sampling.h"
#include "launch/bench_support.h"

namespace tanren {
namespace {

enum Part : unsigned {
  kNorms = 1,
  kQkv = 2,
  kAppend = 4,
  kAttention = 8,
  kOutput = 16,
  kUp = 32,
  kActivation = 64,
  kDown = 128,
  kHead = 256,
  kSampling = 512,
  kProducts = kQkv | kOutput | kUp | kDown,
  kLayers = kProducts | kNorms | kAppend | kAttention | kActivation,
};

// A product with a weight of its own.
struct Product {
  Product(const Stream& stream, DType dtype, int64_t out, int64_t in)
      : linear(out, in, dtype, stream.device),
        weight(stream, dtype, out * in),
        packed(stream, DType::kU8, std::max<int64_t>(1, linear.PackedBytes(false))) {
    weight.FillNormal(stream, 0.02f, 1);
    linear.Bind(weight, packed.buffer().data, false);
    linear.Pack(stream);
  }
  double bytes() const {
    return static_cast<double>(linear.out_features() * linear.in_features()) * SizeOf(weight.buffer().dtype);
  }
  kernels::Linear linear;
  BenchMemory weight, packed;
};

struct Layer {
  Layer(const Stream& stream, DType dtype, const LocalShape& local, const ModelShape& shape, int64_t cache)
      : qkv(stream, dtype, local.qkv_width, shape.width),
        output(stream, dtype, shape.width, local.attention_width),
        up(stream, dtype, local.mlp_in_width, shape.width),
        down(stream, dtype, shape.width, local.mlp_width),
        keys(stream, dtype, cache),
        values(stream, dtype, cache) {
    keys.FillNormal(stream, 1, 2);
    values.FillNormal(stream, 1, 3);
  }
  Product qkv, output, up, down;
  BenchMemory keys, values;
};

class Step {
 public:
  Step(const Stream& stream, DType dtype, const ModelShape& shape, int64_t rows, int64_t position,
       int64_t max_tokens)
      : stream_(stream),
        shape_(shape),
        local_(MakeLocalShape(shape, 0, 1)),
        rows_(rows),
        x_(stream, dtype, rows * shape.width),
        h_(stream, dtype, rows * shape.width),
        delta_(stream, dtype, rows * shape.width),
        qkv_(stream, dtype, rows * local_.qkv_width),
        attended_(stream, dtype, rows * local_.attention_width),
        up_(stream, dtype, rows * local_.mlp_in_width),
        activated_(stream, dtype, rows * local_.mlp_width),
        norm_weight_(stream, dtype, shape.width),
        logits_(stream, DType::kF32, rows * local_.vocab),
        angles_(stream, DType::kF32, max_tokens * shape.head_dim),
        inputs_(stream, DType::kI32, 2 * rows),
        params_(stream, DType::kU8, rows * static_cast<int64_t>(sizeof(kernels::SamplingParams))),
        samples_(stream, DType::kU8, rows * static_cast<int64_t>(sizeof(kernels::SampleResult))),
        head_(stream, dtype, local_.vocab, shape.width) {
    for (BenchMemory* memory :
         {&x_, &h_, &delta_, &qkv_, &attended_, &up_, &activated_, &norm_weight_, &angles_}) {
      memory->FillNormal(stream, 1, 5);
    }
    std::vector<int32_t> inputs;
    for (int64_t row = 0; row < rows; ++row) inputs.push_back(static_cast<int32_t>(row));
    inputs.resize(2 * rows, static_cast<int32_t>(position));
    kernels::CopyToDevice(stream, inputs_.buffer().data, inputs.data(), 2 * rows * int64_t{sizeof(int32_t)});
    std::vector<kernels::SamplingParams> params(rows);
    for (kernels::SamplingParams& one : params) one.temperature = 0;
    kernels::CopyToDevice(stream, params_.buffer().data, params.data(),
                          rows * static_cast<int64_t>(sizeof(kernels::SamplingParams)));
    kernels::Synchronize(stream);
    const int64_t cache = rows * local_.kv_heads * max_tokens * shape.head_dim;
    for (int64_t l = 0; l < shape.layers; ++l) layers_.emplace_back(stream, dtype, local_, shape, cache);

    norm_ = {.kind = shape.norm,
             .rows = rows,
             .width = shape.width,
             .epsilon = shape.norm_epsilon,
             .x = x_,
             .delta = delta_,
             .sum = x_,
             .weight = norm_weight_,
             .bias = {},
             .y = h_};
    attention_ = {.tokens = rows,
                  .heads = local_.heads,
                  .kv_heads = local_.kv_heads,
                  .head_dim = shape.head_dim,
                  .max_tokens = max_tokens,
                  .slots = inputs_.as<int32_t>(),
                  .positions = inputs_.as<int32_t>() + rows,
                  .window = shape.sliding_window,
                  .soft_cap = shape.attention_soft_cap};
    rotary_ = {rows,
               local_.heads + local_.kv_heads,
               shape.head_dim,
               local_.qkv_width,
               attention_.positions,
               angles_.as<float>(),
               angles_.as<float>() + max_tokens * shape.head_dim / 2};
  }

  void Run(unsigned parts) {
    const int64_t width = shape_.width;
    const auto multiply = [&](Part part, Product& product, const BenchMemory& x, const BenchMemory& y) {
      if (!(parts & part)) return;
      product.linear.Forward(stream_, rows_, {x, product.linear.in_features()}, {},
                             {y, product.linear.out_features()});
    };
    for (Layer& layer : layers_) {
      if (parts & kNorms) kernels::NormForward(stream_, norm_);
      multiply(kQkv, layer.qkv, h_, qkv_);
      if (parts & kAppend) {
        if (shape_.learned_positions) {
          kernels::CacheAppend(stream_, attention_, Heads(local_.heads),
                               Heads(local_.heads + local_.kv_heads), layer.keys, layer.values);
        } else {
          kernels::RotaryAppend(stream_, rotary_, attention_, qkv_, layer.keys, layer.values);
        }
      }
      if (parts & kAttention) {
        kernels::CachedAttention(stream_, attention_, Heads(0), layer.keys, layer.values,
                                 {attended_, local_.attention_width});
      }
      multiply(kOutput, layer.output, attended_, delta_);
      if (parts & kNorms) kernels::NormForward(stream_, norm_);
      multiply(kUp, layer.up, h_, up_);
      if (parts & kActivation) {
        kernels::ActivationForward(stream_, shape_.activation, rows_, local_.mlp_width, up_, activated_);
      }
      multiply(kDown, layer.down, activated_, delta_);
    }
    if (parts & kNorms) kernels::NormForward(stream_, norm_);
    if (parts & kHead) {
      head_.linear.Forward(stream_, rows_, {h_, width}, {}, {Buffer(logits_), local_.vocab});
    }
    if (parts & kSampling) {
      kernels::SampleTokens(stream_, rows_, shape_.vocab_size, local_.vocab, logits_.as<float>(),
                            params_.as<kernels::SamplingParams>(), samples_.as<kernels::SampleResult>());
    }
  }

  // Of weights, that the parts read.
  double WeightBytes(unsigned parts) const {
    double bytes = parts & kHead ? head_.bytes() : 0;
    for (const Layer& layer : layers_) {
      if (parts & kQkv) bytes += layer.qkv.bytes();
      if (parts & kOutput) bytes += layer.output.bytes();
      if (parts & kUp) bytes += layer.up.bytes();
      if (parts & kDown) bytes += layer.down.bytes();
    }
    return bytes;
  }

 private:
  kernels::ConstHeads Heads(int64_t head) const {
    const Buffer data = qkv_;
    return {ConstBuffer(data.as<char>() + head * shape_.head_dim * SizeOf(data.dtype), data.dtype),
            local_.qkv_width};
  }

  Stream stream_;
  ModelShape shape_;
  LocalShape local_;
  int64_t rows_;
  BenchMemory x_, h_, delta_, qkv_, attended_, up_, activated_, norm_weight_, logits_, angles_, inputs_,
      params_, samples_;
  Product head_;
  std::deque<Layer> layers_;
  kernels::NormForwardArgs norm_;
  kernels::CachedAttentionShape attention_;
  kernels::RotaryArgs rotary_;
};

}  // namespace

void PrintDecodeParts(const Stream& stream, DType dtype, const ModelShape& shape, int64_t rows,
                      int64_t position, int64_t max_tokens) {
  Step step(stream, dtype, shape, rows, position, max_tokens);
  const std::array<std::pair<const char*, unsigned>, 14> cases = {
      {{"step", kLayers | kHead | kSampling},
       {"layers", kLayers},
       {"products of the layers", kProducts},
       {"layers without products", kLayers & ~unsigned{kProducts}},
       {"query, key, value", kQkv},
       {"attention output", kOutput},
       {"feed-forward in", kUp},
       {"feed-forward out", kDown},
       {"head", kHead},
       {"norms", kNorms},
       {"positions and cache", kAppend},
       {"attention", kAttention},
       {"activation", kActivation},
       {"sampling", kSampling}}};
  for (const auto& [name, parts] : cases) {
    step.Run(parts);  // plans and scratch memory
    kernels::Graph graph;
    if (kernels::Graph::CanRecord(stream)) {
      graph = kernels::Graph::Record(stream, [&, which = parts] { step.Run(which); });
    }
    const double seconds = MedianSeconds(stream, [&, which = parts] {
      if (graph) {
        graph.Launch(stream);
      } else {
        step.Run(which);
      }
    });
    const double bytes = step.WeightBytes(parts);
    std::printf("part         %-24s %10.1f us", name, seconds * 1e6);
    if (bytes > 0) std::printf("  %8.1f GB/s of weights", bytes / seconds / 1e9);
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace tanren
