#include "core/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <queue>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "core/base/status.h"
#include "core/tokenizer/byte_alphabet.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/piece_counter.h"
#include "core/tokenizer/split_pattern.h"

namespace tanren {
namespace {

constexpr int64_t kMaxVocabSize = 4'000'000;

absl::StatusOr<std::string_view> PatternByName(const std::string& name) {
  if (name == "gpt2") return kGpt2Pattern;
  if (name == "gpt4") return kGpt4Pattern;
  if (name == "qwen") return kQwenPattern;
  return InvalidInput("the split pattern %s is none of gpt2, gpt4 and qwen", Quoted(name));
}

// All distinct pieces behind one another, as tokens, with a boundary after each piece.
//
// A token of n bytes covers n places: its id stands at the first place, and the last place leads back to the
// first. So the neighbours of a token are found without links: behind it, by its length; before it, by what
// the place before holds.
class TokenLine {
 public:
  explicit TokenLine(const std::vector<std::pair<std::string, int64_t>>& pieces) : pieces_(pieces) {
    size_t places = 1;
    for (const auto& [piece, count] : pieces) places += piece.size() + 1;
    places_.reserve(places);
    piece_of_.reserve(places);
    std::array<int32_t, 256> id_of_byte;
    for (int id = 0; id < 256; ++id) id_of_byte[BytesInAlphabetOrder()[id]] = id;
    places_.push_back(kBoundary);
    piece_of_.push_back(0);
    for (size_t i = 0; i < pieces.size(); ++i) {
      for (const char byte : pieces[i].first) places_.push_back(id_of_byte[static_cast<unsigned char>(byte)]);
      places_.push_back(kBoundary);
      piece_of_.resize(places_.size(), static_cast<uint32_t>(i));
    }
    lengths_.assign(256, 1);
  }

  static constexpr int32_t kBoundary = std::numeric_limits<int32_t>::max();

  uint32_t size() const { return static_cast<uint32_t>(places_.size()); }
  int32_t at(uint32_t place) const { return places_[place]; }
  uint32_t Next(uint32_t place) const { return place + lengths_[places_[place]]; }
  uint32_t Previous(uint32_t place) const {
    const int32_t before = places_[place - 1];
    return before >= 0 ? place - 1 : place + before;  // -n leads back over a token of n places
  }
  int64_t CountAt(uint32_t place) const { return pieces_[piece_of_[place]].second; }

  int32_t NewToken(int32_t left, int32_t right) {
    lengths_.push_back(lengths_[left] + lengths_[right]);
    return static_cast<int32_t>(lengths_.size()) - 1;
  }
  void Put(uint32_t place, int32_t token) {
    places_[place] = token;
    const uint32_t length = lengths_[token];
    // What was the start of the right part must not be taken for a token any more.
    for (uint32_t i = place + 1; i + 1 < place + length; ++i) places_[i] = kInside;
    places_[place + length - 1] = -static_cast<int32_t>(length);
  }

 private:
  static constexpr int32_t kInside = std::numeric_limits<int32_t>::min();

  const std::vector<std::pair<std::string, int64_t>>& pieces_;
  std::vector<int32_t> places_;
  std::vector<uint32_t> piece_of_;
  std::vector<uint32_t> lengths_;  // by token
};

struct Pair {
  int32_t left = 0;
  int32_t right = 0;
  bool operator==(const Pair&) const = default;
  auto operator<=>(const Pair&) const = default;
  template <class H>
  friend H AbslHashValue(H h, const Pair& pair) {
    return H::combine(std::move(h), pair.left, pair.right);
  }
};

struct Candidate {
  int64_t count = 0;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : other.pair < pair;
  }
};

struct PairRecord {
  int64_t count = 0;
  std::vector<uint32_t> places;  // where it stood when it came to be; some may be gone
};

class Merger {
 public:
  explicit Merger(TokenLine line) : line_(std::move(line)) {
    for (uint32_t place = 1; place + 1 < line_.size(); ++place) {
      if (line_.at(place) != TokenLine::kBoundary && line_.at(place + 1) != TokenLine::kBoundary) {
        Join(line_.at(place), line_.at(place + 1), place);
      }
    }
    for (const auto& [pair, record] : records_) queue_.push({record.count, pair});
    grown_.clear();
  }

  // The most frequent pair that `allowed(pair)`; false when none occurs min_count times. A pair that is not
  // allowed once is never looked at again.
  template <class Allowed>
  bool Best(int64_t min_count, Allowed allowed, Pair* pair) {
    while (!queue_.empty()) {
      Candidate top = queue_.top();
      const auto record = records_.find(top.pair);
      const int64_t count = record == records_.end() ? 0 : record->second.count;
      if (count == top.count) {
        *pair = top.pair;
        if (count < min_count || count <= 0) return false;
        if (allowed(top.pair)) return true;
        queue_.pop();
        continue;
      }
      queue_.pop();
      // Counts only grow right before a push, so a stale entry is too high; it comes back where it belongs.
      if (count > 0) queue_.push({count, top.pair});
    }
    return false;
  }

