#include "launch/input_lines.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tanren {

std::optional<std::string> InputLines::Next(const std::function<bool()>& cancelled) {
  constexpr int kPollMilliseconds = 100;
  while (true) {
    if (cancelled()) return std::nullopt;
    const size_t end = buffer_.find('\n');
    if (end != std::string::npos || (ended_ && !buffer_.empty()) || buffer_.size() >= kMaxBytes) {
      std::string line = buffer_.substr(0, std::min(end, kMaxBytes));
      buffer_.erase(0, end == line.size() ? end + 1 : line.size());
      return line;
    }
    if (ended_) return std::nullopt;
    pollfd source{fd_, POLLIN, 0};
    if (poll(&source, 1, kPollMilliseconds) <= 0) continue;
    char text[4096];
    const ssize_t count = read(fd_, text, sizeof(text));
    if (count > 0) buffer_.append(text, static_cast<size_t>(count));
    ended_ |= count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
  }
}

}  // namespace tanren
