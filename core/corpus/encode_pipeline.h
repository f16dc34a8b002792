// Encodes documents on several threads and gives them out in the order they came in.
#ifndef TANREN_CORE_CORPUS_ENCODE_PIPELINE_H_
#define TANREN_CORE_CORPUS_ENCODE_PIPELINE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/corpus/documents.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

struct RoutedPart {
  DocumentPart part;
  int split = 0;
};

struct EncodeFrame {
  int32_t bos = -1;          // put before every document, unless -1
  int32_t end_of_text = -1;  // put behind every document, unless -1
};

// Memory is bounded: Push waits while threads + 2 batches of about a MiB (or one longer document) are on
// their way.
class EncodePipeline {
 public:
  // Called from the thread that calls Push and Finish, in the order of the parts.
  using Consumer = std::function<absl::Status(const RoutedPart& part, absl::Span<const int32_t> ids)>;

  EncodePipeline(const Tokenizer* tokenizer, EncodeFrame frame, int threads, Consumer consumer);
  ~EncodePipeline();

  // `place` names the part ("path:line") in the error of a text that does not encode.
  absl::Status Push(RoutedPart part, std::string place);
  absl::Status Finish();

 private:
  struct Batch {
    std::vector<RoutedPart> parts;
    std::vector<std::string> places;
    std::vector<size_t> ends;  // of each part's ids
    std::vector<int32_t> ids;
    size_t bytes = 0;
    bool done = false;
    absl::Status status;
  };

  void Work();
  void Encode(Batch* batch) const;
  void Submit();
  absl::Status ConsumeFront();

  const Tokenizer* tokenizer_;
  EncodeFrame frame_;
  size_t max_in_flight_;
  Consumer consumer_;
  std::shared_ptr<Batch> filling_;

  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::condition_variable batch_done_;
  std::deque<std::shared_ptr<Batch>> in_flight_;  // in order
  std::deque<std::shared_ptr<Batch>> to_encode_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_ENCODE_PIPELINE_H_
