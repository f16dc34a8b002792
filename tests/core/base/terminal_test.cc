#include "core/base/terminal.h"

#include "gtest/gtest.h"

namespace tanren {
namespace {

TEST(ForTerminal, EscapesWhatCommandsATerminal) {
  EXPECT_EQ(ForTerminal("a\x1b[31mb\a\x7f"), "a\\x1b[31mb\\x07\\x7f");
  EXPECT_EQ(ForTerminal(std::string_view("\0\r\t", 3)), "\\x00\\x0d\\x09");
  EXPECT_EQ(ForTerminal("\xc2\x9b"
                        "31m"),
            "\\xc2\\x9b31m");
}

TEST(ForTerminal, LeavesTextAndLines) {
  for (const char* text : {"", "two\nlines\n", "鍛錬", "caf\xc3\xa9 \xc2\xa9", "half a character: \xc2"}) {
    EXPECT_EQ(ForTerminal(text), text);
  }
}

}  // namespace
}  // namespace tanren
