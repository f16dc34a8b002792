#include "core/report/html_escape.h"

#include "core/config/text.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

TEST(HtmlEscape, MarkupBecomesText) {
  EXPECT_EQ(HtmlText("</script><img src=x onerror='alert(\"1\")'>&amp;"),
            "&lt;/script&gt;&lt;img src=x onerror=&#39;alert(&quot;1&quot;)&#39;&gt;&amp;amp;");
  EXPECT_EQ(HtmlText("7 + 5 = ? é 日本 🙂"), "7 + 5 = ? é 日本 🙂");
}

TEST(HtmlEscape, WhatCannotBeSeenIsShown) {
  EXPECT_EQ(HtmlText(std::string_view("a\0b\x1b[31m\r\t\x7f", 9)), "a\\x00b\\x1b[31m\\r");
  EXPECT_EQ(HtmlText("\t\x7f"), "\\t\\x7f");
  EXPECT_EQ(HtmlText("evil\u202egnp.exe \u200b"), "evil\\u202egnp.exe \\u200b");
  EXPECT_EQ(HtmlText("a\nb"), "a\\nb");
  EXPECT_EQ(HtmlLines("a\nb\r\n<"), "a\nb\\r\n&lt;");
}

TEST(HtmlEscape, BytesThatAreNotUtf8AreReplaced) {
  EXPECT_EQ(HtmlText("a\xff\xc3(\xed\xa0\x80z\xe6\x97"), "a\uFFFD\uFFFD(\uFFFD\uFFFD\uFFFDz\uFFFD\uFFFD");
  EXPECT_EQ(config::FirstInvalidUtf8(HtmlText(std::string(1000, '\xff'))), std::string_view::npos);
}

TEST(HtmlEscape, LongTextIsCutAtACharacter) {
  EXPECT_EQ(HtmlText("abcdef", 6), "abcdef");
  EXPECT_EQ(HtmlText("abcdefg", 6), "abcdef... (7 bytes)");
  // The character that begins before the limit is whole, at every place of the limit in it.
  for (size_t limit = 1; limit <= 3; ++limit) EXPECT_EQ(HtmlText("日本語", limit), "日... (9 bytes)");
  EXPECT_EQ(HtmlText("日本語", 4), "日本... (9 bytes)");
}

}  // namespace
}  // namespace tanren
