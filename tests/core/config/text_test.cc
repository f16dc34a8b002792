#include "core/config/text.h"

#include <string>

#include "core/config/schema.h"
#include "core/proto/config.pb.h"
#include "gtest/gtest.h"

namespace tanren::config {
namespace {

TEST(Printable, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(Printable("a\nb\tc\x1b[31m\x7f"), "a\\nb\\tc\\x1b[31m\\x7f");
  EXPECT_EQ(Printable("鍛錬"), "鍛錬");
  EXPECT_EQ(Printable("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(Printable("\u202eevil\u200b"), "\\u202eevil\\u200b");
  EXPECT_EQ(Printable(std::string("\0", 1)), "\\x00");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\x9b");
}

TEST(Printable, CutsBetweenCharacters) {
  EXPECT_EQ(Printable(std::string(500, 'x'), 10), "xxxxxxxxxx... (500 bytes)");
  EXPECT_EQ(Printable("鍛錬鍛錬", 7), "鍛錬... (12 bytes)");
  EXPECT_EQ(Printable("xxxx", 4), "xxxx");
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_EQ(FirstInvalidUtf8("abc鍛"), std::string::npos);
  EXPECT_EQ(FirstInvalidUtf8("ab\xed\xa0\x80"), 2);    // a surrogate
  EXPECT_EQ(FirstInvalidUtf8("a\xe0\x80\x80"), 1);     // overlong
  EXPECT_EQ(FirstInvalidUtf8("\xf4\x90\x80\x80"), 0);  // above U+10FFFF
  EXPECT_EQ(FirstInvalidUtf8("abc\xe9\x8d"), 3);       // cut
  EXPECT_EQ(FirstInvalidUtf8("\xf4\x8f\xbf\xbf"), std::string::npos);
}

TEST(EditDistance, CountsEditsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("leraning_rate", "learning_rate"), 1);
}

TEST(SuggestKey, FindsNearAndElsewhere) {
  const auto* root = Config::descriptor();
  EXPECT_EQ(SuggestKey(root, "optimizer", "leraning_rate"), "; did you mean optimizer.learning_rate?");
  EXPECT_EQ(SuggestKey(root, "optimizer", "learning-rate"), "; did you mean optimizer.learning_rate?");
  EXPECT_EQ(SuggestKey(root, "optimizer", "Beta1"), "; did you mean optimizer.beta1?");
  EXPECT_EQ(SuggestKey(root, "optimizer", "beta"),
            "; did you mean optimizer.beta1, optimizer.beta2, preference.beta or rl.kl_coefficient?");
  EXPECT_EQ(SuggestKey(root, "", "modle"), "; did you mean model?");
  EXPECT_EQ(SuggestKey(root, "", "layers"), "; did you mean model.layers?");
  EXPECT_EQ(SuggestKey(root, "optimizer", "steps"), "; did you mean train.steps?");
  EXPECT_EQ(SuggestKey(root, "train", "interval_steps"),
            "; did you mean checkpoint.interval_steps, validation.interval_steps or samples.interval_steps?");
  EXPECT_EQ(SuggestKey(root, "model", "n_embd"), "; did you mean model.width?");
  EXPECT_EQ(SuggestKey(root, "train", "lr"), "; did you mean optimizer.learning_rate?");
  EXPECT_EQ(SuggestKey(root, "data.train.3", "wieght"), "; did you mean data.train.3.weight?");
  EXPECT_EQ(SuggestKey(root, "", "optimizer.beta1"), "; in a file keys are nested: optimizer: {beta1: ...}");
  EXPECT_EQ(SuggestKey(root, "", "zzzzzz"), "");
  EXPECT_EQ(SuggestKey(root, "", std::string(100000, 'a')), "");
}

// Every field says what it is for; the tables and the JSON schema show it.
TEST(Schema, EveryFieldHasHelpAndEveryNumberARange) {
  ForEachField(Config::descriptor(), [](const std::string& path, const FieldDescriptor* field) {
    if (field->is_extension() || path.find('[') != path.npos) return;
    if (field->containing_type()->file()->package() != "tanren.config") return;
    EXPECT_FALSE(RulesOf(field).help().empty()) << path;
    EXPECT_EQ(RulesOf(field).help().find('\n'), std::string::npos) << path;
    const auto type = field->cpp_type();
    if (type == FieldDescriptor::CPPTYPE_INT64 || type == FieldDescriptor::CPPTYPE_DOUBLE) {
      EXPECT_FALSE(RangeText(RulesOf(field)).empty()) << path;
    }
    EXPECT_NE(field->name(), "include") << path;  // the loader's own key
  });
}

}  // namespace
}  // namespace tanren::config
