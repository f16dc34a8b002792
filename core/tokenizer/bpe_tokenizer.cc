#include "core/tokenizer/bpe_tokenizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/tokenizer/bpe_files.h"
#include "core/tokenizer/bpe_merges.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/piece_cache.h"
#include "core/tokenizer/split_pattern.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

// What one call of EncodeTo needs; kept in a pool, so that threads do not share and calls do not build anew.
struct EncodeScratch {
  SplitScratch split;
  MergeScratch merge;
  PieceCache cache;
};

absl::StatusOr<std::string> NormaliseNfc(std::string_view valid_utf8) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(valid_utf8.data()),
                   static_cast<utf8proc_ssize_t>(valid_utf8.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (bytes < 0) return InvalidInput("cannot normalise a text to NFC: %s", utf8proc_errmsg(bytes));
  return std::string(reinterpret_cast<char*>(result), static_cast<size_t>(bytes));
}

bool IsAscii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

// Calls valid(run) and broken(run) for the runs of UTF-8 and of other bytes, from left to right.
template <class Valid, class Broken>
absl::Status ForEachRun(std::string_view text, Valid valid, Broken broken) {
  while (!text.empty()) {
    const size_t good = ValidUtf8Prefix(text);
    if (good > 0) TANREN_RETURN_IF_ERROR(valid(text.substr(0, good)));
    text.remove_prefix(good);
    size_t bad = 0;
    while (bad < text.size() && DecodeUtf8(text, bad).bytes == 0) ++bad;
    if (bad > 0) broken(text.substr(0, bad));
    text.remove_prefix(bad);
  }
  return absl::OkStatus();
}

}  // namespace

struct BpeTokenizer::Impl {
  explicit Impl(BpeDefinition d) : definition(std::move(d)), table(definition.merges.size()) {}

  BpeDefinition definition;
  MergeTable table;
  int32_t byte_ids[256];
  std::vector<SplitPattern> patterns;
  absl::flat_hash_map<std::string, int32_t> whole_tokens;  // only for ignore_merges
  bool cuttable = false;

  std::mutex mutex;
  std::vector<std::unique_ptr<EncodeScratch>> pool;

  absl::Status Build();
  absl::Status AddMerges(const absl::flat_hash_map<absl::string_view, int32_t>& ids);
  void EncodePiece(std::string_view piece, EncodeScratch* scratch, std::vector<int32_t>* ids) const;
  absl::Status EncodeValid(std::string_view text, size_t pattern, EncodeScratch* scratch,
                           std::vector<int32_t>* ids) const;

  std::unique_ptr<EncodeScratch> Take() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (!pool.empty()) {
        std::unique_ptr<EncodeScratch> scratch = std::move(pool.back());
        pool.pop_back();
        return scratch;
      }
    }
    return std::make_unique<EncodeScratch>();
  }
  void Return(std::unique_ptr<EncodeScratch> scratch) {
    std::lock_guard<std::mutex> lock(mutex);
    pool.push_back(std::move(scratch));
  }
};

absl::Status BpeTokenizer::Impl::Build() {
  std::vector<bool> special(definition.tokens.size(), false);
  for (const SpecialToken& token : definition.specials) {
    if (token.id >= 0 && token.id < special.size()) special[token.id] = true;
  }
  absl::flat_hash_map<absl::string_view, int32_t> ids;
  for (size_t id = 0; id < definition.tokens.size(); ++id) {
    if (special[id]) continue;
    const std::string& token = definition.tokens[id];
    if (token.empty()) return InvalidInput("token %d is empty", id);
    const auto [found, inserted] = ids.emplace(token, static_cast<int32_t>(id));
    if (!inserted) return InvalidInput("tokens %d and %d are both %s", found->second, id, Quoted(token));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    const auto found = ids.find(absl::string_view(&text, 1));
    if (found == ids.end()) {
      return InvalidInput("byte 0x%02x is no token: text with it could not be encoded", byte);
    }
    byte_ids[byte] = found->second;
  }
  TANREN_RETURN_IF_ERROR(AddMerges(ids));
  cuttable = !definition.add_prefix_space && definition.split_patterns.size() == 1 &&
             IsPublishedPattern(definition.split_patterns[0]);
  for (const std::string& pattern : definition.split_patterns) {
    TANREN_ASSIGN_OR_RETURN(SplitPattern compiled, SplitPattern::Compile(pattern));
    patterns.push_back(std::move(compiled));
  }
  if (definition.ignore_merges)
    for (const auto& [token, id] : ids) whole_tokens.emplace(token, id);
  return absl::OkStatus();
}

