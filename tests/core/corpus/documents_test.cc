// Documents out of text and JSONL, compressed or not, sound or damaged.
#include "core/corpus/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/corpus/input_stream.h"
#include "tests/core/corpus/compress.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Outcome {
  std::vector<std::string> documents;
  DamageReport damage;
  absl::Status status;
};

Outcome ReadFile(const std::string& path, DocumentOptions options = {},
                 DocumentReader::LastCut cut = nullptr) {
  Outcome outcome;
  DocumentReader reader(std::move(options), std::move(cut));
  outcome.status = reader.ReadFile(
      path, &outcome.damage,
      [&](DocumentPart part) {
        if (part.begins) outcome.documents.emplace_back();
        outcome.documents.back() += part.text;
        return absl::OkStatus();
      },
      [](int64_t) {});
  return outcome;
}

Outcome Read(const std::string& name, const std::string& content, DocumentOptions options = {}) {
  TemporaryDirectory directory;
  WriteAll(directory / name, content);
  return ReadFile(directory / name, std::move(options));
}

TEST(TextDocuments, AFileIsOneDocumentAsItIs) {
  for (const std::string text : {"one\ntwo", "one\n\n\n", "\r\none\r\n", "x"}) {
    EXPECT_THAT(Read("a.txt", text).documents, ElementsAre(text));
  }
  EXPECT_TRUE(Read("a.txt", "").documents.empty());
}

TEST(TextDocuments, SplitAtALineOrAtBlankLines) {
  DocumentOptions options;
  options.document_delimiter = "<|endoftext|>";
  EXPECT_THAT(Read("a.txt", "a\nb\n<|endoftext|>\n<|endoftext|>\r\nc <|endoftext|>\n", options).documents,
              ElementsAre("a\nb", "c <|endoftext|>\n"));
  options = {};
  options.split_at_blank_lines = true;
  EXPECT_THAT(Read("a.txt", "\n\na\nb\n \n\nc", options).documents, ElementsAre("a\nb", "c"));
}

TEST(TextDocuments, DamagedLinesAreLeftOutAndNamed) {
  const std::string text = std::string("good\nbad \xff line\nnul ") + '\0' + "\nlast";
  const Outcome outcome = Read("a.txt", text);
  EXPECT_THAT(outcome.documents, ElementsAre("good\nlast"));
  EXPECT_EQ(outcome.damage.lines, 4);
  EXPECT_EQ(outcome.damage.total(), 2);
  EXPECT_EQ(outcome.damage.count[DamageReport::kBadUtf8], 1);
  EXPECT_EQ(outcome.damage.count[DamageReport::kNulByte], 1);
  EXPECT_THAT(outcome.damage.examples[0], HasSubstr("a.txt:2: not UTF-8: byte 4 of the line is 0xff"));
  EXPECT_THAT(outcome.damage.examples[1], HasSubstr("a.txt:3: NUL bytes: byte 4 of the line is 0x00"));
}

TEST(TextDocuments, ALongLineIsSkippedInBoundedMemory) {
  TemporaryDirectory directory;
  const std::string path = directory / "a.txt";
  WriteAll(path, "first\n");
  std::filesystem::resize_file(path, (Soak() ? int64_t{4} : int64_t{1}) << 28);  // a line of holes: NUL bytes
  std::ofstream(path, std::ios::app) << "\nlast\n";
  DocumentOptions options;
  options.line_limit_bytes = 1 << 20;
  const Outcome outcome = ReadFile(path, options);
  EXPECT_THAT(outcome.documents, ElementsAre("first\nlast\n"));
  EXPECT_EQ(outcome.damage.count[DamageReport::kTooLong], 1);
  EXPECT_THAT(outcome.damage.examples[0], HasSubstr("a.txt:2: line too long: more than 1048576 bytes"));
}

