#include "parallel/engine/generator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "core/activity/activity.h"
#include "core/base/status.h"
#include "kernels/activation.h"
#include "kernels/device.h"
#include "kernels/reduce.h"
#include "parallel/engine/repetition.h"

namespace tanren {
namespace {

absl::Status CheckRequests(const Model& model, const EngineOptions& options,
                           std::span<const GenerationRequest> requests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    const GenerationRequest& request = requests[i];
    const int64_t prompt = static_cast<int64_t>(request.prompt.size());
    if (prompt == 0) return InvalidInput("request %d has an empty prompt; give it at least one token", i);
    if (request.max_tokens < 1 || prompt + request.max_tokens > options.generation_tokens) {
      return InvalidInput(
          "request %d: %d prompt tokens and max_tokens %d exceed the %d tokens a sequence may have", i,
          prompt, request.max_tokens, options.generation_tokens);
    }
    const RepetitionOptions& repetition = request.repetition;
    if (!(repetition.penalty > 0) || !std::isfinite(repetition.penalty) || repetition.no_repeat_ngram < 0) {
      return InvalidInput(
          "request %d: repetition penalty %g and no_repeat_ngram %d; the penalty is a number above 0 (1: "
          "off), "
          "the length at least 0 (off)",
          i, repetition.penalty, repetition.no_repeat_ngram);
    }
    for (int32_t id : request.prompt) {
      if (id < 0 || id >= model.options.shape.vocab_size) {
        return InvalidInput("request %d: token %d is outside the vocabulary of %d", i, id,
                            model.options.shape.vocab_size);
      }
    }
  }
  return absl::OkStatus();
}

// The length of the longest stop sequence that ends `tokens`; 0: none.
int32_t StopLength(const GenerationRequest& request, const std::vector<int32_t>& tokens) {
  size_t longest = 0;
  for (const std::vector<int32_t>& stop : request.stop) {
    if (stop.size() <= longest || stop.size() > tokens.size()) continue;
    if (std::equal(stop.rbegin(), stop.rend(), tokens.rbegin())) longest = stop.size();
  }
  return static_cast<int32_t>(longest);
}

class Generator {
 public:
  Generator(Model& model, const EngineOptions& options, std::span<const GenerationRequest> requests)
      : model_(model),
        options_(options),
        requests_(requests),
        slots_(options.decode_slots),
        width_(model.options.shape.width),
        row_bytes_(width_ * SizeOf(model.options.dtype)) {}

  absl::Status Run(std::deque<int64_t> waiting, std::vector<GenerationResult>* results) {
    const Doing rollout(Work::kRollout);
    results_ = results;
    while (true) {
      Activity::Own().Tick();
      std::vector<size_t> started;
      for (size_t s = 0; s < slots_.size(); ++s) {
        if (slots_[s].has_value() || waiting.empty()) continue;
        slots_[s].emplace(waiting.front(), requests_[waiting.front()], model_.options.shape.vocab_size);
        waiting.pop_front();
        started.push_back(s);
      }
      if (!started.empty()) {
        StageSampling(started);
        TANREN_RETURN_IF_ERROR(Sample(started, Prefill(started)));
        continue;  // an answer of one token may have freed its slot
      }
      std::vector<size_t> busy;
      for (size_t s = 0; s < slots_.size(); ++s) {
        if (slots_[s].has_value()) busy.push_back(s);
      }
      if (busy.empty()) return absl::OkStatus();
      StageSampling(busy);
      TANREN_RETURN_IF_ERROR(Sample(busy, Decode(busy)));
    }
  }

 private:
  struct Slot {
    Slot(int64_t index, const GenerationRequest& own, int64_t vocab_size)
        : request(index), repetition(own, vocab_size) {}
    int64_t request = 0;
    int64_t length = 0;      // tokens in the cache
    int32_t last_token = 0;  // sampled, not yet in the cache
    RepetitionTracker repetition;
  };

