#include <random>
#include <string>

#include "core/config/error_report.h"
#include "core/config/loader.h"
#include "core/config/schema.h"
#include "google/protobuf/util/message_differencer.h"
#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::MessageDifferencer;

TEST(ToYaml, IsReadable) {
  Config config = MustLoad(std::string(kModel) +
                           "data: {train: [{path: a/b, weight: 0.5}, {path: 'x y'}]}\n"
                           "samples: {prompts: [\"q: \\\"\\u202e\", 'true', '1', '', 鍛錬]}\nlog: "
                           "{}\noptimizer: {epsilon: 1e-8}\n");
  EXPECT_EQ(ToYaml(config, false),
            "model:\n"
            "  layers: 2\n"
            "  width: 64\n"
            "  heads: 4\n"
            "data:\n"
            "  train:\n"
            "    - path: a/b\n"
            "      weight: 0.5\n"
            "    - path: \"x y\"\n"
            "optimizer:\n"
            "  epsilon: 1.0e-8\n"
            "samples:\n"
            "  prompts:\n"
            "    - \"q: \\\"\\U0000202e\"\n"
            "    - \"true\"\n"
            "    - \"1\"\n"
            "    - \"\"\n"
            "    - \"鍛錬\"\n"
            "log: {}\n");
  EXPECT_TRUE(MessageDifferencer::Equals(MustLoad(ToYaml(config, false)), config));
}

TEST(ToYaml, WithDefaultsSetsEverything) {
  const Config resolved = Resolve(MustLoad(kModel));
  const std::string text = ToYaml(resolved, true);
  const Config again = MustLoad(text);
  EXPECT_TRUE(MessageDifferencer::Equivalent(again, resolved));
  EXPECT_TRUE(again.optimizer().has_beta1());
  EXPECT_EQ(ToYaml(again, true), text);
  EXPECT_EQ(ToYaml(again, false).find("beta1: 0.9") == std::string::npos, false);
  EXPECT_THAT(text, testing::HasSubstr("\n  train: []\n"));
  ForEachField(Config::descriptor(), [&](const std::string& path, const FieldDescriptor* field) {
    if (field->is_extension() || field->containing_type()->file()->package() != "tanren.config") return;
    if (path.find(".N") != path.npos) return;
    EXPECT_NE(text.find(field->name() + ":"), std::string::npos) << path;
  });
}

// A string of a few characters, most of them awkward.
std::string RandomString(std::mt19937_64* random) {
  static const std::string kPieces[] = {
      "a",  "0", " ", "\n", "\t",     "\"",     "'",          "\\",   ":",    "#",     "- ",   "{",
      "]",  "&", "*", "鍛", "\u0085", "\u2028", "\ufeff",     "\x7f", "\x01", "~",     "null", "true",
      "\r", "🔨", "%", "@",  "!",      "|\n",    "\U000e0001", ",",    "=",    "\u00a0"};
  std::string text;
  for (uint64_t count = (*random)() % 6; count > 0; --count)
    text += kPieces[(*random)() % std::size(kPieces)];
  return text;
}

double RandomNumber(const FieldRules& rules, std::mt19937_64* random) {
  const double low = rules.has_above() ? rules.above() : rules.minimum();
  const double high = rules.has_below() ? rules.below() : rules.maximum();
  const double share = std::uniform_real_distribution<double>(1e-9, 0.999)(*random);
  return low + (high - low) * share * share * share;
}

// Sets each field, or not, to a value inside its range; the rules between values are not respected.
void Randomise(Message* message, std::mt19937_64* random) {
  const Reflection* reflection = message->GetReflection();
  for (const FieldDescriptor* field : FieldsOf(message->GetDescriptor())) {
    if (field->is_extension() || (*random)() % 3 == 0) continue;
    if (field->is_repeated()) {
      for (uint64_t count = (*random)() % 4; count > 0; --count) {
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          Randomise(reflection->AddMessage(message, field), random);
        } else {
          reflection->AddString(message, field, RandomString(random));
        }
      }
      continue;
    }
    const FieldRules& rules = RulesOf(field);
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Randomise(reflection->MutableMessage(message, field), random);
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        reflection->SetInt64(message, field, static_cast<int64_t>(RandomNumber(rules, random)) + 1);
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        reflection->SetDouble(message, field, RandomNumber(rules, random));
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        reflection->SetBool(message, field, (*random)() % 2 == 0);
        break;
      case FieldDescriptor::CPPTYPE_ENUM:
        reflection->SetEnumValue(message, field,
                                 static_cast<int>((*random)() % field->enum_type()->value_count()));
        break;
      default: {
        const auto choices = ChoicesOf(field);
        std::string text = choices.empty() ? RandomString(random) : choices[(*random)() % choices.size()];
        if (rules.path()) text = "p";  // paths hold no control characters: the loader would refuse them
        reflection->SetString(message, field, text);
      }
    }
  }
}

TEST(ToYaml, AnyConfigReadsBackEqual) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    Config config;
    Randomise(&config, &random);
    config.clear_plugins();
    for (const bool with_defaults : {false, true}) {
      const std::string text = ToYaml(config, with_defaults);
      Config again;
      ErrorReport report("run.yaml");
      Loader(&again, &report).ReadText(text, "run.yaml", {});
      ASSERT_TRUE(report.ToStatus().ok()) << report.ToStatus().message() << "\n" << text;
      ASSERT_TRUE(with_defaults ? MessageDifferencer::Equivalent(again, config)
                                : MessageDifferencer::Equals(again, config))
          << text;
      ASSERT_EQ(ToYaml(again, with_defaults), text);
    }
  }
}

TEST(ConfigHash, IsOfTheValues) {
  const Config config = MustLoad(kModel);
  const std::string hash = ConfigHash(config);
  EXPECT_EQ(hash.size(), 64);
  EXPECT_EQ(ConfigHash(MustLoad("model: {heads: 4, width: 64, layers: 2, kv_heads: 0}\nseed: 1\nlog: {}\n")),
            hash);
  EXPECT_EQ(ConfigHash(MustLoad(ToYaml(config, true))), hash);
  EXPECT_NE(ConfigHash(MustLoad(kModel, {"seed=2"})), hash);
  EXPECT_NE(ConfigHash(MustLoad(kModel, {"optimizer.learning_rate=6.0000000001e-4"})), hash);
}

// sha256sum, which nobody here wrote, agrees.
TEST(ConfigHash, IsTheHashOfTheYaml) {
  const TemporaryDirectory directory;
  const Config config = MustLoad(kModel);
  const std::string path = directory.Write("resolved.yaml", ToYaml(config, true));
  FILE* pipe = popen(("sha256sum " + path).c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char line[65] = {};
  EXPECT_EQ(fread(line, 1, 64, pipe), 64);
  pclose(pipe);
  EXPECT_EQ(ConfigHash(config), line);
}

}  // namespace
}  // namespace tanren::config
