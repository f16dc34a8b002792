// Limits: hostile text ends in an error in under a second and 64 MiB.
#include "core/config/yaml_tree.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <random>
#include <string>

#include "tests/core/config/config_testing.h"

namespace tanren::config {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

// "line:column message", or "" when the text is valid.
std::string Problem(const std::string& text) {
  int64_t budget = kMaxYamlNodes;
  const YamlResult result = ParseYaml(text, &budget);
  const auto* error = std::get_if<YamlError>(&result);
  if (error == nullptr) return "";
  return std::to_string(error->line) + ":" + std::to_string(error->column) + " " + error->message;
}

std::string Repeat(const std::string& piece, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += piece;
  return text;
}

int64_t PeakBytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// Loads hostile text as a config, so that every layer meets it, in a child process whose processor time and
// growth are its own. Returns the errors, and checks both limits.
std::string LoadHostile(const std::string& text) {
  int channel[2];
  EXPECT_EQ(pipe(channel), 0);
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int64_t before = PeakBytes();
    const clock_t start = clock();
    std::string report = ErrorsOf(text);
    const double seconds = static_cast<double>(clock() - start) / CLOCKS_PER_SEC;
    const double mebibytes = static_cast<double>(PeakBytes() - before) / (1 << 20);
    report = std::to_string(seconds) + " " + std::to_string(mebibytes) + " " + report;
    const bool written =
        write(channel[1], report.data(), report.size()) == static_cast<ssize_t>(report.size());
    _exit(written ? 0 : 1);
  }
  close(channel[1]);
  std::string report;
  char buffer[4096];
  for (ssize_t count; (count = read(channel[0], buffer, sizeof(buffer))) > 0;) report.append(buffer, count);
  close(channel[0]);
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << "the loader died";
  double seconds = 1e9, mebibytes = 1e9;
  int end = 0;
  EXPECT_EQ(sscanf(report.c_str(), "%lf %lf %n", &seconds, &mebibytes, &end), 2);
  if (!kIsSanitized) {
    EXPECT_LT(seconds, 1);
    EXPECT_LT(mebibytes, 64);
  }
  const std::string errors = report.substr(end);
  EXPECT_LT(errors.size(), 64 << 10);
  return errors;
}

TEST(YamlTree, KeepsOrderDuplicatesAndPlaces) {
  int64_t budget = kMaxYamlNodes;
  const YamlResult result = ParseYaml("a: 1\nb:\n  - x\n  - 'y'\na: ~\n", &budget);
  const auto& root = std::get<std::shared_ptr<const YamlNode>>(result);
  ASSERT_TRUE(root->is_mapping());
  ASSERT_EQ(root->children.size(), 6);
  EXPECT_EQ(root->children[2]->scalar, "b");
  EXPECT_EQ(root->children[3]->children[1]->scalar, "y");
  EXPECT_TRUE(root->children[3]->children[1]->quoted);
  EXPECT_FALSE(root->children[3]->children[0]->quoted);
  EXPECT_EQ(root->children[3]->children[1]->line, 4);
  EXPECT_EQ(root->children[3]->children[1]->column, 5);
  EXPECT_TRUE(root->children[5]->is_null());
  EXPECT_EQ(root->tree_size, 9);
  EXPECT_EQ(root->depth, 3);
  EXPECT_EQ(budget, kMaxYamlNodes - 9);
}

TEST(YamlTree, RefusesWhatIsNotOneDocumentOfText) {
  EXPECT_EQ(Problem("a: 1\n--- \nb: 2\n"), "2:1 a second YAML document; a config is one document");
  EXPECT_EQ(Problem("a: !!int 3\n"),
            "1:4 tag tag:yaml.org,2002:int is not supported; the schema gives each type");
  EXPECT_EQ(Problem("ab: \xff\n"), "1:5 byte \\xff is not UTF-8");
  EXPECT_EQ(Problem("a: 1\nb: \x1b[31m\n"), "2:4 control character \\x1b");
  EXPECT_EQ(Problem(std::string("a: \0", 4)), "1:4 control character \\x00");
  EXPECT_EQ(Problem("a: [1, 2\n"), "2:1 not valid YAML: end of sequence flow not found");
  EXPECT_EQ(Problem("a: 1\n b: 2\n"), "2:3 not valid YAML: illegal map value");
  EXPECT_EQ(Problem("a: *b\n"), "1:4 not valid YAML: the referenced anchor is not defined");
  EXPECT_EQ(Problem("a: &b [*b]\n"), "1:8 an alias to the value that contains it");
  EXPECT_EQ(Problem(std::string(kMaxYamlBytes + 1, ' ')), "1:1 longer than 1048576 bytes (1048577)");
  EXPECT_EQ(Problem(std::string(kMaxYamlBytes, ' ')), "");
}

