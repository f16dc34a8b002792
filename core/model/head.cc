#include "core/model/head.h"

#include <algorithm>
#include <cstring>

#include "core/base/status.h"
#include "core/loss/functor.h"
#include "kernels/embedding.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

constexpr uint32_t kVocabularyStatistics = kLogp | kLse | kEntropy;

// The loss's token columns at the trained positions, and pointers to them.
struct GatheredColumns {
  std::vector<std::vector<float>> values;
  std::vector<const float*> At(int64_t begin) const {
    std::vector<const float*> pointers;
    for (const std::vector<float>& column : values) pointers.push_back(column.data() + begin);
    return pointers;
  }
};

GatheredColumns Gather(const MicroBatch& batch, const std::vector<std::string>& names) {
  GatheredColumns gathered;
  for (const std::string& name : names) {
    const std::vector<float>* column = batch.columns.Find(name);
    // A rank may hold an empty micro-batch, which has no columns at all.
    TANREN_CHECK_MSG(column != nullptr || batch.trained.empty(), "the batch has no column ", name);
    std::vector<float> values;
    for (int32_t t : batch.trained) values.push_back((*column)[t]);
    gathered.values.push_back(std::move(values));
  }
  return gathered;
}

std::vector<int32_t> LastTokens(const MicroBatch& batch) {
  std::vector<int32_t> positions;
  for (int64_t s = 0; s < batch.segments(); ++s)
    positions.push_back(static_cast<int32_t>(batch.LastToken(s)));
  return positions;
}

}  // namespace

Head::Head(Decoder& decoder, int64_t chunk_tokens, int64_t score_offset)
    : decoder_(decoder), score_offset_(score_offset) {
  const int64_t rounded = (chunk_tokens + kHeadRowMultiple - 1) / kHeadRowMultiple * kHeadRowMultiple;
  const int64_t capacity =
      (decoder.options().capacity_tokens + kHeadRowMultiple - 1) / kHeadRowMultiple * kHeadRowMultiple;
  chunk_tokens_ = std::min(rounded, capacity);
}

void Head::LayoutActivations(Arena& arena) {
  const DType dtype = decoder_.options().dtype;
  const int64_t width = decoder_.shape().width;
  const bool trainable = decoder_.options().trainable;
  x_ = arena.Take("head chunk", dtype, chunk_tokens_ * width);
  if (trainable) {
    dhidden_ = arena.Take("gradient of hidden states", dtype, decoder_.options().capacity_tokens * width);
    dx_ = arena.Take("head chunk", dtype, chunk_tokens_ * width);
  }
  if (decoder_.shape().vocabulary_head) {
    const int64_t count = chunk_tokens_ * decoder_.local().vocab;
    logits_ = arena.Take<float>("logits of a chunk", count);
    dlogits_ = Buffer(logits_);
    if (trainable && dtype != DType::kF32) dlogits_ = arena.Take("logits of a chunk", dtype, count);
  }
  for (Staged<float>* row : {&logp_, &lse_, &entropy_, &value_, &dlogp_, &dlse_, &dentropy_, &dvalue_}) {
    row->Layout(arena, "token statistics", chunk_tokens_);
  }
  for (Staged<int32_t>* row : {&positions_, &targets_}) row->Layout(arena, "token statistics", chunk_tokens_);
  max_ = arena.Take<float>("token statistics", chunk_tokens_);
  sums_ = arena.Take<float>("token statistics", 3 * chunk_tokens_);
}

void Head::Bind(Buffer weights, float* gradients) {
  gradients_ = gradients;
  if (score_offset_ < 0) return;
  score_weight_ = ConstBuffer(static_cast<const char*>(weights.data) + score_offset_ * SizeOf(weights.dtype),
                              weights.dtype);
}

template <class Body>
void Head::ForChunks(const std::vector<int32_t>& positions, const Body& body) {
  const int64_t total = static_cast<int64_t>(positions.size());
  for (int64_t begin = 0; begin < total; begin += chunk_tokens_) {
    Chunk chunk;
    chunk.positions = &positions;
    chunk.begin = begin;
    chunk.count = std::min(chunk_tokens_, total - begin);
    chunk.rows = (chunk.count + kHeadRowMultiple - 1) / kHeadRowMultiple * kHeadRowMultiple;
    body(chunk);
  }
}

