#include "core/tokenizer/piece_counter.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "core/base/status.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

constexpr size_t kPartBytes = 1 << 20;  // texts are cut to parts of about this size
constexpr size_t kPendingBytesPerThread = 8 << 20;

}  // namespace

PieceCounter::PieceCounter(const SplitPattern* pattern, int threads)
    : pattern_(pattern), counts_(std::max(threads, 1)), scratch_(std::max(threads, 1)) {}

absl::Status PieceCounter::Add(std::string_view text) {
  while (!text.empty()) {
    size_t part = text.size();
    if (part > kPartBytes) {
      // Where no cut is near, the part grows: a cut elsewhere would change the pieces.
      size_t window = kPartBytes;
      while ((part = LastSplitBoundary(text.substr(0, window))) == 0 && window < text.size()) {
        window = std::min(text.size(), window * 4);
      }
      if (part == 0) part = text.size();
    }
    pending_.emplace_back(text.substr(0, part));
    pending_bytes_ += part;
    text.remove_prefix(part);
    if (pending_bytes_ >= kPendingBytesPerThread * counts_.size()) TANREN_RETURN_IF_ERROR(CountPending());
  }
  return absl::OkStatus();
}

absl::Status PieceCounter::CountPending() {
  std::atomic<size_t> next{0};
  std::vector<absl::Status> statuses(counts_.size());
  const auto work = [&](size_t thread) {
    Counts& counts = counts_[thread];
    const auto count = [&](std::string_view piece) {
      const auto found = counts.find(View(piece));
      if (found != counts.end()) {
        ++found->second;
      } else {
        counts.emplace(std::string(piece), 1);
      }
    };
    for (size_t i = next++; i < pending_.size() && statuses[thread].ok(); i = next++) {
      std::string_view text = pending_[i];
      while (!text.empty() && statuses[thread].ok()) {
        const size_t valid = ValidUtf8Prefix(text);
        statuses[thread].Update(pattern_->Split(text.substr(0, valid), &scratch_[thread], count));
        text.remove_prefix(valid);
        size_t broken = 0;
        while (broken < text.size() && DecodeUtf8(text, broken).bytes == 0) ++broken;
        if (broken > 0) count(text.substr(0, broken));
        text.remove_prefix(broken);
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t thread = 1; thread < counts_.size(); ++thread) threads.emplace_back(work, thread);
  work(0);
  for (std::thread& thread : threads) thread.join();
  pending_.clear();
  pending_bytes_ = 0;
  for (const absl::Status& status : statuses) TANREN_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::pair<std::string, int64_t>>> PieceCounter::Finish() {
  TANREN_RETURN_IF_ERROR(CountPending());
  Counts& all = counts_[0];
  for (size_t thread = 1; thread < counts_.size(); ++thread) {
    for (const auto& [piece, count] : counts_[thread]) all[piece] += count;
    counts_[thread] = Counts();
  }
  std::vector<std::pair<std::string, int64_t>> pieces(all.begin(), all.end());
  all = Counts();
  std::sort(pieces.begin(), pieces.end());
  return pieces;
}

}  // namespace tanren
