#include "core/corpus/input_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/activity/activity.h"
#include "core/base/sha256.h"
#include "core/base/status.h"

namespace tanren {
namespace {

constexpr int64_t kBlockBytes = 1 << 20;
constexpr int kMaxZstdWindowLog = 27;  // 128 MiB, what `zstd -d` allows without being asked for more

class PlainStream : public InputStream {
 public:
  PlainStream(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~PlainStream() override { close(fd_); }

  absl::StatusOr<int64_t> Read(char* to, int64_t limit) override {
    while (true) {
      const ssize_t got = read(fd_, to, static_cast<size_t>(limit));
      Activity::Own().Tick();
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return InvalidInput("%s: cannot read: %s", path_, std::strerror(errno));
      read_ += got;
      return got;
    }
  }
  int64_t file_bytes_read() const override { return read_; }
  const std::string& path() const { return path_; }
  int fd() const { return fd_; }

 private:
  std::string path_;
  int fd_;
  int64_t read_ = 0;
};

// What both decompressors share: compressed bytes come in blocks.
class CompressedStream : public InputStream {
 public:
  explicit CompressedStream(std::unique_ptr<PlainStream> file)
      : file_(std::move(file)), block_(kBlockBytes) {}
  int64_t file_bytes_read() const override { return file_->file_bytes_read(); }

 protected:
  // False at the end of the file.
  absl::StatusOr<bool> Refill() {
    TANREN_ASSIGN_OR_RETURN(available_, file_->Read(block_.data(), kBlockBytes));
    next_ = block_.data();
    return available_ > 0;
  }
  absl::Status Damaged(const char* what) const {
    return InvalidInput("%s: damaged before byte %d of the compressed file: %s", file_->path(),
                        file_->file_bytes_read(), what);
  }

  std::unique_ptr<PlainStream> file_;
  std::vector<char> block_;
  char* next_ = nullptr;
  int64_t available_ = 0;
};

class GzipStream : public CompressedStream {
 public:
  explicit GzipStream(std::unique_ptr<PlainStream> file) : CompressedStream(std::move(file)) {
    TANREN_CHECK(inflateInit2(&z_, 15 + 16) == Z_OK);
  }
  ~GzipStream() override { inflateEnd(&z_); }

  absl::StatusOr<int64_t> Read(char* to, int64_t limit) override {
    limit = std::min(limit, kBlockBytes);
    z_.next_out = reinterpret_cast<Bytef*>(to);
    z_.avail_out = static_cast<uInt>(limit);
    while (z_.avail_out == limit) {
      if (available_ == 0) {
        TANREN_ASSIGN_OR_RETURN(const bool more, Refill());
        if (!more && in_member_) return Damaged("it ends early");
        if (!more) return 0;
      }
      if (!in_member_) {  // files may be several gzip members behind one another
        in_member_ = true;
        inflateReset(&z_);
      }
      z_.next_in = reinterpret_cast<Bytef*>(next_);
      z_.avail_in = static_cast<uInt>(available_);
      const int result = inflate(&z_, Z_NO_FLUSH);
      next_ = reinterpret_cast<char*>(z_.next_in);
      available_ = z_.avail_in;
      if (result == Z_STREAM_END) {
        in_member_ = false;
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        return Damaged(z_.msg != nullptr ? z_.msg : "not gzip");
      }
    }
    return limit - z_.avail_out;
  }

