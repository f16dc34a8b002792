// The terminal or the file behind standard output: whole lines, and, on a terminal only, one line at the
// bottom that is drawn over again (a bar).
#ifndef TANREN_CORE_REPORT_CONSOLE_H_
#define TANREN_CORE_REPORT_CONSOLE_H_

#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace tanren {

// Thread-safe. Each line is one write, so lines of several processes do not mix.
//
// Text is written as it is: text that comes from outside goes through config::Printable first. Output that
// fails (a closed pipe, a full disk) is lost without an error: it must not end a run.
class Console {
 public:
  // `fd` is not owned. Whether it is a terminal is looked at once.
  explicit Console(int fd);
  // The same, with a terminal's width and behaviour decided by the caller. `columns` 0: not a terminal.
  Console(int fd, int columns) : fd_(fd), is_terminal_(columns > 0), fixed_columns_(columns) {}
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // The process's own, on standard output.
  static Console& Standard();

  bool is_terminal() const { return is_terminal_; }

  // One or more whole lines, above the bar.
  void Print(std::string_view text);

  // Draws `text`, cut to the terminal's width, as the bar. Nothing where there is no terminal.
  void DrawBar(std::string_view text);
  void ClearBar();

  // Runs `write`, which puts lines on the same screen by another way (standard error), with the bar out of
  // the way.
  void AroundBar(const std::function<void()>& write);

 private:
  int Columns() const;
  void Erase();
  void Write(std::string_view text);

  const int fd_;
  bool is_terminal_ = false;
  int fixed_columns_ = 0;
  std::mutex mutex_;
  std::string bar_;  // what is drawn now
};

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_CONSOLE_H_
