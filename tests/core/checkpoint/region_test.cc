#include "core/checkpoint/region.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "core/checkpoint/checksums.h"
#include "tests/core/checkpoint/testing.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

// Marks, in a count per element of the shape, the elements that a region holds; by definition, not by boxes.
void Mark(const std::vector<int64_t>& shape, const Region& region, std::vector<int>* count) {
  for (int64_t i = region.begin; i < region.end; ++i) {
    int64_t rest = i, index = 0, stride = 1;
    for (int d = static_cast<int>(shape.size()) - 1; d >= 0; --d) {
      index += (region.box.offset[d] + rest % region.box.size[d]) * stride;
      rest /= region.box.size[d];
      stride *= shape[d];
    }
    ++(*count)[index];
  }
}

std::vector<int64_t> RandomShape(std::mt19937_64& random) {
  std::vector<int64_t> shape(random() % 5);
  for (int64_t& s : shape) s = 1 + static_cast<int64_t>(random() % 6);
  return shape;
}

Region RandomRegion(std::mt19937_64& random, const std::vector<int64_t>& shape) {
  Box box;
  for (int64_t s : shape) {
    const int64_t begin = static_cast<int64_t>(random() % s),
                  end = begin + 1 + static_cast<int64_t>(random() % (s - begin));
    box.offset.push_back(begin);
    box.size.push_back(end - begin);
  }
  Region region = Region::OfBox(box);
  if (random() % 2) {
    region.begin = static_cast<int64_t>(random() % region.end);
    region.end = region.begin + 1 + static_cast<int64_t>(random() % (region.end - region.begin));
  }
  return region;
}

std::string Label(int r) { return "region " + std::to_string(r); }

// Cuts a box along a random dim until it is small, then into ranges: an exact cover by construction.
void Cut(std::mt19937_64& random, const Box& box, std::vector<Region>* out) {
  std::vector<int> dims;
  for (size_t d = 0; d < box.size.size(); ++d) {
    if (box.size[d] > 1) dims.push_back(static_cast<int>(d));
  }
  if (dims.empty() || random() % 3 == 0) {
    const Region whole = Region::OfBox(box);
    const int64_t middle = static_cast<int64_t>(random() % (whole.end + 1));
    if (middle > 0) out->push_back({box, 0, middle});
    if (middle < whole.end) out->push_back({box, middle, whole.end});
    return;
  }
  const int d = dims[random() % dims.size()];
  const int64_t at = 1 + static_cast<int64_t>(random() % (box.size[d] - 1));
  Box low = box, high = box;
  low.size[d] = at;
  high.offset[d] += at;
  high.size[d] -= at;
  Cut(random, low, out);
  Cut(random, high, out);
}

TEST(RegionTest, BoxesOfARangeHoldItsElementsOnce) {
  std::mt19937_64 random(testing::FreshSeed());
  for (int round = 0; round < 3000; ++round) {
    const std::vector<int64_t> shape = RandomShape(random);
    const Region region = RandomRegion(random, shape);
    std::vector<Box> boxes;
    AppendBoxes(region, &boxes);
    EXPECT_LE(boxes.size(), std::max<size_t>(1, 2 * shape.size()));
    std::vector<int> expected(Box::Whole(shape).elements(), 0), found = expected;
    Mark(shape, region, &expected);
    for (const Box& box : boxes) Mark(shape, Region::OfBox(box), &found);
    ASSERT_EQ(found, expected) << ToString(region);
  }
}

TEST(RegionTest, CoverageProofAgreesWithCounting) {
  std::mt19937_64 random(testing::FreshSeed());
  int exact = 0, gaps = 0, overlaps = 0;
  for (int round = 0; round < 4000; ++round) {
    const std::vector<int64_t> shape = RandomShape(random);
    std::vector<Region> regions;
    Cut(random, Box::Whole(shape), &regions);
    std::shuffle(regions.begin(), regions.end(), random);
    switch (random() % 5) {
      case 0:
        regions.pop_back();
        break;
      case 1:
        regions.push_back(RandomRegion(random, shape));
        break;
      case 2: {  // the total is right, the places are wrong
        regions.pop_back();
        regions.push_back(RandomRegion(random, shape));
        break;
      }
      default:
        break;
    }
    std::vector<int> count(Box::Whole(shape).elements(), 0);
    for (const Region& region : regions) Mark(shape, region, &count);
    const bool gap = std::count(count.begin(), count.end(), 0) > 0;
    const bool overlap = std::any_of(count.begin(), count.end(), [](int c) { return c > 1; });
    const absl::Status status = ProveCoverage(shape, regions, Label);
    ASSERT_EQ(status.ok(), !gap && !overlap) << ShapeToString(shape) << " " << status;
    if (status.ok()) {
      ++exact;
    } else if (std::string(status.message()).starts_with("gap")) {
      ASSERT_TRUE(gap);
      ++gaps;
    } else {
      ASSERT_TRUE(overlap);
      ++overlaps;
    }
  }
  EXPECT_GT(exact, 1000);
  EXPECT_GT(gaps, 300);
  EXPECT_GT(overlaps, 300);
}

