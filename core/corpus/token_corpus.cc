#include "core/corpus/token_corpus.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/corpus/corpus_writer.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

constexpr int64_t kManifestBytes = int64_t{64} << 20;

// A whole file, mapped read-only.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  }

  static absl::StatusOr<Mapping> Open(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return InvalidInput("cannot open: %s", std::strerror(errno));
    struct stat info;
    Mapping mapping;
    absl::Status status;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
      status = InvalidInput("not a regular file");
    } else if (info.st_size < kShardTokensOffset) {
      status = InvalidInput("the file has %d bytes, less than a header: truncated", info.st_size);
    } else {
      void* data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, fd, 0);
      if (data == MAP_FAILED) {
        status = InvalidInput("cannot map %d bytes: %s", info.st_size, std::strerror(errno));
      } else {
        mapping.data_ = data;
        mapping.bytes_ = info.st_size;
      }
    }
    close(fd);
    if (!status.ok()) return status;
    return mapping;
  }

  const unsigned char* data() const { return static_cast<const unsigned char*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Widens ids; the largest of them is checked once, at the end.
template <class Token>
uint32_t Widen(const void* tokens, int64_t begin, int64_t count, int32_t* out) {
  const Token* from = static_cast<const Token*>(tokens) + begin;
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max<uint32_t>(largest, from[i]);
    out[i] = static_cast<int32_t>(from[i]);
  }
  return largest;
}

}  // namespace

struct TokenCorpus::Shard {
  std::string path;
  Mapping mapping;
  ShardHeader header;

  const void* tokens() const { return mapping.data() + kShardTokensOffset; }
  absl::Span<const int64_t> documents() const {
    return absl::Span<const int64_t>(
        reinterpret_cast<const int64_t*>(mapping.data() + header.documents_offset),
        static_cast<size_t>(header.documents));
  }
  absl::Status Read(int64_t begin, int64_t count, int32_t* out) const {
    const uint32_t largest = header.token_bytes == 2 ? Widen<uint16_t>(tokens(), begin, count, out)
                                                     : Widen<uint32_t>(tokens(), begin, count, out);
    if (largest < header.vocab_size) return absl::OkStatus();
    for (int64_t i = 0; i < count; ++i) {
      if (static_cast<uint32_t>(out[i]) < header.vocab_size) continue;
      return InvalidInput("%s: token %d of the shard is %d, but ids are 0 to %d: the shard is damaged", path,
                          begin + i, static_cast<uint32_t>(out[i]), header.vocab_size - 1);
    }
    return absl::OkStatus();
  }
  absl::Status CheckDocuments(int64_t previous) const;
  // What is neither header, tokens nor index holds zeros.
  bool PaddingIsClean() const {
    const auto zero = [](unsigned char byte) { return byte == 0; };
    const unsigned char* file = mapping.data();
    const int64_t tokens_end = kShardTokensOffset + header.tokens * header.token_bytes;
    return std::all_of(file + kShardHeaderBytes, file + kShardTokensOffset, zero) &&
           std::all_of(file + tokens_end, file + header.documents_offset, zero);
  }
};

TokenCorpus::~TokenCorpus() = default;

absl::StatusOr<std::unique_ptr<TokenCorpus>> TokenCorpus::Open(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kManifestFile);
  if (access(path.c_str(), F_OK) != 0) {
    return InvalidInput("%s: no %s here, so this is not a token corpus; make one with `tanren data tokenize`",
                        directory, kManifestFile);
  }
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kManifestBytes));
  std::unique_ptr<TokenCorpus> corpus(new TokenCorpus());
  TANREN_ASSIGN_OR_RETURN(corpus->manifest_, ParseManifest(text, path));
  corpus->directory_ = directory;
  for (const CorpusManifest::Shard& shard : corpus->manifest_.shards)
    TANREN_RETURN_IF_ERROR(corpus->AddShard(shard));
  return corpus;
}

absl::Status TokenCorpus::AddShard(const CorpusManifest::Shard& entry) {
  Shard shard;
  shard.path = absl::StrCat(directory_, "/", entry.file);
  absl::StatusOr<Mapping> mapping = Mapping::Open(shard.path);
  if (!mapping.ok()) return At(shard.path, mapping.status());
  shard.mapping = *std::move(mapping);
  unsigned char bytes[kShardHeaderBytes];
  std::memcpy(bytes, shard.mapping.data(), sizeof(bytes));
  absl::StatusOr<ShardHeader> header = DecodeShardHeader(bytes, shard.mapping.bytes());
  if (!header.ok()) return At(shard.path, header.status());
  shard.header = *header;

  const int64_t tokens_before =
      shards_.empty() ? 0 : shards_.back().header.first_token + shards_.back().header.tokens;
  const int64_t documents_before =
      shards_.empty() ? 0 : shards_.back().header.first_document + shards_.back().header.documents;
  if (header->vocab_size != manifest_.vocab_size || header->tokens != entry.tokens ||
      header->documents != entry.documents || header->first_token != tokens_before ||
      header->first_document != documents_before) {
    return InvalidInput(
        "%s: the shard does not fit its place in %s: a shard of another corpus, or two were swapped",
        shard.path, kManifestFile);
  }
  const int64_t previous = shards_.empty() ? -1 : tokens_before - 1;
  if (absl::Status status = shard.CheckDocuments(previous); !status.ok()) return At(shard.path, status);
  shards_.push_back(std::move(shard));
  return absl::OkStatus();
}

