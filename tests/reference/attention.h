// Scalar reference of softmax attention: every score is written out. Heads are [tokens, heads, head_dim].
#ifndef TANREN_TESTS_REFERENCE_ATTENTION_H_
#define TANREN_TESTS_REFERENCE_ATTENTION_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace tanren::reference {

struct AttentionShape {
  std::vector<int32_t> cu_seqlens;
  int64_t heads = 1;
  int64_t kv_heads = 1;
  int64_t head_dim = 1;
  double scale = 1;
  bool causal = true;
  int64_t window = 0;
  double soft_cap = 0;

  int64_t tokens() const { return cu_seqlens.back(); }
  bool Sees(int64_t query, int64_t key) const {
    for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
      const bool has_query = query >= cu_seqlens[s] && query < cu_seqlens[s + 1];
      const bool has_key = key >= cu_seqlens[s] && key < cu_seqlens[s + 1];
      if (has_query != has_key) return false;
    }
    if (causal && key > query) return false;
    return window == 0 || std::abs(query - key) < window;
  }
};

template <class Real>
struct AttentionOutput {
  std::vector<Real> o, lse;  // lse [heads, tokens]
};

// One row of scores before and after the cap, and its softmax.
template <class Real>
struct AttentionRow {
  std::vector<int64_t> keys;
  std::vector<Real> slope, weight;  // slope: d capped score / d raw score
  Real lse = 0;
};

template <class Real>
AttentionRow<Real> Scores(const AttentionShape& shape, int64_t query, int64_t head,
                          const std::vector<Real>& q, const std::vector<Real>& k) {
  const int64_t d = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads);
  AttentionRow<Real> row;
  Real largest = -INFINITY, sum = 0;
  for (int64_t key = 0; key < shape.tokens(); ++key) {
    if (!shape.Sees(query, key)) continue;
    Real score = 0, slope = 1;
    for (int64_t i = 0; i < d; ++i) {
      score += q[(query * shape.heads + head) * d + i] * k[(key * shape.kv_heads + kv_head) * d + i];
    }
    score *= shape.scale;
    if (shape.soft_cap > 0) {
      const Real t = std::tanh(score / Real(shape.soft_cap));
      score = shape.soft_cap * t;
      slope = 1 - t * t;
    }
    row.keys.push_back(key);
    row.slope.push_back(slope);
    row.weight.push_back(score);
    largest = std::max(largest, score);
  }
  for (Real score : row.weight) sum += std::exp(score - largest);
  row.lse = largest + std::log(sum);
  for (Real& score : row.weight) score = std::exp(score - row.lse);
  return row;
}

template <class Real>
AttentionOutput<Real> Attention(const AttentionShape& shape, const std::vector<Real>& q,
                                const std::vector<Real>& k, const std::vector<Real>& v) {
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
  AttentionOutput<Real> out{std::vector<Real>(shape.tokens() * shape.heads * d),
                            std::vector<Real>(shape.heads * shape.tokens())};
  for (int64_t query = 0; query < shape.tokens(); ++query) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const AttentionRow<Real> row = Scores(shape, query, head, q, k);
      out.lse[head * shape.tokens() + query] = row.lse;
      for (size_t j = 0; j < row.keys.size(); ++j) {
        for (int64_t i = 0; i < d; ++i) {
          out.o[(query * shape.heads + head) * d + i] +=
              row.weight[j] * v[(row.keys[j] * shape.kv_heads + head / group) * d + i];
        }
      }
    }
  }
  return out;
}

template <class Real>
struct AttentionGradients {
  std::vector<Real> dq, dk, dv;
};

template <class Real>
AttentionGradients<Real> AttentionGradient(const AttentionShape& shape, const std::vector<Real>& q,
                                           const std::vector<Real>& k, const std::vector<Real>& v,
                                           const std::vector<Real>& d_o) {
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
  AttentionGradients<Real> out{std::vector<Real>(q.size()), std::vector<Real>(k.size()),
                               std::vector<Real>(v.size())};
  for (int64_t query = 0; query < shape.tokens(); ++query) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const AttentionRow<Real> row = Scores(shape, query, head, q, k);
      const int64_t at = (query * shape.heads + head) * d;
      std::vector<Real> dweight(row.keys.size());
      Real center = 0;
      for (size_t j = 0; j < row.keys.size(); ++j) {
        const int64_t key = (row.keys[j] * shape.kv_heads + head / group) * d;
        for (int64_t i = 0; i < d; ++i) {
          dweight[j] += d_o[at + i] * v[key + i];
          out.dv[key + i] += row.weight[j] * d_o[at + i];
        }
        center += dweight[j] * row.weight[j];
      }
      for (size_t j = 0; j < row.keys.size(); ++j) {
        const int64_t key = (row.keys[j] * shape.kv_heads + head / group) * d;
        const Real dscore = row.weight[j] * (dweight[j] - center) * row.slope[j] * shape.scale;
        for (int64_t i = 0; i < d; ++i) {
          out.dq[at + i] += dscore * k[key + i];
          out.dk[key + i] += dscore * q[at + i];
        }
      }
    }
  }
  return out;
}

}  // namespace tanren::reference

#endif  // TANREN_TESTS_REFERENCE_ATTENTION_H_