TEST(RegionTest, NamesThePlaceOfAGapAndAnOverlap) {
  const std::vector<int64_t> shape = {4, 6};
  const Region left = Region::OfBox({{0, 0}, {4, 3}}), right = Region::OfBox({{0, 3}, {4, 3}});
  const Region right_but_last{right.box, 0, 11};
  EXPECT_TRUE(ProveCoverage(shape, {left, right}, Label).ok());
  EXPECT_THAT(std::string(ProveCoverage(shape, {left, right_but_last}, Label).message()),
              HasSubstr("gap: element [3, 5]"));
  EXPECT_THAT(std::string(ProveCoverage(shape, {left, right, Region{left.box, 4, 5}}, Label).message()),
              HasSubstr("overlap: element [1, 1] is in region 0 and in region 2"));
}

TEST(RegionTest, CoverageOfHugeTensorsTakesNoMemoryPerElement) {
  // 2^56 elements, cut as 8 column shards in 64 ranges each.
  const std::vector<int64_t> shape = {int64_t{1} << 28, int64_t{1} << 28};
  std::vector<Region> regions;
  for (int t = 0; t < 8; ++t) {
    const Box box{{0, t * (shape[1] / 8)}, {shape[0], shape[1] / 8}};
    const int64_t elements = box.elements(), part = elements / 63;
    for (int64_t begin = 0; begin < elements; begin += part) {
      regions.push_back({box, begin, std::min(elements, begin + part)});
    }
  }
  EXPECT_TRUE(ProveCoverage(shape, regions, Label).ok());
  regions[100].end -= 1;
  EXPECT_FALSE(ProveCoverage(shape, regions, Label).ok());
  regions[100].end += 2;
  EXPECT_FALSE(ProveCoverage(shape, regions, Label).ok());
}

TEST(RegionTest, ForgedFragmentationIsRefusedInBoundedTime) {
  const int64_t side = 40000;
  std::vector<Region> regions;  // a comb against a comb: work would grow as the square
  for (int64_t i = 0; i < side; ++i) regions.push_back(Region::OfBox({{i, i}, {side - i, 1}}));
  const absl::Status status = ProveCoverage({side, side}, regions, Label);
  EXPECT_FALSE(status.ok());
  std::vector<Region> columns;
  for (int64_t i = 0; i < side; ++i) {
    columns.push_back({{{0, i}, {side, 1}}, 0, side - i});
    if (i > 0) columns.push_back({{{0, i}, {side, 1}}, side - i, side});
  }
  EXPECT_THAT(std::string(ProveCoverage({side, side}, columns, Label).message()),
              HasSubstr("too fragmented"));
}

TEST(RegionTest, RefusesBadShapesAndRegions) {
  EXPECT_THAT(std::string(CountElements({1 << 20, 1 << 20, 1 << 20}).status().message()),
              HasSubstr("overflows"));
  EXPECT_FALSE(CountElements({-1}).ok());
  EXPECT_FALSE(CountElements(std::vector<int64_t>(17, 1)).ok());
  EXPECT_EQ(*CountElements({}), 1);
  EXPECT_FALSE(CheckRegion({4}, {{{0}, {5}}, 0, 4}).ok());
  EXPECT_FALSE(CheckRegion({4}, {{{3}, {2}}, 0, 2}).ok());
  EXPECT_FALSE(CheckRegion({4}, {{{INT64_MAX}, {INT64_MAX}}, 0, 2}).ok());
  EXPECT_FALSE(CheckRegion({4}, {{{0}, {4}}, 0, 5}).ok());
  EXPECT_FALSE(CheckRegion({4}, {{{0}, {4}}, 3, 2}).ok());
  EXPECT_FALSE(CheckRegion({4}, {{{0, 0}, {4, 1}}, 0, 4}).ok());
}

TEST(ChecksumsTest, PublishedVectors) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string text = "the sum of a followed by b";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string a = text.substr(0, cut), b = text.substr(cut);
    EXPECT_EQ(Crc32c(b, Crc32c(a)), Crc32c(text));
    EXPECT_EQ(Crc32cCombine(Crc32c(a), Crc32c(b), static_cast<int64_t>(b.size())), Crc32c(text));
  }
}

}  // namespace
}  // namespace tanren