TEST(YamlTree, DepthLimit) {
  EXPECT_EQ(Problem(Repeat("[", 64) + Repeat("]", 64)), "");
  EXPECT_EQ(Problem(Repeat("[", 65) + Repeat("]", 65)), "1:65 nested more than 64 levels deep");
  // Through aliases: 40 levels inside 30.
  EXPECT_THAT(Problem("a: &a " + Repeat("[", 40) + Repeat("]", 40) + "\nb: " + Repeat("[", 30) + "*a" +
                      Repeat("]", 30)),
              testing::EndsWith("nested more than 64 levels deep"));
}

TEST(YamlTree, DepthOf100000IsAnError) {
  for (const std::string opening : {"[", "{a: ", "- ", "? ", "[{a: ", "&a ", "!a "}) {
    SCOPED_TRACE(opening);
    EXPECT_NE(LoadHostile(Repeat(opening, 100'000)), "");
  }
  std::string stairs;
  for (int i = 0; i < 1400; ++i) stairs += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(LoadHostile(stairs), testing::HasSubstr("run.yaml:64:64: nested more than 64 levels deep"));
}

TEST(YamlTree, AliasBombIsAnError) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 20; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + Repeat(before + ", ", 9) + before +
            "]\n";
  }
  EXPECT_EQ(LoadHostile(bomb),
            "run.yaml:5:25: too many values, aliases and included files counted in full (more than 50000)");
}

// A mebibyte of `start` and then `piece` again and again.
void LoadMebibyte(const std::string& start, const std::string& piece) {
  SCOPED_TRACE("'" + start + "' then '" + piece + "'");
  LoadHostile(start + Repeat(piece, (kMaxYamlBytes - start.size()) / piece.size()));
}

TEST(YamlTree, MebibytesOfAnythingEndSoon) {
  // The costliest of some thousands that were tried: tokens in an open [ or {, which yaml-cpp gathers.
  LoadMebibyte("{", "a,");
  LoadMebibyte("[", "[],");
  LoadMebibyte("{", "?\n");
  LoadMebibyte("[", "a: b\n");
  LoadMebibyte("", "\"");
  LoadMebibyte("[", "*a ");
  LoadMebibyte("a: |\n ", "a\n\n");
  const std::string pieces[] = {
      "a: b\n", "- ",   "-\n", "[],", "{},",   "a,",  "# x\n", "'",       "\"",   "\"\\x41", "a ",
      "\n",     "&x\n", "*a ", "? a", ": ",    ":\n", "---\n", "...\n",   "|\n",  ">\n ",    "\t",
      "\r\n",   "!<",   "!a!", "&",   "[a: ",  "鍛",  ", ",    "- |\n\n", "}",    "]",       "@",
      "`",      "k: [", "  ",  "''",  "- a\n", "\\",  "%",     "\n ",     "'a' ", "b"};
  const std::string starts[] = {"", "[", "{", "a: ", "a: [", "a: \"", "a: |\n ", "? ", "a: '"};
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    std::string piece;
    for (uint64_t count = 1 + random() % 3; count > 0; --count) piece += pieces[random() % std::size(pieces)];
    LoadMebibyte(starts[random() % std::size(starts)], piece);
  }
}

TEST(YamlTree, DamagedTextNeverCrashes) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  const std::string good = ToYaml(MustLoad(kModel), true);
  const std::string special = "[]{}:,-?&*!|>'\"%@`#~ \n\t<=.0\\x";
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string text = good;
    for (int edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = special[random() % special.size()];
          break;
        case 1:
          text.insert(at, 1, special[random() % special.size()]);
          break;
        case 2:
          text.erase(at, 1 + random() % 20);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
      }
    }
    refused += !ErrorsOf(text).empty();
  }
  EXPECT_GT(refused, 750);
}

}  // namespace
}  // namespace tanren::config
