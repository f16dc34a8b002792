#include "core/corpus/encode_pipeline.h"

#include <algorithm>
#include <utility>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr size_t kBatchBytes = 1 << 20;

}  // namespace

EncodePipeline::EncodePipeline(const Tokenizer* tokenizer, EncodeFrame frame, int threads, Consumer consumer)
    : tokenizer_(tokenizer),
      frame_(frame),
      max_in_flight_(static_cast<size_t>(std::max(threads, 1)) + 2),
      consumer_(std::move(consumer)),
      filling_(std::make_shared<Batch>()) {
  for (int i = 0; i < std::max(threads, 1); ++i) threads_.emplace_back([this] { Work(); });
}

EncodePipeline::~EncodePipeline() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void EncodePipeline::Work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    work_ready_.wait(lock, [this] { return closed_ || !to_encode_.empty(); });
    if (closed_) return;
    const std::shared_ptr<Batch> batch = std::move(to_encode_.front());
    to_encode_.pop_front();
    lock.unlock();
    Encode(batch.get());
    lock.lock();
    batch->done = true;
    batch_done_.notify_all();
  }
}

void EncodePipeline::Encode(Batch* batch) const {
  for (size_t i = 0; i < batch->parts.size(); ++i) {
    const DocumentPart& part = batch->parts[i].part;
    if (part.begins && frame_.bos >= 0) batch->ids.push_back(frame_.bos);
    batch->status = tokenizer_->EncodeTo(part.text, &batch->ids);
    if (!batch->status.ok()) {
      batch->status = At(batch->places[i], batch->status);
      return;
    }
    if (part.ends && frame_.end_of_text >= 0) batch->ids.push_back(frame_.end_of_text);
    batch->ends.push_back(batch->ids.size());
  }
}

absl::Status EncodePipeline::Push(RoutedPart part, std::string place) {
  filling_->bytes += part.part.text.size();
  filling_->parts.push_back(std::move(part));
  filling_->places.push_back(std::move(place));
  if (filling_->bytes < kBatchBytes) return absl::OkStatus();
  Submit();
  while (in_flight_.size() >= max_in_flight_) TANREN_RETURN_IF_ERROR(ConsumeFront());
  return absl::OkStatus();
}

void EncodePipeline::Submit() {
  std::lock_guard<std::mutex> lock(mutex_);
  in_flight_.push_back(filling_);
  to_encode_.push_back(std::exchange(filling_, std::make_shared<Batch>()));
  work_ready_.notify_one();
}

absl::Status EncodePipeline::ConsumeFront() {
  std::shared_ptr<Batch> batch;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    batch = in_flight_.front();
    batch_done_.wait(lock, [&] { return batch->done; });
    in_flight_.pop_front();
  }
  TANREN_RETURN_IF_ERROR(batch->status);
  size_t begin = 0;
  for (size_t i = 0; i < batch->parts.size(); ++i) {
    const size_t end = batch->ends[i];
    TANREN_RETURN_IF_ERROR(
        consumer_(batch->parts[i], absl::MakeConstSpan(batch->ids.data() + begin, end - begin)));
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status EncodePipeline::Finish() {
  if (!filling_->parts.empty()) Submit();
  while (!in_flight_.empty()) TANREN_RETURN_IF_ERROR(ConsumeFront());
  return absl::OkStatus();
}

}  // namespace tanren
