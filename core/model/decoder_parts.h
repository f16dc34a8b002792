// Private to the decoder's source files: what one layer holds.
#ifndef TANREN_CORE_MODEL_DECODER_PARTS_H_
#define TANREN_CORE_MODEL_DECODER_PARTS_H_

#include "core/model/decoder.h"

namespace tanren {

// The piece of `buffer` that starts at head `head` of its first token.
inline Buffer AtHead(Buffer buffer, int64_t head, int64_t head_dim) {
  return Buffer(static_cast<char*>(buffer.data) + head * head_dim * SizeOf(buffer.dtype), buffer.dtype);
}

// A product with its packed storage and the offsets of its parameters in the flat buffers (-1: absent).
struct Projection {
  kernels::Linear linear;
  int64_t weight = -1;
  int64_t bias = -1;
  void* packed = nullptr;
};

struct NormOffsets {
  int64_t weight = -1;
  int64_t bias = -1;
};

struct Decoder::Layer {
  Projection qkv;     // [query | key | value]
  Projection output;  // attention output
  Projection up;      // [gate | up], or up alone
  Projection down;
  NormOffsets attention_norm;
  NormOffsets mlp_norm;
  int64_t query_norm = -1;
  int64_t key_norm = -1;
};

// C capacity, c = C / tensor size. With recomputation some of these are one shared buffer.
struct Decoder::Saved {
  Buffer x1;               // [c, width] input of the attention norm (the residual stream)
  Buffer h1;               // [c, width] its output
  Buffer x2;               // [c, width] input of the feed-forward norm
  Buffer h2;               // [c, width]
  float* mean1 = nullptr;  // [c]
  float* rstd1 = nullptr;
  float* mean2 = nullptr;
  float* rstd2 = nullptr;
  Buffer qkv_raw;               // [C, qkv_width] the product; the same memory as qkv without query/key norms
  Buffer qkv;                   // [C, qkv_width] query and key normalised and rotated
  float* query_rstd = nullptr;  // [C, heads]
  float* key_rstd = nullptr;    // [C, kv_heads]
  Buffer attended;              // [C, attention_width]
  float* lse = nullptr;         // [heads, C]
  Buffer up;                    // [C, mlp_in_width]
  Buffer activated;             // [C, mlp_width]
};

struct Decoder::Scratch {
  Buffer delta;     // [c, width] output of a sublayer, not yet added
  Buffer partial;   // [C, width] this rank's share of a row-split product (tensor size > 1)
  Buffer gathered;  // [C, width] all tokens of a split buffer (tensor size > 1)
  Buffer final_x;   // [c, width] input of the final norm
  Buffer final_y;   // [c, width]
  Buffer hidden;    // [C, width] final hidden states (tensor size > 1; else final_y)
  float* final_mean = nullptr;
  float* final_rstd = nullptr;
  // Backward.
  Buffer dx;          // [c, width] gradient of the residual stream
  Buffer dh;          // [c, width] gradient by a norm's output
  Buffer dactivated;  // [C, mlp_width]
  Buffer dattended;   // [C, attention_width]
  Buffer dqkv;        // [C, qkv_width]
  void* attention_workspace = nullptr;
};

// The micro-batch at hand.
struct Decoder::Input {
  Staged<int32_t> ids;         // [C]
  Staged<int32_t> positions;   // [C]
  Staged<int32_t> cu_seqlens;  // [segments + 1], room for C segments of one token and a tail
  int64_t segments = 0;
  // How many rows of the capacity are computed: the tokens in use, rounded up; and this tensor rank's part.
  int64_t rows = 0;
  int64_t local_rows = 0;
};

struct Decoder::Generation {
  // Of the two sizes of step (decoding, prefill): how often it ran, and its kernels as one graph.
  struct Recorded {
    int64_t runs = 0;
    const KeyValueCache* cache = nullptr;
    kernels::Graph graph;
  };
  Recorded decode, prefill;
  Staged<int32_t> inputs;  // [3, rows] token ids, cache slots, positions: one copy to the device a step
  Buffer x;                // [rows, width]
  Buffer h;                // [rows, width]
  Buffer delta;            // [rows, width]
  Buffer qkv;              // [rows, qkv_width]
  Buffer attended;         // [rows, attention_width]
  Buffer up;               // [rows, mlp_in_width]
  Buffer activated;        // [rows, mlp_width]
};

}  // namespace tanren

#endif  // TANREN_CORE_MODEL_DECODER_PARTS_H_
