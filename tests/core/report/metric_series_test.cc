#include "core/report/metric_series.h"

#include <cmath>
#include <random>

#include "core/report/metrics_reader.h"
#include "gmock/gmock.h"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

using testing::ElementsAre;

TEST(MetricSeries, AFewValuesAreKeptAsTheyAre) {
  MetricSeries series;
  for (int i = 0; i < static_cast<int>(MetricSeries::kMaxBuckets); ++i) series.Add(10 * i, i % 7);
  const auto points = series.Points();
  ASSERT_EQ(points.size(), MetricSeries::kMaxBuckets);
  for (int i = 0; i < static_cast<int>(points.size()); ++i) {
    EXPECT_EQ(points[i].step, 10 * i);
    EXPECT_EQ(points[i].value, i % 7);
  }
}

// Spikes of one value at random places stay, with their steps, and so do the first and the last value.
TEST(MetricSeries, NoSpikeIsLost) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const int count : {401, 1000, 12345, 100'000}) {
    const int high = 1 + static_cast<int>(random() % (count - 2));
    int low = 1 + static_cast<int>(random() % (count - 2));
    if (low == high) low = low == 1 ? 2 : low - 1;
    MetricSeries series;
    for (int i = 0; i < count; ++i) {
      const double noise = static_cast<double>(random() % 1000) / 1000;
      series.Add(i + 1, i == high ? 50 : i == low ? -50 : noise);
    }
    const auto points = series.Points();
    EXPECT_LE(points.size(), 4 * MetricSeries::kMaxBuckets);
    EXPECT_GE(points.size(), MetricSeries::kMaxBuckets / 2);
    EXPECT_EQ(points.front().step, 1);
    EXPECT_EQ(points.back().step, count);
    bool has_high = false, has_low = false;
    for (size_t i = 0; i < points.size(); ++i) {
      has_high = has_high || (points[i].value == 50 && points[i].step == high + 1);
      has_low = has_low || (points[i].value == -50 && points[i].step == low + 1);
      if (i > 0) {
        EXPECT_LT(points[i - 1].index, points[i].index);
      }
    }
    EXPECT_TRUE(has_high && has_low) << count;
    EXPECT_EQ(series.maximum(), 50);
    EXPECT_EQ(series.minimum(), -50);
    EXPECT_EQ(series.count(), count);
  }
}

TEST(MetricSeries, WhatIsNotFiniteIsCountedAside) {
  MetricSeries series;
  series.Add(1, 2);
  series.Add(2, NAN);
  series.Add(3, INFINITY);
  EXPECT_EQ(series.Points().size(), 1);
  EXPECT_EQ(series.not_finite(), 2);
  EXPECT_THAT(series.not_finite_steps(), ElementsAre(2, 3));
  EXPECT_EQ(series.last(), 2);
}

TEST(RunMetrics, DamagedLinesArePassedOver) {
  const TemporaryDirectory run;
  EXPECT_EQ(ReadRunMetrics(run.path()).status().code(), absl::StatusCode::kNotFound);
  WriteAll(run / "metrics.jsonl",
           "{\"step\":1,\"loss\":4.5,\"step_seconds\":2}\n"
           "{\"step\":2,\"lo\n"
           "\n"
           "[1,2]\n{\"step\":\"3\",\"loss\":1}\n{\"step\":3.5,\"loss\":1}\n\xff\xfe{}\n" +
               std::string(2 << 20, 'x') +
               "\n{\"step\":3,\"loss\":\"nan\",\"odd\":\"text\",\"list\":[1]}\n"
               "{\"step\":5,\"loss\":2.5,\"step_seconds\":1}\n"
               "{\"step\":6,\"loss\":2.");
  const auto metrics = ReadRunMetrics(run.path());
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  EXPECT_EQ(metrics->lines, 3);
  EXPECT_EQ(metrics->damaged_lines, 7);
  ASSERT_EQ(metrics->figures.size(), 2);
  const MetricSeries& loss = *metrics->Find("loss");
  EXPECT_EQ(loss.count(), 2);
  EXPECT_THAT(loss.not_finite_steps(), ElementsAre(3));
  EXPECT_EQ(metrics->first_step, 1);
  EXPECT_EQ(metrics->last_step, 5);
  EXPECT_EQ(metrics->seconds, 2 + 4 * 1);
}

TEST(RunMetrics, NamesAreBounded) {
  const TemporaryDirectory run;
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += "{\"step\":" + std::to_string(i) + ",\"x" + std::to_string(i) + "\":1}\n";
  WriteAll(run / "metrics.jsonl", text);
  const auto metrics = ReadRunMetrics(run.path());
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  EXPECT_EQ(metrics->figures.size(), RunMetrics::kMaxNames);
  EXPECT_TRUE(metrics->too_many_names);
  EXPECT_EQ(metrics->lines, 1000);
}

TEST(MetricsReader, AVisitCanEndIt) {
  const TemporaryDirectory run;
  WriteAll(run / "metrics.jsonl", "{\"step\":1,\"a\":-0.0,\"b\":\"-inf\"}\n{\"step\":2}\n{\"step\":3}\n");
  int visits = 0;
  const auto counts = ReadMetrics(run.path(), [&](const MetricsLine& line) {
    if (++visits == 1) {
      EXPECT_EQ(line.step, 1);
      EXPECT_THAT(line.figures, ElementsAre(testing::Pair("a", 0.0), testing::Pair("b", -INFINITY)));
    }
    return line.step < 2;
  });
  ASSERT_TRUE(counts.ok()) << counts.status();
  EXPECT_EQ(visits, 2);
}

}  // namespace
}  // namespace tanren
