// Golden bytes and malicious headers after the tests that huggingface/safetensors publishes for its own
// reader.
#include "core/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/core/checkpoint/testing.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;
using testing::ScratchDirectory;

std::string LengthWord(uint64_t length) {
  std::string word;
  for (int shift = 0; shift < 64; shift += 8) word += static_cast<char>(length >> shift & 255);
  return word;
}

std::string FileOf(const std::string& header, int64_t data_bytes) {
  return LengthWord(header.size()) + header + std::string(static_cast<size_t>(data_bytes), '\0');
}

absl::Status ParseAll(const std::string& file) {
  return ParseSafetensors(file, static_cast<int64_t>(file.size())).status();
}

std::string Entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
         offsets + "]}";
}

struct Bad {
  const char* title;
  std::string file;
  const char* message;
};

TEST(SafetensorsTest, RefusesEveryMalformedFileByName) {
  const std::string good = Entry("test", "I32", "2,2", "0,16");
  std::string attack = "{";
  for (int i = 0; i < 10; ++i)
    attack += (i ? "," : "") + Entry("weight_" + std::to_string(i), "F32", "2,2", "0,16");
  attack += "}";
  const Bad cases[] = {
      {"empty file", "", "too short"},
      {"seven bytes", "1234567", "too short"},
      {"header of 2^64-1", LengthWord(~uint64_t{0}) + "{}", "header of 18446744073709551615 bytes"},
      {"header of 2^63", LengthWord(uint64_t{1} << 63) + "{}", "at most 100000000"},
      {"header one beyond the limit", LengthWord(100'000'001) + "{}", "at most 100000000"},
      {"header longer than the file", LengthWord(60), "truncated"},
      {"header of nothing", LengthWord(0), "does not begin with '{'"},
      {"not UTF-8", FileOf("{\"\xff\":1}", 0), "not valid JSON in UTF-8"},
      {"a lone 0xff", FileOf("\xff", 0), "does not begin"},
      {"not JSON", FileOf("{", 0), "not valid JSON"},
      {"JSON followed by more", FileOf("{}{}", 0), "not valid JSON"},
      {"array on top", FileOf("[]", 0), "does not begin"},
      {"leading space", FileOf(" {}", 0), "does not begin"},
      {"NUL padding", FileOf(std::string("{}\0\0", 4), 0), "not valid JSON"},
      {"missing data", FileOf("{" + good + "}", 14), "truncated"},
      {"trailing bytes", FileOf("{" + good + "}", 17), "trailing bytes"},
      {"polyglot", FileOf("{}", 30), "trailing bytes"},
      {"ten tensors over the same bytes", FileOf(attack, 16), "an overlap"},
      {"overlap by a byte",
       FileOf("{" + Entry("a", "U8", "4", "0,4") + "," + Entry("b", "U8", "4", "3,7") + "}", 7),
       "tensor \"b\": data begins at byte 3, the tensor before it ends at byte 4: an overlap"},
      {"hole", FileOf("{" + Entry("a", "U8", "4", "0,4") + "," + Entry("b", "U8", "4", "5,9") + "}", 9),
       "a hole"},
      {"hole at the front", FileOf("{" + Entry("a", "U8", "4", "8,12") + "}", 12), "a hole"},
      {"shape too small for the range", FileOf("{" + Entry("test", "I32", "2,2", "0,4") + "}", 4), "need 16"},
      {"offsets run backwards", FileOf("{" + Entry("test", "I32", "2,2", "16,0") + "}", 16), "run backwards"},
      {"shape overflows", FileOf("{" + Entry("t", "I32", "2,18446744073709551614", "0,16") + "}", 16),
       "beyond 2^63"},
      {"size overflows", FileOf("{" + Entry("t", "I32", "2,9223372036854775807", "0,16") + "}", 16),
       "overflows"},
      {"product overflows to 4", FileOf("{" + Entry("t", "I32", "4294967296,4294967296", "0,0") + "}", 0),
       "overflows"},
      {"zero hides an overflow", FileOf("{" + Entry("t", "I32", "0,9223372036854775807", "0,0") + "}", 0),
       "overflows"},
      {"number beyond 2^64", FileOf("{" + Entry("t", "I32", "99999999999999999999999", "0,4") + "}", 4),
       "the number"},
      {"negative dim", FileOf("{" + Entry("t", "I32", "-1", "0,4") + "}", 4), "a negative number"},
      {"fractional dim", FileOf("{" + Entry("t", "I32", "1.0", "0,4") + "}", 4), "the number 1.0"},
      {"exponent dim", FileOf("{" + Entry("t", "I32", "1e0", "0,4") + "}", 4), "the number"},
      {"17 dims", FileOf("{" + Entry("t", "U8", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "0,1") + "}", 1),
       "more than 16"},
      {"three offsets", FileOf("{" + Entry("t", "U8", "1", "0,1,1") + "}", 1), "a third data offset"},
      {"one offset", FileOf("{" + Entry("t", "U8", "1", "0") + "}", 1), "fewer than two"},
      {"duplicate tensor",
       FileOf("{" + Entry("a", "U8", "1", "0,1") + "," + Entry("a", "U8", "1", "1,2") + "}", 2),
       "the key \"a\" twice"},
      {"duplicate by escape",
       FileOf("{" + Entry("a", "U8", "1", "0,1") + "," + Entry("\\u0061", "U8", "1", "1,2") + "}", 2),
       "the key \"a\" twice"},
      {"duplicate field",
       FileOf("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1),
       "the key \"dtype\" twice in tensor \"a\""},
      {"duplicate metadata", FileOf("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0), "in __metadata__"},
      {"two metadata", FileOf("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "twice"},
      {"metadata of numbers", FileOf("{\"__metadata__\":{\"a\":1}}", 0), "a number in __metadata__"},
      {"metadata is a string", FileOf("{\"__metadata__\":\"a\"}", 0), "a string"},
      {"missing dtype", FileOf("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1), "without dtype"},
      {"missing shape", FileOf("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1),
       "without dtype, shape"},
      {"unknown field",
       FileOf("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"stride\":[1]}}", 1),
       "the unknown field \"stride\""},
      {"unknown dtype", FileOf("{" + Entry("t", "F31", "1", "0,4") + "}", 4), "unknown dtype \"F31\""},
      {"dtype of another case", FileOf("{" + Entry("t", "f32", "1", "0,4") + "}", 4), "unknown dtype"},
      {"tensor is null", FileOf("{\"a\":null}", 0), "null"},
      {"tensor is an array", FileOf("{\"a\":[]}", 0), "an array"},
      {"nested object", FileOf("{\"a\":{\"dtype\":{\"x\":1}}}", 0), "an object"},
      {"nested shape", FileOf("{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]]}}", 0), "an array"},
      {"terminal escapes", FileOf("{" + Entry("\\u001b[31m", "X", "1", "0,1") + "}", 1), "\\033[31m"},
  };
  for (const Bad& bad : cases) {
    const absl::Status status = ParseAll(bad.file);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.title;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message)) << bad.title;
  }
  EXPECT_THAT(std::string(ParseAll(FileOf("{\"a\":" + std::string(1'000'000, '['), 0)).message()),
              HasSubstr("an array"));
}

TEST(SafetensorsTest, AcceptsWhatTheFormatAllows) {
  EXPECT_TRUE(ParseAll(FileOf("{" + Entry("test", "I32", "2,2", "0,16") + "}", 16)).ok());
  EXPECT_TRUE(ParseAll(FileOf("{" + Entry("scalar", "I32", "", "0,4") + "}", 4)).ok());
  EXPECT_TRUE(ParseAll(FileOf("{" + Entry("empty", "I32", "2,0", "0,0") + "}", 0)).ok());
  EXPECT_TRUE(ParseAll(FileOf("{}\r \t\n", 0)).ok());
  EXPECT_TRUE(
      ParseAll(
          FileOf("{" + Entry("later", "U8", "1", "1,2") + "," + Entry("first", "BOOL", "1", "0,1") + "}", 2))
          .ok());
  const std::string file =
      FileOf("{\"__metadata__\":{\"format\":\"pt\"}," + Entry("m", "BOOL", "3", "0,3") + "}", 3);
  const auto header = ParseSafetensors(file, static_cast<int64_t>(file.size()));
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_FALSE(header->entries[0].dtype.has_value()) << "listed, but not readable";
}

TEST(SafetensorsTest, WritesThePublishedBytes) {
  const float data[] = {0, 1, 2, 3, 4, 5};
  const std::string values(reinterpret_cast<const char*>(data), sizeof(data));
  const auto written = [&](const std::string& name, std::vector<int64_t> shape) {
    ScratchDirectory scratch;
    const SafetensorsSpec spec{name, DType::kF32, std::move(shape)};
    const void* pointer = data;
    EXPECT_TRUE(WriteSafetensors(scratch / "x", {&spec, 1}, {&pointer, 1}, {}).ok());
    return testing::ReadFile(scratch / "x");
  };
  EXPECT_EQ(written("attn.0", {1, 2, 3}),
            LengthWord(64) + "{" + Entry("attn.0", "F32", "1,2,3", "0,24") + "}" + values);
  EXPECT_EQ(written("attn0", {1, 1, 2, 3}),
            LengthWord(72) + "{" + Entry("attn0", "F32", "1,1,2,3", "0,24") + "}       " + values);
  EXPECT_EQ(PlanSafetensors({}, {})->header, LengthWord(8) + "{}      ");
  EXPECT_EQ(PlanSafetensors({}, {{"framework", "pt"}})->header,
            LengthWord(40) + "{\"__metadata__\":{\"framework\":\"pt\"}}     ");
}

TEST(SafetensorsTest, OrdersByTypeThenName) {
  const std::vector<SafetensorsSpec> specs = {{"b", DType::kU8, {3}},
                                              {"a", DType::kU8, {1}},
                                              {"z", DType::kI64, {1}},
                                              {"y", DType::kBF16, {1}},
                                              {"x", DType::kF32, {1}}};
  const auto plan = PlanSafetensors(specs, {});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->order, (std::vector<int>{2, 4, 3, 1, 0}));
  EXPECT_EQ(plan->header.size() % 8, 0u);
}

TEST(SafetensorsTest, RefusesToWriteWhatItCouldNotRead) {
  const std::vector<SafetensorsSpec> twice = {{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}};
  EXPECT_THAT(std::string(PlanSafetensors(twice, {}).status().message()), HasSubstr("\"a\" twice"));
  const SafetensorsSpec reserved{"__metadata__", DType::kU8, {1}}, binary{"\xff", DType::kU8, {1}};
  EXPECT_FALSE(PlanSafetensors({&reserved, 1}, {}).ok());
  EXPECT_THAT(std::string(PlanSafetensors({&binary, 1}, {}).status().message()), HasSubstr("not UTF-8"));
  ScratchDirectory scratch;
  testing::WriteFile(scratch / "taken", "mine");
  EXPECT_EQ(WriteSafetensors(scratch / "taken", {}, {}, {}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(testing::ReadFile(scratch / "taken"), "mine");
}

TEST(SafetensorsTest, RoundTripsRandomTensors) {
  std::mt19937_64 random(testing::FreshSeed());
  for (int round = 0; round < 20; ++round) {
    std::vector<testing::GlobalTensor> tensors =
        testing::RandomTensors(random, 1 + static_cast<int>(random() % 12));
    std::vector<SafetensorsSpec> specs;
    std::vector<const void*> data;
    for (const auto& t : tensors) {
      specs.push_back({t.info.name + " \"\\\n\u00e9", t.info.dtype, t.info.shape});
      data.push_back(t.data.data());
    }
    ScratchDirectory scratch;
    ASSERT_TRUE(WriteSafetensors(scratch / "f.safetensors", specs, data, {{"k", "v"}}).ok());
    const auto file = SafetensorsFile::Open(scratch / "f.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_EQ(file->entries().size(), tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::vector<char> read(tensors[i].data.size(), '\x11');
      ASSERT_TRUE(file->Read(specs[i].name, read.data(), static_cast<int64_t>(read.size())).ok());
      EXPECT_EQ(read, tensors[i].data);
      EXPECT_EQ(file->header().Find(specs[i].name)->dtype, specs[i].dtype);
      EXPECT_EQ(file->header().Find(specs[i].name)->shape, specs[i].shape);
    }
    EXPECT_FALSE(file->Read("absent", nullptr, 0).ok());
    EXPECT_FALSE(file->Read(specs[0].name, nullptr, static_cast<int64_t>(tensors[0].data.size()) + 1).ok());
  }
}

TEST(SafetensorsTest, FilesInADirectoryMustBeRegular) {
  ScratchDirectory scratch;
  testing::WriteFile(scratch / "real", FileOf("{}", 0));
  ASSERT_EQ(symlink((scratch / "real").c_str(), (scratch / "link").c_str()), 0);
  ASSERT_EQ(mkfifo((scratch / "fifo").c_str(), 0600), 0);
  const auto directory = Directory::Open(scratch.path());
  ASSERT_TRUE(directory.ok());
  EXPECT_TRUE(SafetensorsFile::OpenAt(*directory, "real").ok());
  EXPECT_THAT(std::string(SafetensorsFile::OpenAt(*directory, "link").status().message()),
              HasSubstr("links are not followed"));
  EXPECT_THAT(std::string(SafetensorsFile::OpenAt(*directory, "fifo").status().message()),
              HasSubstr("not a regular file"));
  EXPECT_TRUE(SafetensorsFile::Open(scratch / "link").ok()) << "a path that the user gives may be a link";
}

}  // namespace
}  // namespace tanren
