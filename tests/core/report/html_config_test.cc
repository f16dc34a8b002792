#include "core/report/html_config.h"

#include "core/config/config.h"
#include "gmock/gmock.h"

namespace tanren {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<std::string> Differing(std::string_view yaml, std::string_view defaults) {
  std::vector<std::string> out;
  for (const ConfigLine& line : CompareConfig(yaml, defaults)) {
    if (line.differs) out.push_back(line.text);
  }
  return out;
}

TEST(HtmlConfig, TheSameKeyInAnotherSectionIsAnotherKey) {
  EXPECT_THAT(Differing("a:\n  kind: x\nb:\n  kind: y\n  deep:\n    kind: x\nseed: 1\n",
                        "a:\n  kind: x\nb:\n  kind: x\n  deep:\n    kind: x\nseed: 0\n"),
              testing::ElementsAre("  kind: y", "seed: 1"));
}

TEST(HtmlConfig, ElementsOfListsDiffer) {
  EXPECT_THAT(Differing("data:\n  train:\n    - path: a\n      weight: 1\n    - path: b\n  shuffle: true\n",
                        "data:\n  train: []\n  shuffle: true\n"),
              testing::ElementsAre("  train:", "    - path: a", "      weight: 1", "    - path: b"));
}

TEST(HtmlConfig, DefaultsOfTheSchemaDoNotDiffer) {
  const std::string defaults = config::ToYaml(config::Config(), true);
  EXPECT_TRUE(Differing(defaults, defaults).empty());
  config::Config changed;
  changed.mutable_optimizer()->set_beta1(0.125);
  EXPECT_THAT(Differing(config::ToYaml(changed, true), defaults), testing::ElementsAre("  beta1: 0.125"));
  const std::string html = HtmlConfig(config::ToYaml(changed, true));
  EXPECT_THAT(html, HasSubstr("1 lines differ"));
  EXPECT_THAT(html, HasSubstr("<mark>  beta1: 0.125</mark>"));
}

TEST(HtmlConfig, NoFileIsNoSectionAndAnythingElseIsText) {
  EXPECT_EQ(HtmlConfig(""), "");
  const std::string html = HtmlConfig(":\n - <b>\n  - - a.b: c\n\xff\n\n");
  EXPECT_THAT(html, Not(HasSubstr("<b>")));
  EXPECT_THAT(html, HasSubstr("&lt;b&gt;"));
}

}  // namespace
}  // namespace tanren