  void Merge(Pair pair) {
    queue_.pop();
    std::vector<uint32_t> places = std::move(records_[pair].places);
    records_.erase(pair);
    if (!std::is_sorted(places.begin(), places.end())) std::sort(places.begin(), places.end());
    const int32_t token = line_.NewToken(pair.left, pair.right);
    for (const uint32_t place : places) {
      if (line_.at(place) != pair.left) continue;
      const uint32_t right = line_.Next(place);
      if (line_.at(right) != pair.right) continue;
      MergeAt(place, right, pair, token);
    }
    for (const Pair& grown : grown_) queue_.push({records_[grown].count, grown});
    grown_.clear();
  }

 private:
  void MergeAt(uint32_t place, uint32_t right, Pair pair, int32_t token) {
    const uint32_t behind = line_.Next(right);
    const uint32_t before = line_.Previous(place);
    const int32_t token_before = line_.at(before);
    const int32_t token_behind = line_.at(behind);
    const int64_t count = line_.CountAt(place);
    if (token_before != TokenLine::kBoundary) Part(token_before, pair.left, count);
    if (token_behind != TokenLine::kBoundary) Part(pair.right, token_behind, count);
    line_.Put(place, token);
    if (token_before != TokenLine::kBoundary) Join(token_before, token, before);
    if (token_behind != TokenLine::kBoundary) Join(token, token_behind, place);
  }

  void Join(int32_t left, int32_t right, uint32_t place) {
    PairRecord& record = records_[Pair{left, right}];
    if (record.places.empty()) grown_.push_back({left, right});
    record.count += line_.CountAt(place);
    record.places.push_back(place);
  }

  void Part(int32_t left, int32_t right, int64_t count) {
    const auto record = records_.find(Pair{left, right});
    if (record == records_.end()) return;  // the pair that merges right now
    record->second.count -= count;
  }

  TokenLine line_;
  absl::flat_hash_map<Pair, PairRecord> records_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> grown_;  // pairs that are new since the last push
};

}  // namespace

struct BpeTrainer::Impl {
  BpeTrainerOptions options;
  std::string_view pattern_text;
  std::unique_ptr<SplitPattern> pattern;
  std::unique_ptr<PieceCounter> counter;
  int64_t distinct_pieces = 0;
};

BpeTrainer::BpeTrainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BpeTrainer::~BpeTrainer() = default;

absl::StatusOr<std::unique_ptr<BpeTrainer>> BpeTrainer::Create(BpeTrainerOptions options) {
  const int64_t least = 256 + static_cast<int64_t>(options.specials.size());
  if (options.vocab_size < least || options.vocab_size > kMaxVocabSize) {
    return InvalidInput(
        "a vocabulary of %d tokens: 256 bytes and %d special tokens need at least %d, and the limit is %d",
        options.vocab_size, options.specials.size(), least, kMaxVocabSize);
  }
  auto impl = std::make_unique<Impl>();
  TANREN_ASSIGN_OR_RETURN(impl->pattern_text, PatternByName(options.split));
  TANREN_ASSIGN_OR_RETURN(SplitPattern pattern, SplitPattern::Compile(impl->pattern_text));
  impl->pattern = std::make_unique<SplitPattern>(std::move(pattern));
  if (options.threads <= 0)
    options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  impl->counter = std::make_unique<PieceCounter>(impl->pattern.get(), options.threads);
  impl->options = std::move(options);
  return std::unique_ptr<BpeTrainer>(new BpeTrainer(std::move(impl)));
}

absl::Status BpeTrainer::Add(std::string_view text) { return impl_->counter->Add(text); }

int64_t BpeTrainer::distinct_pieces() const { return impl_->distinct_pieces; }

absl::StatusOr<BpeDefinition> BpeTrainer::Train() {
  const BpeTrainerOptions& options = impl_->options;
  TANREN_ASSIGN_OR_RETURN(const auto pieces, impl_->counter->Finish());
  impl_->distinct_pieces = static_cast<int64_t>(pieces.size());
  uint64_t places = 1;
  for (const auto& [piece, count] : pieces) places += piece.size() + 1;
  if (places > std::numeric_limits<int32_t>::max()) {
    return InvalidInput(
        "the distinct pieces of the text take %d bytes; the limit is 2 GiB: train on a sample", places);
  }

  BpeDefinition definition;
  definition.split_patterns = {std::string(impl_->pattern_text)};
  for (const unsigned char byte : BytesInAlphabetOrder())
    definition.tokens.emplace_back(1, static_cast<char>(byte));
  const int64_t target = options.vocab_size - 256 - static_cast<int64_t>(options.specials.size());
  // A token has one merge, and its text in files is no special token's.
  absl::flat_hash_set<std::string> taken(options.specials.begin(), options.specials.end());
  const auto product = [&](Pair pair) {
    return definition.tokens[pair.left] + definition.tokens[pair.right];
  };
  const auto allowed = [&](Pair pair) { return taken.insert(BytesToAlphabet(product(pair))).second; };
  Merger merger((TokenLine(pieces)));
  Pair pair;
  while (definition.merges.size() < target && merger.Best(options.min_count, allowed, &pair)) {
    merger.Merge(pair);
    definition.merges.emplace_back(pair.left, pair.right);
    definition.tokens.push_back(product(pair));
    if (options.progress && definition.merges.size() % 256 == 0)
      options.progress(definition.merges.size(), target);
  }
  for (const std::string& special : options.specials) {
    definition.specials.push_back({special, static_cast<int32_t>(definition.tokens.size())});
    definition.tokens.push_back(special);
  }
  definition.roles = RolesByName(definition.specials);
  return definition;
}

}  // namespace tanren