// A frame that ends just where the reader's buffer does was taken for one that is cut off.
TEST(TextDocuments, ACompressedFileThatEndsWithTheBufferIsWhole) {
  TemporaryDirectory directory;
  std::string text;
  for (int i = 0; text.size() < 70'000; ++i) text += std::to_string(i * 7919) + " ";
  const std::string path = directory / "a.txt.zst";
  WriteAll(path, Zstd(text));
  for (const size_t parts : {1, 2, 7}) {
    text.resize(text.size() / parts * parts);
    WriteAll(path, Zstd(text));
    absl::StatusOr<std::unique_ptr<InputStream>> stream = InputStream::Open(path);
    ASSERT_TRUE(stream.ok()) << stream.status();
    std::string read, buffer(text.size() / parts, '\0');
    while (true) {
      const absl::StatusOr<int64_t> got = (*stream)->Read(buffer.data(), static_cast<int64_t>(buffer.size()));
      ASSERT_TRUE(got.ok()) << got.status();
      if (*got == 0) break;
      read.append(buffer, 0, *got);
    }
    EXPECT_EQ(read, text);
  }
}

TEST(TextDocuments, LongDocumentsComeInPartsOrAreRefused) {
  TemporaryDirectory directory;
  std::string text;
  while (text.size() < (size_t{9} << 20)) text += "some words of a long document\n";
  WriteAll(directory / "a.txt", text);
  int parts = 0;
  const auto cut = [&](std::string_view seen) {
    ++parts;
    return seen.size() / 2;
  };
  EXPECT_THAT(ReadFile(directory / "a.txt", {}, cut).documents, ElementsAre(text));
  EXPECT_GE(parts, 2);
  DocumentOptions options;
  options.document_limit_bytes = 5 << 20;
  EXPECT_THAT(std::string(ReadFile(directory / "a.txt", options).status.message()),
              HasSubstr("a.txt:1: a document of more than 5242880 bytes"));
}

TEST(JsonlDocuments, TheTextFieldIsFoundOrNamed) {
  EXPECT_THAT(Read("a.jsonl", "{\"id\":1,\"text\":\"a\\nb\"}\n\n{\"text\":\"\\u732b\"}").documents,
              ElementsAre("a\nb", "\u732b"));
  EXPECT_THAT(Read("a.ndjson", "{\"content\":\"c\"}\n").documents, ElementsAre("c"));
  DocumentOptions options;
  options.text_keys = {"q", "a"};
  EXPECT_THAT(Read("a.jsonl", "{\"a\":\"2\",\"q\":\"1+1\"}\n", options).documents, ElementsAre("1+1\n2"));
  EXPECT_THAT(std::string(Read("a.jsonl", "{\"q\":\"1\",\"a\":\"2\"}\n").status.message()),
              HasSubstr("a.jsonl:1: the record has no field \"text\" or \"content\", but \"q\", \"a\""));
}

TEST(JsonlDocuments, DamagedRecordsAreLeftOutAndNamed) {
  const std::string text =
      "{\"text\":\"good\"}\n"
      "{\"text\":\"torn\n"
      "[1,2]\n"
      "{\"other\":\"x\"}\n"
      "{\"text\":3}\n"
      "{\"text\":\"nul \\u0000\"}\n"
      "{\"text\":\"half \\ud800\"}\n"
      "{\"text\":\"\xc3\x28\"}\n" +
      ("{\"text\":" + std::string(2000, '[') + "\n") + "{\"text\":\"end\"}";
  const Outcome outcome = Read("a.jsonl", text);
  EXPECT_THAT(outcome.documents, ElementsAre("good", "end"));
  EXPECT_EQ(outcome.damage.lines, 10);
  EXPECT_EQ(outcome.damage.count[DamageReport::kBadJson], 4);
  EXPECT_EQ(outcome.damage.count[DamageReport::kNoText], 2);
  EXPECT_EQ(outcome.damage.count[DamageReport::kNulByte], 1);
  EXPECT_EQ(outcome.damage.count[DamageReport::kBadUtf8], 1);
  EXPECT_THAT(outcome.damage.examples[0], HasSubstr("a.jsonl:2: not a JSON object"));
  EXPECT_THAT(outcome.damage.examples[2],
              HasSubstr("a.jsonl:4: no text field: the field \"text\" is missing"));
}

TEST(Compression, IsKnownByContentAndMayHaveSeveralMembers) {
  TemporaryDirectory directory;
  std::mt19937_64 random(FreshSeed());
  std::string text;
  for (int i = 0; i < 300000; ++i)
    text.push_back(random() % 20 == 0 ? '\n' : static_cast<char>('a' + random() % 26));
  const size_t half = text.size() / 2;
  WriteAll(directory / "a.txt.gz", Gzip(text.substr(0, half)) + Gzip(text.substr(half)));
  WriteAll(directory / "b.txt.zst", Zstd(text.substr(0, half)) + Zstd(text.substr(half)));
  WriteAll(directory / "c.txt", Zstd(text));
  for (const char* name : {"a.txt.gz", "b.txt.zst", "c.txt"}) {
    const Outcome outcome = ReadFile(directory / name);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_THAT(outcome.documents, ElementsAre(text)) << name;
  }
}

TEST(Compression, DamageIsAnErrorThatNamesTheFile) {
  TemporaryDirectory directory;
  std::mt19937_64 random(FreshSeed());
  std::string text;
  for (int i = 0; i < 100000; ++i) text.push_back(static_cast<char>('a' + random() % 26));
  for (const auto& [name, packed] : {std::pair{"a.txt.gz", Gzip(text)}, std::pair{"a.txt.zst", Zstd(text)}}) {
    WriteAll(directory / name, packed.substr(0, packed.size() / 2));
    EXPECT_THAT(std::string(ReadFile(directory / name).status.message()),
                testing::AllOf(HasSubstr(name), HasSubstr("it ends early")));
    for (int round = 0; round < 50; ++round) {
      std::string damaged = packed;
      for (int i = 0; i < 20; ++i)
        damaged[8 + random() % (damaged.size() - 8)] ^= static_cast<char>(1 + random() % 255);
      WriteAll(directory / name, damaged);
      const Outcome outcome = ReadFile(directory / name);
      ASSERT_FALSE(outcome.status.ok());
      ASSERT_THAT(std::string(outcome.status.message()), HasSubstr(name));
    }
  }
}

TEST(Inputs, AreRefusedByName) {
  TemporaryDirectory directory;
  EXPECT_THAT(std::string(ReadFile(directory / "absent.txt").status.message()),
              HasSubstr("absent.txt: cannot open"));
  std::filesystem::create_directories(directory / "d.txt");
  EXPECT_THAT(std::string(ReadFile(directory / "d.txt").status.message()),
              HasSubstr("d.txt: not a regular file"));
  EXPECT_THAT(std::string(Read("a.parquet", "x").status.message()), HasSubstr("neither .txt nor .jsonl"));
}

}  // namespace
}  // namespace tanren
