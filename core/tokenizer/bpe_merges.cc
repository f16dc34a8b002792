#include "core/tokenizer/bpe_merges.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr size_t kScannedBytes = 96;           // longer pieces go through the heap
constexpr size_t kKeptScratchBytes = 1 << 20;  // a rare giant piece does not hold its memory for ever
constexpr uint32_t kEnd = 0xFFFFFFFF;

// scratch->ids holds the symbols, ranks[i] the rank of the pair (i, i + 1).
void MergeByScan(const MergeTable& table, MergeScratch* scratch) {
  std::vector<int32_t>& ids = scratch->ids;
  std::vector<uint32_t>& ranks = scratch->ranks;
  size_t count = ids.size();
  const auto rank_at = [&](size_t i) { return table.Find(ids[i], ids[i + 1]).rank; };
  ranks.resize(count);
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = rank_at(i);
  while (count > 1) {
    const size_t best = std::min_element(ranks.begin(), ranks.begin() + (count - 1)) - ranks.begin();
    if (ranks[best] == MergeTable::kNone) break;
    ids[best] = table.Find(ids[best], ids[best + 1]).product;
    std::copy(ids.begin() + best + 2, ids.begin() + count, ids.begin() + best + 1);
    if (best + 2 < count)
      std::copy(ranks.begin() + best + 2, ranks.begin() + count - 1, ranks.begin() + best + 1);
    --count;
    if (best > 0) ranks[best - 1] = rank_at(best - 1);
    if (best + 1 < count) ranks[best] = rank_at(best);
  }
  ids.resize(count);
}

// Symbols form a linked list; the heap holds (rank, position) of candidate pairs. An entry is stale, and
// skipped, when the pair that now starts at its position has another rank.
class HeapMerger {
 public:
  HeapMerger(const MergeTable& table, MergeScratch* scratch) : table_(table), s_(*scratch) {}

  void Run() {
    const auto count = static_cast<uint32_t>(s_.ids.size());
    s_.previous.resize(count);
    s_.next.resize(count);
    s_.ranks.assign(count, MergeTable::kNone);
    s_.heap.clear();
    for (uint32_t i = 0; i < count; ++i) {
      s_.previous[i] = i == 0 ? kEnd : i - 1;
      s_.next[i] = i + 1 == count ? kEnd : i + 1;
    }
    for (uint32_t i = 0; i + 1 < count; ++i) {
      if (SetRank(i)) s_.heap.push_back(Entry(i));
    }
    std::make_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
    while (!s_.heap.empty()) {
      std::pop_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
      const uint64_t entry = s_.heap.back();
      s_.heap.pop_back();
      const auto position = static_cast<uint32_t>(entry);
      if (s_.ranks[position] == static_cast<uint32_t>(entry >> 32)) MergeAt(position);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != kEnd; i = s_.next[i]) s_.ids[kept++] = s_.ids[i];
    s_.ids.resize(kept);
  }

 private:
  uint64_t Entry(uint32_t position) const { return uint64_t{s_.ranks[position]} << 32 | position; }

  bool SetRank(uint32_t position) {
    const uint32_t right = s_.next[position];
    s_.ranks[position] =
        right == kEnd ? MergeTable::kNone : table_.Find(s_.ids[position], s_.ids[right]).rank;
    return s_.ranks[position] != MergeTable::kNone;
  }

  void Push(uint32_t position) {
    if (!SetRank(position)) return;
    s_.heap.push_back(Entry(position));
    std::push_heap(s_.heap.begin(), s_.heap.end(), std::greater<>());
  }

  void MergeAt(uint32_t position) {
    const uint32_t right = s_.next[position];
    s_.ids[position] = table_.Find(s_.ids[position], s_.ids[right]).product;
    s_.next[position] = s_.next[right];
    s_.ranks[right] = MergeTable::kNone;
    if (s_.next[position] != kEnd) s_.previous[s_.next[position]] = position;
    if (s_.previous[position] != kEnd) Push(s_.previous[position]);
    Push(position);
  }

  const MergeTable& table_;
  MergeScratch& s_;
};

}  // namespace

MergeTable::MergeTable(int64_t merges) {
  slots_.resize(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(merges, 8)) * 2));
  mask_ = slots_.size() - 1;
}

bool MergeTable::Insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = KeyOf(left, right);
  uint64_t slot = SlotOf(key);
  for (; slots_[slot].key != kEmpty; slot = (slot + 1) & mask_) {
    if (slots_[slot].key == key) return false;
  }
  slots_[slot] = {key, merge};
  return true;
}

void MergePiece(const MergeTable& table, const int32_t (&byte_ids)[256], std::string_view piece,
                MergeScratch* scratch, std::vector<int32_t>* ids) {
  TANREN_CHECK(piece.size() < kEnd / 2);
  scratch->ids.clear();
  for (const char byte : piece) scratch->ids.push_back(byte_ids[static_cast<unsigned char>(byte)]);
  if (piece.size() <= kScannedBytes) {
    MergeByScan(table, scratch);
  } else {
    HeapMerger(table, scratch).Run();
  }
  ids->insert(ids->end(), scratch->ids.begin(), scratch->ids.end());
  if (piece.size() > kKeptScratchBytes) *scratch = MergeScratch();
}

}  // namespace tanren
