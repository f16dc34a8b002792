#include "core/corpus/corpus_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/status.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

constexpr size_t kBufferBytes = 4 << 20;

}  // namespace

std::string ContentHash(Sha256 tokens, Sha256 documents, int64_t num_tokens, int64_t vocab_size) {
  Sha256 hash;
  hash.UpdateField("tanren tokens 1");
  hash.UpdateField(tokens.HexDigest());
  hash.UpdateField(documents.HexDigest());
  hash.UpdateNumber(num_tokens);
  hash.UpdateNumber(vocab_size);
  return hash.HexDigest();
}

CorpusWriter::CorpusWriter(std::string directory, const Tokenizer& tokenizer, int64_t shard_tokens)
    : directory_(std::move(directory)), shard_tokens_(shard_tokens) {
  manifest_.tokenizer_kind = tokenizer.kind();
  manifest_.tokenizer_hash = tokenizer.Hash();
  manifest_.vocab_size = tokenizer.vocab_size();
}

CorpusWriter::~CorpusWriter() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::unique_ptr<CorpusWriter>> CorpusWriter::Create(const std::string& directory,
                                                                   const Tokenizer& tokenizer,
                                                                   int64_t shard_tokens) {
  if (shard_tokens < 1) return InvalidInput("shards of %d tokens", shard_tokens);
  std::unique_ptr<CorpusWriter> writer(new CorpusWriter(directory, tokenizer, shard_tokens));
  TANREN_RETURN_IF_ERROR(tokenizer.Save(directory + "/tokenizer"));
  return writer;
}

absl::Status CorpusWriter::OpenShard() {
  const std::string name = absl::StrFormat("shard-%05d.tokens", manifest_.shards.size());
  shard_path_ = absl::StrCat(directory_, "/", name);
  fd_ = open(shard_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd_ < 0) return InvalidInput("%s: cannot create: %s", shard_path_, std::strerror(errno));
  header_ = ShardHeader();
  header_.token_bytes = TokenBytes(manifest_.vocab_size);
  header_.vocab_size = manifest_.vocab_size;
  header_.first_token = manifest_.tokens;
  header_.first_document = manifest_.documents;
  written_bytes_ = 0;
  document_begins_.clear();
  manifest_.shards.push_back({name, 0, 0});
  return absl::OkStatus();
}

absl::Status CorpusWriter::Append(absl::Span<const int32_t> ids, int64_t text_bytes) {
  manifest_.text_bytes += text_bytes;
  while (!ids.empty()) {
    if (fd_ >= 0 && header_.tokens == shard_tokens_) TANREN_RETURN_IF_ERROR(CloseShard());
    if (fd_ < 0) TANREN_RETURN_IF_ERROR(OpenShard());
    if (!in_document_) {
      in_document_ = true;
      document_begins_.push_back(manifest_.tokens);
      ++manifest_.documents;
      ++header_.documents;
    }
    const int64_t part = std::min<int64_t>(ids.size(), shard_tokens_ - header_.tokens);
    for (int64_t i = 0; i < part; ++i) Buffer(ids[i]);
    header_.tokens += part;
    manifest_.tokens += part;
    ids.remove_prefix(static_cast<size_t>(part));
    if (buffer_.size() >= kBufferBytes) TANREN_RETURN_IF_ERROR(FlushTokens());
  }
  return absl::OkStatus();
}

void CorpusWriter::Buffer(int32_t id) {
  TANREN_CHECK(id >= 0 && id < manifest_.vocab_size);
  for (uint32_t i = 0; i < header_.token_bytes; ++i)
    buffer_.push_back(static_cast<unsigned char>(id >> (8 * i)));
}

void CorpusWriter::EndDocument() { in_document_ = false; }

absl::Status CorpusWriter::FlushTokens() {
  const auto bytes = static_cast<int64_t>(buffer_.size());
  header_.tokens_crc32c = Crc32c(header_.tokens_crc32c, buffer_.data(), bytes);
  token_hash_.Update(buffer_.data(), buffer_.size());
  TANREN_RETURN_IF_ERROR(WriteAt(buffer_.data(), bytes, kShardTokensOffset + written_bytes_));
  written_bytes_ += bytes;
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status CorpusWriter::WriteAt(const void* data, int64_t bytes, int64_t offset) {
  auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = pwrite(fd_, from, static_cast<size_t>(bytes), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return InvalidInput("%s: cannot write: %s", shard_path_, std::strerror(errno));
    from += written;
    offset += written;
    bytes -= written;
  }
  return absl::OkStatus();
}

absl::Status CorpusWriter::CloseShard() {
  TANREN_RETURN_IF_ERROR(FlushTokens());
  SetShardLayout(&header_);
  const auto index_bytes = static_cast<int64_t>(document_begins_.size()) * 8;
  header_.documents_crc32c = Crc32c(0, document_begins_.data(), index_bytes);
  document_hash_.Update(document_begins_.data(), static_cast<size_t>(index_bytes));
  TANREN_RETURN_IF_ERROR(WriteAt(document_begins_.data(), index_bytes, header_.documents_offset));
  // Without an index the file ends at a multiple of 8, which the last token may miss.
  if (ftruncate(fd_, header_.file_bytes) != 0) {
    return InvalidInput("%s: cannot set its size: %s", shard_path_, std::strerror(errno));
  }
  unsigned char bytes[kShardHeaderBytes];
  EncodeShardHeader(header_, bytes);
  TANREN_RETURN_IF_ERROR(WriteAt(bytes, kShardHeaderBytes, 0));
  if (fsync(fd_) != 0) return InvalidInput("%s: cannot write to disk: %s", shard_path_, std::strerror(errno));
  close(std::exchange(fd_, -1));
  manifest_.shards.back().tokens = header_.tokens;
  manifest_.shards.back().documents = header_.documents;
  return absl::OkStatus();
}

absl::StatusOr<CorpusManifest> CorpusWriter::Finish(int32_t bos, int32_t end_of_text) {
  if (manifest_.tokens == 0)
    return absl::NotFoundError(absl::StrCat(directory_, ": there is no text to tokenise"));
  if (fd_ >= 0) TANREN_RETURN_IF_ERROR(CloseShard());
  manifest_.bos = bos;
  manifest_.end_of_text = end_of_text;
  manifest_.content_hash =
      ContentHash(std::move(token_hash_), std::move(document_hash_), manifest_.tokens, manifest_.vocab_size);
  TANREN_RETURN_IF_ERROR(
      WriteSmallFile(absl::StrCat(directory_, "/", kManifestFile), FormatManifest(manifest_)));
  return manifest_;
}

}  // namespace tanren