absl::Status BpeTokenizer::Impl::AddMerges(const absl::flat_hash_map<absl::string_view, int32_t>& ids) {
  const int64_t size = static_cast<int64_t>(definition.tokens.size());
  for (size_t rank = 0; rank < definition.merges.size(); ++rank) {
    const auto [left, right] = definition.merges[rank];
    if (left < 0 || left >= size || right < 0 || right >= size) {
      return InvalidInput("merge %d joins ids %d and %d of a vocabulary of %d", rank, left, right, size);
    }
    const std::string product = absl::StrCat(definition.tokens[left], definition.tokens[right]);
    const auto found = ids.find(product);
    if (found == ids.end()) {
      return InvalidInput("merge %d joins %s and %s, but %s is not in the vocabulary", rank,
                          Quoted(definition.tokens[left]), Quoted(definition.tokens[right]), Quoted(product));
    }
    if (!table.Insert(left, right, {static_cast<uint32_t>(rank), found->second})) {
      return InvalidInput("merge %d joins %s and %s as an earlier merge does", rank,
                          Quoted(definition.tokens[left]), Quoted(definition.tokens[right]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BpeTokenizer>> BpeTokenizer::Create(BpeDefinition definition) {
  auto impl = std::make_unique<Impl>(std::move(definition));
  TANREN_RETURN_IF_ERROR(impl->Build());
  std::unique_ptr<BpeTokenizer> tokenizer(new BpeTokenizer(std::move(impl)));
  const BpeDefinition& kept = tokenizer->definition();
  TANREN_RETURN_IF_ERROR(tokenizer->SetSpecials(kept.specials, kept.roles));
  return tokenizer;
}

BpeTokenizer::BpeTokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BpeTokenizer::~BpeTokenizer() = default;

const BpeDefinition& BpeTokenizer::definition() const { return impl_->definition; }
int64_t BpeTokenizer::vocab_size() const { return static_cast<int64_t>(impl_->definition.tokens.size()); }

void BpeTokenizer::Impl::EncodePiece(std::string_view piece, EncodeScratch* scratch,
                                     std::vector<int32_t>* ids) const {
  if (scratch->cache.Find(piece, ids)) return;
  const size_t before = ids->size();
  const auto whole = definition.ignore_merges ? whole_tokens.find(View(piece)) : whole_tokens.end();
  if (whole != whole_tokens.end()) {
    ids->push_back(whole->second);
  } else {
    MergePiece(table, byte_ids, piece, &scratch->merge, ids);
  }
  scratch->cache.Insert(piece, ids->data() + before, ids->size() - before);
}

absl::Status BpeTokenizer::Impl::EncodeValid(std::string_view text, size_t pattern, EncodeScratch* scratch,
                                             std::vector<int32_t>* ids) const {
  if (pattern == patterns.size()) {
    EncodePiece(text, scratch, ids);
    return absl::OkStatus();
  }
  if (pattern + 1 == patterns.size()) {
    return patterns[pattern].Split(text, &scratch->split,
                                   [&](std::string_view piece) { EncodePiece(piece, scratch, ids); });
  }
  // The match state is reused by the inner patterns, so the pieces of an outer one are gathered first.
  std::vector<std::string_view> pieces;
  TANREN_RETURN_IF_ERROR(patterns[pattern].Split(text, &scratch->split,
                                                 [&](std::string_view piece) { pieces.push_back(piece); }));
  for (const std::string_view piece : pieces) {
    TANREN_RETURN_IF_ERROR(EncodeValid(piece, pattern + 1, scratch, ids));
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::EncodeTo(std::string_view text, std::vector<int32_t>* ids) const {
  if (text.size() >= (size_t{1} << 31)) {
    return InvalidInput("a text of %d bytes; one call encodes less than 2 GiB", text.size());
  }
  const size_t before = ids->size();
  std::string prefixed;
  if (impl_->definition.add_prefix_space && !text.empty() && text[0] != ' ') {
    prefixed = absl::StrCat(" ", View(text));
    text = prefixed;
  }
  std::unique_ptr<EncodeScratch> scratch = impl_->Take();
  const absl::Status status = ForEachRun(
      text,
      [&](std::string_view run) -> absl::Status {
        if (!impl_->definition.normalise_nfc || IsAscii(run))
          return impl_->EncodeValid(run, 0, scratch.get(), ids);
        TANREN_ASSIGN_OR_RETURN(const std::string normal, NormaliseNfc(run));
        return impl_->EncodeValid(normal, 0, scratch.get(), ids);
      },
      [&](std::string_view run) { impl_->EncodePiece(run, scratch.get(), ids); });
  impl_->Return(std::move(scratch));
  if (!status.ok()) ids->resize(before);
  return status;
}

std::string BpeTokenizer::DecodeToken(int32_t id) const {
  return id >= 0 && id < vocab_size() ? impl_->definition.tokens[id] : std::string();
}

size_t BpeTokenizer::LastCut(std::string_view text) const {
  return impl_->cuttable ? LastSplitBoundary(text) : 0;
}

absl::Status BpeTokenizer::Save(const std::string& directory) const {
  return WriteHuggingFaceTokenizer(impl_->definition, directory);
}

void BpeTokenizer::HashContent(Sha256* hash) const {
  const BpeDefinition& d = impl_->definition;
  for (const std::string& token : d.tokens) hash->UpdateField(token);
  hash->UpdateNumber(static_cast<int64_t>(d.merges.size()));
  for (const auto& [left, right] : d.merges) {
    hash->UpdateNumber(left);
    hash->UpdateNumber(right);
  }
  hash->UpdateNumber(static_cast<int64_t>(d.split_patterns.size()));
  for (const std::string& pattern : d.split_patterns) hash->UpdateField(pattern);
  hash->UpdateNumber(d.normalise_nfc << 2 | d.add_prefix_space << 1 | static_cast<int>(d.ignore_merges));
}

}  // namespace tanren