void Head::GatherChunk(const Chunk& chunk, ConstBuffer hidden) {
  const int64_t width = decoder_.shape().width;
  const Stream& stream = decoder_.mesh().stream;
  std::copy_n(chunk.positions->data() + chunk.begin, chunk.count, positions_.host());
  positions_.ToDevice(stream, chunk.count);
  kernels::GatherRows(stream, chunk.count, width, positions_.device(), hidden, x_);
  // Zero rows, not stale ones: a NaN left there by a bad step would spread through the weight gradient.
  const int64_t row_bytes = width * SizeOf(x_.dtype);
  kernels::Fill(stream, (chunk.rows - chunk.count) * row_bytes, 0, x_.as<char>() + chunk.count * row_bytes);
}

kernels::LogitShard Head::Shard(const MicroBatch& batch, const Chunk& chunk, float temperature) {
  int32_t* targets = targets_.host();
  for (int64_t i = 0; i < chunk.count; ++i) targets[i] = batch.targets[(*chunk.positions)[chunk.begin + i]];
  std::fill(targets + chunk.count, targets + chunk.rows, -1);
  targets_.ToDevice(decoder_.mesh().stream, chunk.rows);
  kernels::LogitShard shard;
  shard.rows = chunk.rows;
  shard.vocab = decoder_.local().vocab;
  shard.valid = decoder_.local().vocab_valid;
  shard.first_id = decoder_.local().vocab_begin;
  shard.soft_cap = decoder_.shape().logit_soft_cap;
  shard.temperature = temperature;
  shard.targets = targets_.device();
  return shard;
}

void Head::MakeLogits(const kernels::LogitShard& shard) {
  decoder_.vocabulary_head().Forward(decoder_.mesh().stream, shard.rows, {x_, decoder_.shape().width},
                                     ConstBuffer(), {Buffer(logits_), shard.vocab});
}

void Head::MakeStatistics(const kernels::LogitShard& shard) {
  const Stream& stream = decoder_.mesh().stream;
  Comm& tensor = *decoder_.mesh().tensor;
  if (tensor.size() == 1) {
    kernels::LogitRowMaxAndSums(stream, shard, logits_, max_, sums_);
  } else {
    kernels::LogitRowMax(stream, shard, logits_, max_);
    tensor.AllReduce(stream, "logit maximum", Buffer(max_), shard.rows, ReduceOp::kMax);
    kernels::LogitRowSums(stream, shard, logits_, max_, sums_);
    tensor.AllReduce(stream, "logit sums", Buffer(sums_), 3 * shard.rows, ReduceOp::kSum);
  }
  kernels::TokenStatistics(stream, shard.rows, max_, sums_, logp_.device(), lse_.device(), entropy_.device());
}

void Head::MakeValues(const Chunk& chunk) {
  kernels::ScalarHeadForward(decoder_.mesh().stream, chunk.rows, decoder_.shape().width, x_, score_weight_, 0,
                             value_.device());
}

// Brings the chunk's statistics to the host, where the loss reads them.
void Head::Fetch(const Chunk& chunk, uint32_t statistics) {
  const Stream& stream = decoder_.mesh().stream;
  if (statistics & kLogp) logp_.ToHost(stream, chunk.count);
  if (statistics & kLse) lse_.ToHost(stream, chunk.count);
  if (statistics & kEntropy) entropy_.ToHost(stream, chunk.count);
  if (statistics & kValue) value_.ToHost(stream, chunk.count);
}

// Sends the chunk's seeds to the device; the rows beyond its count get none.
void Head::SendSeeds(const Chunk& chunk, uint32_t statistics) {
  const auto send = [&](uint32_t bit, const Staged<float>& seeds) {
    if ((statistics & bit) == 0) return;
    std::fill(seeds.host() + chunk.count, seeds.host() + chunk.rows, 0.0f);
    seeds.ToDevice(decoder_.mesh().stream, chunk.rows);
  };
  if (statistics & kVocabularyStatistics) statistics |= kLogp;
  send(kLogp, dlogp_);
  send(kLse, dlse_);
  send(kEntropy, dentropy_);
  send(kValue, dvalue_);
}

void Head::BackwardLogits(const kernels::LogitShard& shard, const Chunk& chunk, uint32_t statistics) {
  const Stream& stream = decoder_.mesh().stream;
  const int64_t width = decoder_.shape().width;
  kernels::LogitGradient(stream, shard, logits_, lse_.device(), entropy_.device(), dlogp_.device(),
                         (statistics & kLse) ? dlse_.device() : nullptr,
                         (statistics & kEntropy) ? dentropy_.device() : nullptr, dlogits_);
  kernels::Linear& head = decoder_.vocabulary_head();
  head.BackwardWeight(stream, shard.rows, {dlogits_, shard.vocab}, {x_, width},
                      gradients_ + decoder_.vocabulary_head_offset(), nullptr);
  head.BackwardInput(stream, shard.rows, {dlogits_, shard.vocab}, {dx_, width}, false);
  kernels::ScatterAddRows(stream, chunk.count, width, positions_.device(), dx_, dhidden_);
}

