// Lines that somebody types.
#ifndef TANREN_LAUNCH_INPUT_LINES_H_
#define TANREN_LAUNCH_INPUT_LINES_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

namespace tanren {

class InputLines {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 20;

  explicit InputLines(int fd) : fd_(fd) {}

  // The next line without its end; the last one need not have any. Nothing at the end of the input, after a
  // failed read, and once `cancelled`, which is asked first and ten times a second while nothing comes, says
  // so. A line of more than kMaxBytes comes in pieces.
  std::optional<std::string> Next(const std::function<bool()>& cancelled);

 private:
  int fd_;
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace tanren

#endif  // TANREN_LAUNCH_INPUT_LINES_H_