 private:
  z_stream z_{};
  bool in_member_ = false;
};

class ZstdStream : public CompressedStream {
 public:
  explicit ZstdStream(std::unique_ptr<PlainStream> file)
      : CompressedStream(std::move(file)), z_(ZSTD_createDCtx()) {
    TANREN_CHECK(z_ != nullptr);
    ZSTD_DCtx_setParameter(z_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }

  absl::StatusOr<int64_t> Read(char* to, int64_t limit) override {
    ZSTD_outBuffer out{to, static_cast<size_t>(limit), 0};
    while (out.pos == 0) {
      if (available_ == 0 && !flushing_) {
        TANREN_ASSIGN_OR_RETURN(const bool more, Refill());
        if (!more && in_frame_) return Damaged("it ends early");
        if (!more) return 0;
      }
      ZSTD_inBuffer in{next_, static_cast<size_t>(available_), 0};
      const size_t result = ZSTD_decompressStream(z_.get(), &out, &in);
      if (ZSTD_isError(result)) return Damaged(ZSTD_getErrorName(result));
      next_ += in.pos;
      available_ -= static_cast<int64_t>(in.pos);
      in_frame_ = result != 0;
      // The decoder may hold more than there was room for, but not of a frame that has ended: asked again
      // without input it would begin another.
      flushing_ = result != 0 && out.pos == out.size;
    }
    return static_cast<int64_t>(out.pos);
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> z_;
  bool in_frame_ = false;
  bool flushing_ = false;
};

absl::StatusOr<std::unique_ptr<PlainStream>> OpenPlain(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return InvalidInput("%s: cannot open: %s", path, std::strerror(errno));
  auto file = std::make_unique<PlainStream>(path, fd);
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return InvalidInput("%s: not a regular file", path);
  return file;
}

}  // namespace

absl::StatusOr<FileDigest> DigestFile(const std::string& path,
                                      absl::FunctionRef<void(int64_t bytes)> progress) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<PlainStream> file, OpenPlain(path));
  std::vector<char> block(kBlockBytes);
  Sha256 hash;
  while (true) {
    TANREN_ASSIGN_OR_RETURN(const int64_t got, file->Read(block.data(), kBlockBytes));
    if (got == 0) break;
    hash.Update(block.data(), static_cast<size_t>(got));
    progress(file->file_bytes_read());
  }
  return FileDigest{hash.HexDigest(), file->file_bytes_read()};
}

absl::StatusOr<std::unique_ptr<InputStream>> InputStream::Open(const std::string& path) {
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<PlainStream> file, OpenPlain(path));
  unsigned char magic[4] = {};
  const ssize_t got = pread(file->fd(), magic, sizeof(magic), 0);
  if (got >= 2 && magic[0] == 0x1F && magic[1] == 0x8B)
    return std::unique_ptr<InputStream>(std::make_unique<GzipStream>(std::move(file)));
  if (got == 4 && std::memcmp(magic, "\x28\xB5\x2F\xFD", 4) == 0) {
    return std::unique_ptr<InputStream>(std::make_unique<ZstdStream>(std::move(file)));
  }
  return std::unique_ptr<InputStream>(std::move(file));
}

LineReader::LineReader(std::unique_ptr<InputStream> stream, int64_t line_limit_bytes)
    : stream_(std::move(stream)), line_limit_bytes_(line_limit_bytes) {}

absl::Status LineReader::Fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t before = buffer_.size();
  buffer_.resize(before + kBlockBytes);
  TANREN_ASSIGN_OR_RETURN(const int64_t got, stream_->Read(buffer_.data() + before, kBlockBytes));
  buffer_.resize(before + static_cast<size_t>(got));
  at_end_ = got == 0;
  return absl::OkStatus();
}

absl::StatusOr<bool> LineReader::Next(Line* line) {
  line->number = ++number_;
  line->too_long = false;
  line->text = {};
  size_t searched = begin_;
  while (true) {
    const size_t feed = buffer_.find('\n', searched);
    const bool whole = feed != std::string::npos;
    const size_t end = whole ? feed + 1 : buffer_.size();
    if (static_cast<int64_t>(end - begin_) > line_limit_bytes_) line->too_long = true;
    if (whole || (at_end_ && (end > begin_ || line->too_long))) {
      if (!line->too_long) line->text = std::string_view(buffer_).substr(begin_, end - begin_);
      begin_ = end;
      return true;
    }
    if (at_end_) return false;
    if (line->too_long) begin_ = buffer_.size();  // what will not be given out is not kept
    searched = buffer_.size() - begin_;
    TANREN_RETURN_IF_ERROR(Fill());
  }
}

}  // namespace tanren
