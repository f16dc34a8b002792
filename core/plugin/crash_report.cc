#include "core/plugin/crash_report.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace tanren {
namespace {

constexpr int kWrongInput = 2;
char message[1024];  // read by the handler

// Only what is allowed in a signal handler.
void Handle(int signal) {
  char number[] = " (signal 00)\n";
  number[9] = static_cast<char>('0' + signal / 10);
  number[10] = static_cast<char>('0' + signal % 10);
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, message, std::strlen(message));
  written = write(STDERR_FILENO, number, sizeof(number) - 1);
  _exit(kWrongInput);
}

}  // namespace

CrashReport::CrashReport(const std::string& what) {
  const std::string text = "error: " + what + " crashed";
  std::strncpy(message, text.c_str(), sizeof(message) - 1);
  struct sigaction action = {};
  action.sa_handler = Handle;
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &former_[i]);
}

CrashReport::~CrashReport() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &former_[i], nullptr);
}

}  // namespace tanren
