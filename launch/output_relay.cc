#include "launch/output_relay.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace tanren {

OutputRelay::OutputRelay(int target) : target_(target) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) return;
  read_end_ = Descriptor(ends[0]);
  write_end_ = Descriptor(ends[1]);
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

bool OutputRelay::Needs(int target) {
  struct stat info = {};
  return fstat(target, &info) == 0 && S_ISFIFO(info.st_mode);
}

void OutputRelay::AddTo(std::vector<pollfd>* sources) const {
  if (open_ && pending_.empty()) sources->push_back({read_end_.get(), POLLIN, 0});
  const short wanted = pending_.empty() ? 0 : POLLOUT;  // POLLERR is always told
  if (!unread_) sources->push_back({target_, wanted, 0});
}

// True if something is there to be written. At most PIPE_BUF bytes: those a pipe that is ready takes whole,
// without blocking.
bool OutputRelay::Fill() {
  if (!pending_.empty()) return true;
  char text[PIPE_BUF];
  const ssize_t count = read(read_end_.get(), text, sizeof(text));
  if (count > 0) pending_.assign(text, static_cast<size_t>(count));
  if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) open_ = false;
  return count > 0;
}

bool OutputRelay::Move() {
  const bool was_unread = unread_;
  constexpr int kRounds = 64;  // signals wait meanwhile
  for (int round = 0; round < kRounds; ++round) {
    pollfd target{target_, POLLOUT, 0};
    if (!unread_ && poll(&target, 1, 0) > 0) unread_ = (target.revents & (POLLERR | POLLNVAL)) != 0;
    if (!Fill()) break;
    if (unread_) {
      pending_.clear();
      continue;
    }
    if ((target.revents & POLLOUT) == 0) break;
    const ssize_t count = write(target_, pending_.data(), pending_.size());
    if (count > 0) pending_.erase(0, static_cast<size_t>(count));
    if (count < 0 && errno == EPIPE) unread_ = true;
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
  }
  return unread_ && !was_unread;
}

}  // namespace tanren
