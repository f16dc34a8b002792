// The ids of pieces seen before: words repeat, and merging them anew costs more than all the rest of
// encoding. A direct-mapped table of one cache line per entry: bounded memory, no eviction to manage. Not
// thread-safe.
#ifndef TANREN_CORE_TOKENIZER_PIECE_CACHE_H_
#define TANREN_CORE_TOKENIZER_PIECE_CACHE_H_

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace tanren {

class PieceCache {
 public:
  static constexpr size_t kMaxPieceBytes = 30;
  static constexpr size_t kMaxIds = 8;

  PieceCache() : entries_(kEntries) {}

  // True, with the ids appended, when the piece is known.
  bool Find(std::string_view piece, std::vector<int32_t>* ids) const {
    if (piece.size() > kMaxPieceBytes) return false;
    const Entry& entry = entries_[SlotOf(piece)];
    if (entry.bytes != piece.size() || std::memcmp(entry.text, piece.data(), piece.size()) != 0) return false;
    ids->insert(ids->end(), entry.ids, entry.ids + entry.count);
    return true;
  }

  void Insert(std::string_view piece, const int32_t* ids, size_t count) {
    if (piece.size() > kMaxPieceBytes || count > kMaxIds) return;
    Entry& entry = entries_[SlotOf(piece)];
    entry.bytes = static_cast<uint8_t>(piece.size());
    entry.count = static_cast<uint8_t>(count);
    std::memcpy(entry.text, piece.data(), piece.size());
    std::memcpy(entry.ids, ids, count * sizeof(int32_t));
  }

 private:
  static constexpr size_t kEntries = 1 << 16;
  struct alignas(64) Entry {
    uint8_t bytes = 0;  // no piece is empty, so 0 marks an unused entry
    uint8_t count = 0;
    char text[kMaxPieceBytes];
    int32_t ids[kMaxIds];
  };
  static_assert(sizeof(Entry) == 64);

  static size_t SlotOf(std::string_view piece) {
    uint64_t hash = piece.size() * 0x9E3779B97F4A7C15u;
    const char* p = piece.data();
    size_t left = piece.size();
    for (; left >= 8; left -= 8, p += 8) {
      uint64_t word;
      std::memcpy(&word, p, 8);
      hash = (hash ^ word) * 0xD6E8FEB86659FD93u;
      hash ^= hash >> 32;
    }
    uint64_t word = 0;
    std::memcpy(&word, p, left);
    hash = (hash ^ word) * 0xD6E8FEB86659FD93u;
    return (hash ^ hash >> 29) >> 20 & (kEntries - 1);
  }

  std::vector<Entry> entries_;
};

}  // namespace tanren

#endif  // TANREN_CORE_TOKENIZER_PIECE_CACHE_H_