// Every tensor rank sees all rows; each takes the rows of its own tokens, and the shares are summed with
// those of the vocabulary head.
void Head::BackwardValues(const Chunk& chunk) {
  const Stream& stream = decoder_.mesh().stream;
  const int64_t width = decoder_.shape().width;
  const int64_t local = decoder_.options().capacity_tokens / decoder_.mesh().tensor->size();
  for (int64_t i = 0; i < chunk.count; ++i) {
    if ((*chunk.positions)[chunk.begin + i] / local != decoder_.mesh().tensor->rank()) dvalue_.host()[i] = 0;
  }
  SendSeeds(chunk, kValue);
  kernels::Fill(stream, chunk.rows * width * SizeOf(dx_.dtype), 0, dx_.data);
  kernels::ScalarHeadBackward(stream, chunk.rows, width, dvalue_.device(), x_, score_weight_, dx_,
                              gradients_ + score_offset_, nullptr);
  kernels::ScatterAddRows(stream, chunk.count, width, positions_.device(), dx_, dhidden_);
}

void Head::Score(const MicroBatch& batch, ConstBuffer hidden, uint32_t statistics, bool per_segment,
                 float temperature, Statistics* out) {
  *out = Statistics();
  const auto append = [](std::vector<float>& to, const float* from, int64_t count) {
    to.insert(to.end(), from, from + count);
  };
  const bool token_values = (statistics & kValue) && !per_segment;
  if (token_values || (statistics & kVocabularyStatistics)) {
    ForChunks(batch.trained, [&](const Chunk& chunk) {
      GatherChunk(chunk, hidden);
      if (statistics & kVocabularyStatistics) {
        const kernels::LogitShard shard = Shard(batch, chunk, temperature);
        MakeLogits(shard);
        MakeStatistics(shard);
      }
      if (token_values) MakeValues(chunk);
      Fetch(chunk, token_values ? statistics : statistics & kVocabularyStatistics);
      if (statistics & kLogp) append(out->logp, logp_.host(), chunk.count);
      if (statistics & kLse) append(out->lse, lse_.host(), chunk.count);
      if (statistics & kEntropy) append(out->entropy, entropy_.host(), chunk.count);
      if (token_values) append(out->value, value_.host(), chunk.count);
    });
  }
  if (!(statistics & kValue)) return;
  const std::vector<int32_t> last_tokens = LastTokens(batch);
  ForChunks(last_tokens, [&](const Chunk& chunk) {
    GatherChunk(chunk, hidden);
    MakeValues(chunk);
    Fetch(chunk, kValue);
    append(out->segment_value, value_.host(), chunk.count);
  });
}

void Head::Run(const MicroBatch& batch, ConstBuffer hidden, const Loss& loss, const Normalizers& normalizers,
               bool gradients, double* sums) {
  if (gradients) {
    const int64_t count = decoder_.options().capacity_tokens * decoder_.shape().width;
    kernels::Fill(decoder_.mesh().stream, count * SizeOf(dhidden_.dtype), 0, dhidden_.data);
  }
  if (loss.coupling() == Coupling::kToken) {
    RunTokens(batch, hidden, loss, normalizers, gradients, sums);
  } else {
    RunSegments(batch, hidden, loss, normalizers, gradients, sums);
  }
}

void Head::RunTokens(const MicroBatch& batch, ConstBuffer hidden, const Loss& loss,
                     const Normalizers& normalizers, bool gradients, double* sums) {
  const uint32_t statistics = loss.statistics();
  const GatheredColumns columns = Gather(batch, loss.columns());
  const auto asked = [&](Statistic bit, const Staged<float>& row) {
    return (statistics & bit) ? row.host() : nullptr;
  };
  ForChunks(batch.trained, [&](const Chunk& chunk) {
    GatherChunk(chunk, hidden);
    kernels::LogitShard shard;
    if (statistics & kVocabularyStatistics) {
      shard = Shard(batch, chunk, loss.temperature());
      MakeLogits(shard);
      MakeStatistics(shard);
    }
    if (statistics & kValue) MakeValues(chunk);
    Fetch(chunk, statistics);
    const std::vector<const float*> chunk_columns = columns.At(chunk.begin);
    const TokenStatsView view{chunk.count,           asked(kLogp, logp_),
                              asked(kLse, lse_),     asked(kEntropy, entropy_),
                              asked(kValue, value_), chunk_columns.data()};
    const TokenSeedsView seeds{dlogp_.host(), asked(kLse, dlse_), asked(kEntropy, dentropy_),
                               asked(kValue, dvalue_)};
    loss.Tokens(Stream(), view, normalizers, seeds, sums);
    if (!gradients) return;
    if (statistics & kVocabularyStatistics) {
      SendSeeds(chunk, statistics & kVocabularyStatistics);
      BackwardLogits(shard, chunk, statistics);
    }
    if (statistics & kValue) BackwardValues(chunk);
  });
}

