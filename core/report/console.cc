#include "core/report/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace tanren {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";

// The longest beginning of UTF-8 `text` that takes at most `columns` characters.
std::string_view Cut(std::string_view text, int columns) {
  size_t end = 0;
  for (int used = 0; end < text.size(); ++end) {
    const bool starts_character = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (starts_character && used++ == columns) break;
  }
  return text.substr(0, end);
}

bool CanErase() {
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

}  // namespace

Console::Console(int fd) : fd_(fd), is_terminal_(isatty(fd) == 1 && CanErase()) {}

Console& Console::Standard() {
  static Console console(STDOUT_FILENO);
  return console;
}

int Console::Columns() const {
  if (fixed_columns_ > 0) return fixed_columns_;
  winsize size{};
  if (ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

void Console::Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(fd_, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

void Console::Erase() {
  if (!bar_.empty()) Write(kEraseLine);
}

void Console::Print(std::string_view text) {
  const std::lock_guard lock(mutex_);
  std::string out;
  if (!bar_.empty()) out += kEraseLine;
  out += text;
  if (text.empty() || text.back() != '\n') out += '\n';
  out += bar_;
  Write(out);
}

void Console::DrawBar(std::string_view text) {
  if (!is_terminal_) return;
  const std::lock_guard lock(mutex_);
  // The last column stays free: a character in it makes some terminals wrap.
  bar_ = Cut(text, std::max(1, Columns() - 1));
  Write(std::string(kEraseLine) + bar_);
}

void Console::ClearBar() {
  const std::lock_guard lock(mutex_);
  Erase();
  bar_.clear();
}

void Console::AroundBar(const std::function<void()>& write) {
  const std::lock_guard lock(mutex_);
  Erase();
  write();
  Write(bar_);
}

}  // namespace tanren