  // Fills the slots' caches with their prompts and returns the last hidden state of each in its slot's row,
  // zeros in the others. Prompts follow each other without gaps, so that short ones share a step.
  ConstBuffer Prefill(const std::vector<size_t>& started) {
    kernels::Fill(model_.mesh.stream, slots_.size() * row_bytes_, 0, model_.sample_rows.data);
    const int64_t rows = options_.prefill_tokens;
    std::vector<int32_t> ids, slots, positions;
    std::vector<std::pair<int64_t, size_t>> ends;  // row of a prompt's last token, and its slot
    const auto compute = [&] {
      ids.resize(rows, 0);
      slots.resize(rows, -1);
      positions.resize(rows, 0);
      const ConstBuffer hidden =
          model_.decoder.Step(rows, ids.data(), slots.data(), positions.data(), model_.cache);
      for (const auto& [row, slot] : ends) {
        kernels::CopyRows(model_.mesh.stream, 1, row_bytes_,
                          model_.sample_rows.as<char>() + slot * row_bytes_, row_bytes_,
                          hidden.as<char>() + row * row_bytes_, row_bytes_);
      }
      for (std::vector<int32_t>* row : {&ids, &slots, &positions}) row->clear();
      ends.clear();
    };
    for (const size_t slot : started) {
      const std::vector<int32_t>& prompt = requests_[slots_[slot]->request].prompt;
      const int64_t length = static_cast<int64_t>(prompt.size());
      for (int64_t t = 0; t < length; ++t) {
        ids.push_back(prompt[t]);
        slots.push_back(static_cast<int32_t>(slot));
        positions.push_back(static_cast<int32_t>(t));
        if (t + 1 == length) ends.emplace_back(static_cast<int64_t>(ids.size()) - 1, slot);
        if (static_cast<int64_t>(ids.size()) == rows) compute();
      }
      slots_[slot]->length = length;
    }
    if (!ids.empty()) compute();
    return model_.sample_rows;
  }

  // One more token of each busy slot: the hidden states of all slots.
  ConstBuffer Decode(const std::vector<size_t>& busy) {
    const int64_t rows = static_cast<int64_t>(slots_.size());
    std::vector<int32_t> ids(rows, 0), slots(rows, -1), positions(rows, 0);
    for (size_t s : busy) {
      ids[s] = slots_[s]->last_token;
      slots[s] = static_cast<int32_t>(s);
      positions[s] = static_cast<int32_t>(slots_[s]->length++);
    }
    return model_.decoder.Step(rows, ids.data(), slots.data(), positions.data(), model_.cache);
  }

  // Logits of all slots over the whole vocabulary, on every tensor rank, from hidden states [slots, width].
  void MakeLogits(ConstBuffer hidden) {
    const int64_t rows = static_cast<int64_t>(slots_.size());
    const int64_t local = model_.decoder.local().vocab;
    const int64_t size = model_.mesh.tensor->size();
    model_.decoder.vocabulary_head().Forward(model_.mesh.stream, rows, {hidden, width_}, ConstBuffer(),
                                             {Buffer(model_.logits_local), local});
    if (size == 1) return;
    model_.mesh.tensor->AllGather(model_.mesh.stream, "logits", ConstBuffer(model_.logits_local),
                                  Buffer(model_.logits_gathered), rows * local);
    const int64_t local_bytes = local * int64_t{sizeof(float)};
    for (int64_t r = 0; r < size; ++r) {
      kernels::CopyRows(model_.mesh.stream, rows, local_bytes, model_.logits + r * local, local_bytes * size,
                        model_.logits_gathered + r * rows * local, local_bytes);
    }
  }

  // Brings the slots' penalties to the device and returns how many there are.
  int64_t StagePenalties(const std::vector<size_t>& busy) {
    int64_t count = 0;
    for (size_t s : busy) {
      count += slots_[s]->repetition.Write(static_cast<int32_t>(s), model_.penalties.host() + count);
    }
    if (count > 0) model_.penalties.ToDevice(model_.mesh.stream, count);
    return count;
  }

  // Log-probabilities are those of the plain logits.
  void DrawTokens(int64_t rows, int64_t stride, int64_t penalties) {
    const Stream& stream = model_.mesh.stream;
    const int64_t vocab = model_.options.shape.vocab_size;
    const kernels::SamplingParams* params = model_.sampling.device();
    kernels::SampleResult* samples = model_.samples.device();
    if (penalties > 0) {
      kernels::PenalizeLogits(stream, penalties, model_.penalties.device(), stride, model_.logits,
                              model_.plain_logits);
    }
    kernels::SampleTokens(stream, rows, vocab, stride, model_.logits, params, samples);
    if (penalties == 0) return;
    kernels::RestoreLogits(stream, penalties, model_.penalties.device(), stride, model_.plain_logits,
                           model_.logits);
    kernels::ScoreSamples(stream, rows, vocab, stride, model_.logits, params, samples);
  }

  // How the slots' next tokens are drawn, sent ahead of the step so that no copy lies between its kernels.
  void StageSampling(const std::vector<size_t>& busy) {
    const int64_t rows = static_cast<int64_t>(slots_.size());
    kernels::SamplingParams* params = model_.sampling.host();
    std::fill_n(params, rows, kernels::SamplingParams());
    for (size_t s : busy) {
      params[s] = requests_[slots_[s]->request].sampling;
      params[s].index = (*results_)[slots_[s]->request].tokens.size();
    }
    model_.sampling.ToDevice(model_.mesh.stream, rows);
  }

