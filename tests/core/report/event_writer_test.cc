#include "core/report/event_writer.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checksums.h"
#include "core/report/event.pb.h"
#include "gmock/gmock.h"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

// Written by TensorBoard's own classes: make_event_golden.py.
constexpr std::string_view kRecordOfDigits(
    "\x09\x00\x00\x00\x00\x00\x00\x00\x37\xf9\x71\x39\x31\x32\x33\x34\x35\x36\x37\x38\x39\xe5\xb0\x8a\xc7",
    25);
constexpr std::string_view kEmptyRecord("\x00\x00\x00\x00\x00\x00\x00\x00\x29\x03\x98\x07\xd8\xea\x82\xa2",
                                        16);
constexpr std::string_view kScalars(
    "\x09\x00\x00\x00\x00\x00\x4a\x93\x40\x10\x07\x2a\x2b\x0a\x11\x0a\x0a\x74\x72\x61\x69\x6e\x2f\x6c"
    "\x6f\x73\x73\x15\x00\x00\x88\x40\x0a\x16\x0a\x0f\x76\x61\x6c\x69\x64\x61\x74\x69\x6f\x6e\x2f\x6c"
    "\x6f\x73\x73\x15\x00\x00\x80\x7f",
    56);
constexpr std::string_view kSessionStart("\x09\x00\x00\x00\x00\x00\x4a\x93\x40\x10\x08\x3a\x02\x08\x01", 15);
constexpr std::string_view kText(
    "\x09\x00\x00\x00\x00\x00\x4a\x93\x40\x10\x09\x2a\x28\x0a\x26\x0a\x09\x73\x61\x6d\x70\x6c\x65\x73"
    "\x2f\x30\x42\x0f\x08\x07\x12\x04\x12\x02\x08\x01\x42\x05\x68\x65\x6c\x6c\x6f\x4a\x08\x0a\x06\x0a"
    "\x04\x74\x65\x78\x74",
    53);

// The payloads of a file of records, whose sums are checked against the rule of the format.
std::vector<std::string> Payloads(const std::string& path) {
  const std::string data = ReadAll(path);
  const auto masked = [](std::string_view text) {
    const uint32_t crc = Crc32c(text);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  const auto word = [&](size_t at) {
    uint32_t value;
    std::memcpy(&value, data.data() + at, 4);
    return value;
  };
  std::vector<std::string> out;
  size_t at = 0;
  while (at < data.size()) {
    uint64_t bytes;
    std::memcpy(&bytes, data.data() + at, 8);
    EXPECT_EQ(word(at + 8), masked(std::string_view(data).substr(at, 8)));
    out.push_back(data.substr(at + 12, bytes));
    EXPECT_EQ(word(at + 12 + bytes), masked(out.back()));
    at += 16 + bytes;
  }
  EXPECT_EQ(at, data.size());
  return out;
}

// With the golden records' wall time, which is the first field.
std::string AtGoldenTime(std::string payload) {
  EXPECT_EQ(payload.substr(0, 1), "\x09");
  const double time = 1234.5;
  std::memcpy(payload.data() + 1, &time, 8);
  return payload;
}

TEST(EventWriter, FramesRecordsAsTensorBoardDoes) {
  EXPECT_EQ(FrameRecord("123456789"), kRecordOfDigits);
  EXPECT_EQ(FrameRecord(""), kEmptyRecord);
}

TEST(EventWriter, WritesTheBytesOfTensorBoard) {
  const TemporaryDirectory run;
  auto writer = EventWriter::Open(run.path(), 7);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const double infinity = std::numeric_limits<double>::infinity();
  ASSERT_TRUE(writer->Write(MetricsRecord(7).Add("loss", 4.25).Add("validation_loss", infinity)).ok());
  const std::vector<std::string> payloads = Payloads(writer->path());
  ASSERT_EQ(payloads.size(), 3);
  event::Event version;
  ASSERT_TRUE(version.ParseFromString(payloads[0]));
  EXPECT_EQ(version.file_version(), "brain.Event:2");
  EXPECT_GT(version.wall_time(), 1.7e9);
  EXPECT_EQ(AtGoldenTime(payloads[1]), kSessionStart);
  EXPECT_EQ(AtGoldenTime(payloads[2]), kScalars);
}

TEST(EventWriter, WritesTextAsTensorBoardDoes) {
  const TemporaryDirectory run;
  auto writer = EventWriter::Open(run.path(), 0);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->WriteText(9, "samples/0", "hello").ok());
  event::Event event;
  ASSERT_TRUE(event.ParseFromString(Payloads(writer->path()).back()));
  std::string* shown = event.mutable_summary()->mutable_value(0)->mutable_tensor()->mutable_string_value(0);
  EXPECT_EQ(*shown, "    hello");
  *shown = "hello";
  EXPECT_EQ(AtGoldenTime(event.SerializeAsString()), kText);
}

TEST(EventWriter, TextIsShownWordForWord) {
  const TemporaryDirectory run;
  auto writer = EventWriter::Open(run.path(), 0);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->WriteText(1, "samples/0", "# not a title\n<b>\xff 問\n").ok());
  event::Event event;
  ASSERT_TRUE(event.ParseFromString(Payloads(writer->path()).back()));
  EXPECT_EQ(event.summary().value(0).tensor().string_value(0), "    # not a title\n    <b>\\xff 問\n    ");
}

TEST(EventWriter, EachStartHasAFileOfItsOwnInOrder) {
  const TemporaryDirectory run;
  std::string last;
  for (int64_t resumed_step : {0, 10, 5}) {
    auto writer = EventWriter::Open(run.path(), resumed_step);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_GT(writer->path(), last);
    last = writer->path();
    event::Event start;
    ASSERT_TRUE(start.ParseFromString(Payloads(last).at(1)));
    EXPECT_EQ(start.step(), resumed_step + 1);
    EXPECT_EQ(start.session().status(), event::Session::START);
  }
}

}  // namespace
}  // namespace tanren