void Head::RunSegments(const MicroBatch& batch, ConstBuffer hidden, const Loss& loss,
                       const Normalizers& normalizers, bool gradients, double* sums) {
  const int64_t segments = batch.segments();
  // The log-sum-exp is kept so that the gradient pass makes the logits only.
  const uint32_t vocabulary = (loss.statistics() & kLogp) ? uint32_t{kLogp | kLse} : 0;
  const uint32_t value = loss.statistics() & kValue;
  Statistics stats;
  Score(batch, hidden, vocabulary | value, true, loss.temperature(), &stats);

  const GatheredColumns columns = Gather(batch, loss.columns());
  std::vector<double> sum(segments, 0);
  std::vector<float> trained(segments, 0);
  // A column may hold another model's logp: where both are equal, so must their sums be, bit for bit.
  std::vector<std::vector<double>> double_sums(columns.values.size(), std::vector<double>(segments, 0));
  for (size_t i = 0; i < batch.trained.size(); ++i) {
    const int32_t segment = batch.trained_segment[i];
    if (vocabulary) sum[segment] += stats.logp[i];
    trained[segment] += 1;
    for (size_t c = 0; c < columns.values.size(); ++c) double_sums[c][segment] += columns.values[c][i];
  }
  const std::vector<float> logp_sum(sum.begin(), sum.end());
  std::vector<std::vector<float>> column_sums;
  for (const std::vector<double>& one : double_sums) column_sums.emplace_back(one.begin(), one.end());
  std::vector<const float*> column_pointers, segment_pointers;
  for (const std::vector<float>& column : column_sums) column_pointers.push_back(column.data());
  for (const std::string& name : loss.segment_columns()) {
    const std::vector<float>* column = batch.segment_columns.Find(name);
    TANREN_CHECK_MSG(column != nullptr || segments == 0, "the batch has no segment column ", name);
    segment_pointers.push_back(column == nullptr ? nullptr : column->data());
  }
  SegmentStatsView view;
  view.units = batch.units();
  view.unit_segments = batch.unit_segments.data();
  view.logp_sum = vocabulary ? logp_sum.data() : nullptr;
  view.trained_tokens = trained.data();
  view.value = value ? stats.segment_value.data() : nullptr;
  view.column_sums = column_pointers.data();
  view.segment_columns = segment_pointers.data();
  std::vector<float> dlogp_sum(segments, 0), dvalue(segments, 0);
  loss.Segments(Stream(), view, normalizers,
                {vocabulary ? dlogp_sum.data() : nullptr, value ? dvalue.data() : nullptr}, sums);
  if (gradients && vocabulary) BackwardSegments(batch, hidden, loss.temperature(), stats.lse, dlogp_sum);
  if (gradients && value) BackwardSegmentValues(batch, hidden, dvalue);
}

void Head::BackwardSegments(const MicroBatch& batch, ConstBuffer hidden, float temperature,
                            const std::vector<float>& lse, const std::vector<float>& dlogp_sum) {
  ForChunks(batch.trained, [&](const Chunk& chunk) {
    GatherChunk(chunk, hidden);
    const kernels::LogitShard shard = Shard(batch, chunk, temperature);
    MakeLogits(shard);
    std::copy_n(lse.begin() + chunk.begin, chunk.count, lse_.host());
    std::fill(lse_.host() + chunk.count, lse_.host() + chunk.rows, 0.0f);
    lse_.ToDevice(decoder_.mesh().stream, chunk.rows);
    for (int64_t i = 0; i < chunk.count; ++i) {
      dlogp_.host()[i] = dlogp_sum[batch.trained_segment[chunk.begin + i]];
    }
    SendSeeds(chunk, kLogp);
    BackwardLogits(shard, chunk, kLogp);
  });
}

void Head::BackwardSegmentValues(const MicroBatch& batch, ConstBuffer hidden,
                                 const std::vector<float>& dvalue) {
  const std::vector<int32_t> last_tokens = LastTokens(batch);
  ForChunks(last_tokens, [&](const Chunk& chunk) {
    GatherChunk(chunk, hidden);
    std::copy_n(dvalue.begin() + chunk.begin, chunk.count, dvalue_.host());
    BackwardValues(chunk);
  });
}

}  // namespace tanren