  absl::Status Sample(const std::vector<size_t>& busy, ConstBuffer hidden) {
    MakeLogits(hidden);
    const int64_t rows = static_cast<int64_t>(slots_.size());
    const int64_t stride = model_.decoder.local().vocab * model_.mesh.tensor->size();
    const Stream& stream = model_.mesh.stream;
    if (const float cap = model_.options.shape.logit_soft_cap; cap > 0) {
      kernels::SoftCap(stream, stride * rows, cap, model_.logits);
    }
    DrawTokens(rows, stride, StagePenalties(busy));
    model_.samples.ToHost(stream, rows);
    for (size_t s : busy) TANREN_RETURN_IF_ERROR(Accept(s, model_.samples.host()[s]));
    return absl::OkStatus();
  }

  absl::Status Accept(size_t s, const kernels::SampleResult& sample) {
    Slot& slot = *slots_[s];
    const GenerationRequest& request = requests_[slot.request];
    GenerationResult& result = (*results_)[slot.request];
    if (sample.token < 0) {
      return absl::InternalError(absl::StrCat("the logits of request ", slot.request, " at token ",
                                              result.tokens.size(), " are NaN: the weights have diverged"));
    }
    result.tokens.push_back(sample.token);
    result.logp.push_back(sample.logp);
    slot.last_token = sample.token;
    slot.repetition.Add(sample.token);
    result.stop_tokens = StopLength(request, result.tokens);
    const bool stop = result.stop_tokens > 0;
    const bool wanted = !request.watch || request.watch(result);
    if (!stop && wanted && static_cast<int64_t>(result.tokens.size()) < request.max_tokens)
      return absl::OkStatus();
    result.finish = stop ? FinishReason::kStop : FinishReason::kLength;
    slots_[s].reset();
    return absl::OkStatus();
  }

  Model& model_;
  const EngineOptions& options_;
  std::span<const GenerationRequest> requests_;
  std::vector<std::optional<Slot>> slots_;
  int64_t width_;
  int64_t row_bytes_;
  std::vector<GenerationResult>* results_ = nullptr;
};

// Results of the requests `rank`, `rank + size`, ... as bytes, and back.
std::string PackResults(const std::vector<GenerationResult>& results, int rank, int size) {
  std::string text;
  const auto append = [&](const void* data, size_t bytes) {
    text.append(static_cast<const char*>(data), bytes);
  };
  for (size_t i = rank; i < results.size(); i += size) {
    const int64_t count = static_cast<int64_t>(results[i].tokens.size());
    append(&count, sizeof(count));
    append(&results[i].finish, sizeof(results[i].finish));
    append(&results[i].stop_tokens, sizeof(results[i].stop_tokens));
    append(results[i].tokens.data(), count * sizeof(int32_t));
    append(results[i].logp.data(), count * sizeof(float));
  }
  return text;
}

void UnpackResults(const std::string& text, int rank, int size, std::vector<GenerationResult>* results) {
  const char* at = text.data();
  const auto take = [&](void* data, size_t bytes) {
    if (bytes > 0) std::memcpy(data, at, bytes);
    at += bytes;
  };
  for (size_t i = rank; i < results->size(); i += size) {
    GenerationResult& result = (*results)[i];
    int64_t count = 0;
    take(&count, sizeof(count));
    take(&result.finish, sizeof(result.finish));
    take(&result.stop_tokens, sizeof(result.stop_tokens));
    result.tokens.resize(count);
    result.logp.resize(count);
    take(result.tokens.data(), count * sizeof(int32_t));
    take(result.logp.data(), count * sizeof(float));
  }
}

}  // namespace

absl::StatusOr<std::vector<GenerationResult>> GenerateOnMesh(Model& model, const EngineOptions& options,
                                                             const Mesh& mesh,
                                                             std::span<const GenerationRequest> requests) {
  TANREN_RETURN_IF_ERROR(CheckRequests(model, options, requests));
  const int rank = mesh.data->rank();
  const int size = mesh.data->size();
  std::deque<int64_t> mine;
  for (size_t i = rank; i < requests.size(); i += size) mine.push_back(static_cast<int64_t>(i));
  std::vector<GenerationResult> results(requests.size());
  const absl::Status local = Generator(model, options, requests).Run(std::move(mine), &results);
  TANREN_RETURN_IF_ERROR(AgreeStatus(*mesh.data, "generation", local));
  const std::vector<std::string> all =
      AllGatherStrings(*mesh.data, "generated tokens", PackResults(results, rank, size));
  for (int r = 0; r < size; ++r) UnpackResults(all[r], r, size, &results);
  return results;
}

}  // namespace tanren