// The first document of the corpus begins at token 0; each begins behind the one before it, within the shard.
absl::Status TokenCorpus::Shard::CheckDocuments(int64_t previous) const {
  const absl::Span<const int64_t> begins = documents();
  if (Crc32c(0, begins.data(), header.documents * 8) != header.documents_crc32c) {
    return InvalidInput("the document index is damaged: its checksum does not match");
  }
  if (header.first_token == 0 && (begins.empty() || begins[0] != 0)) {
    return InvalidInput("the first document does not begin at token 0");
  }
  for (size_t i = 0; i < begins.size(); ++i) {
    if (begins[i] <= previous || begins[i] >= header.first_token + header.tokens) {
      return InvalidInput("document %d begins at token %d, out of order or outside of the shard",
                          header.first_document + static_cast<int64_t>(i), begins[i]);
    }
    previous = begins[i];
  }
  return absl::OkStatus();
}

absl::Status TokenCorpus::Read(int64_t offset, absl::Span<int32_t> out) const {
  auto count = static_cast<int64_t>(out.size());
  if (offset < 0 || count > num_tokens() || offset > num_tokens() - count) {
    return InvalidInput("%s: %d tokens from offset %d of a corpus of %d", directory_, count, offset,
                        num_tokens());
  }
  if (count == 0) return absl::OkStatus();
  auto shard = std::upper_bound(shards_.begin(), shards_.end(), offset,
                                [](int64_t value, const Shard& s) { return value < s.header.first_token; }) -
               1;
  int32_t* to = out.data();
  while (count > 0) {
    const int64_t begin = offset - shard->header.first_token;
    const int64_t part = std::min(count, shard->header.tokens - begin);
    TANREN_RETURN_IF_ERROR(shard->Read(begin, part, to));
    to += part;
    offset += part;
    count -= part;
    ++shard;
  }
  return absl::OkStatus();
}

// Several shards may have the same first document where one begins in none of them; the last of them has it.
const TokenCorpus::Shard& TokenCorpus::ShardOfDocument(int64_t document) const {
  return *(std::upper_bound(shards_.begin(), shards_.end(), document,
                            [](int64_t value, const Shard& s) { return value < s.header.first_document; }) -
           1);
}

int64_t TokenCorpus::DocumentBegin(int64_t document) const {
  if (document == num_documents()) return num_tokens();
  TANREN_CHECK(document >= 0 && document < num_documents());
  const Shard* shard = &ShardOfDocument(document);
  while (shard->header.documents == 0) --shard;
  return shard->documents()[static_cast<size_t>(document - shard->header.first_document)];
}

int64_t TokenCorpus::DocumentContaining(int64_t offset) const {
  TANREN_CHECK(offset >= 0 && offset < num_tokens());
  const auto shard =
      std::upper_bound(shards_.begin(), shards_.end(), offset,
                       [](int64_t value, const Shard& s) { return value < s.header.first_token; }) -
      1;
  const absl::Span<const int64_t> begins = shard->documents();
  const int64_t begun = std::upper_bound(begins.begin(), begins.end(), offset) - begins.begin();
  return shard->header.first_document + begun - 1;
}

absl::Status TokenCorpus::Verify() const {
  Sha256 token_hash;
  Sha256 document_hash;
  std::vector<int32_t> ids(1 << 20);
  for (const Shard& shard : shards_) {
    const int64_t bytes = shard.header.tokens * shard.header.token_bytes;
    if (Crc32c(0, shard.tokens(), bytes) != shard.header.tokens_crc32c) {
      return InvalidInput("%s: the tokens are damaged: their checksum does not match", shard.path);
    }
    if (!shard.PaddingIsClean()) return InvalidInput("%s: bytes between the tables are not zero", shard.path);
    token_hash.Update(shard.tokens(), static_cast<size_t>(bytes));
    document_hash.Update(shard.documents().data(), shard.documents().size() * 8);
    for (int64_t begin = 0; begin < shard.header.tokens; begin += static_cast<int64_t>(ids.size())) {
      const int64_t part = std::min<int64_t>(shard.header.tokens - begin, ids.size());
      TANREN_RETURN_IF_ERROR(shard.Read(begin, part, ids.data()));
    }
  }
  if (ContentHash(std::move(token_hash), std::move(document_hash), num_tokens(), vocab_size()) !=
      manifest_.content_hash) {
    return InvalidInput("%s: the content hash does not match %s", directory_, kManifestFile);
  }
  return absl::OkStatus();
}

}  // namespace tanren
