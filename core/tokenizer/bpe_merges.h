// The merge table of byte-pair encoding and its application to one piece of text (Sennrich et al. 2016): of
// all adjacent pairs the one with the lowest rank merges first, the leftmost of equals, until no pair has a
// rank.
#ifndef TANREN_CORE_TOKENIZER_BPE_MERGES_H_
#define TANREN_CORE_TOKENIZER_BPE_MERGES_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace tanren {

// Open-addressing hash table from a pair of ids to (rank, merged id); filled once, then read by all threads.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank = kNone;
    int32_t product = -1;
  };
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  explicit MergeTable(int64_t merges);

  // False when the pair is there already.
  bool Insert(int32_t left, int32_t right, Merge merge);
  Merge Find(int32_t left, int32_t right) const {
    const uint64_t key = KeyOf(left, right);
    for (uint64_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].merge;
      if (slots_[slot].key == kEmpty) return Merge{};
    }
  }

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  static uint64_t KeyOf(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  uint64_t SlotOf(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u >> 20) & mask_; }

  std::vector<Slot> slots_;
  uint64_t mask_ = 0;
};

// Buffers of MergePiece, reused from piece to piece by one thread.
struct MergeScratch {
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> previous;
  std::vector<uint32_t> next;
  std::vector<uint64_t> heap;
};

// Appends the ids of `piece`, whose bytes start as byte_ids[byte]. A short piece is scanned for its lowest
// rank; a long one goes through a heap, O(n log n). piece.size() < 2^31.
void MergePiece(const MergeTable& table, const int32_t (&byte_ids)[256], std::string_view piece,
                MergeScratch* scratch, std::vector<int32_t>* ids);

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_BPE_MERGES_H_
