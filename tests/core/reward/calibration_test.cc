// Calibration of differences between rewards, against figures by hand and against the definition.
#include "core/reward/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tanren {
namespace {

// The difference at which the better answer has this probability.
double Logit(double probability) { return std::log(probability / (1 - probability)); }

TEST(PairCalibration, ByHand) {
  // Three pairs at 0.925, two of them right; one at 0.625, right; one at 0.5, half right.
  PairCalibration pairs;
  for (const double p : {0.925, 0.925, 0.075, 0.625, 0.5}) pairs.Add(Logit(p));
  EXPECT_NEAR(pairs.brier(), (2 * 0.075 * 0.075 + 0.925 * 0.925 + 0.375 * 0.375 + 0.25) / 5, 1e-12);
  EXPECT_NEAR(pairs.error(), (std::abs(2 - 3 * 0.925) + std::abs(1 - 0.625) + 0) / 5, 1e-12);
}

TEST(PairCalibration, OfOneBinErrorsBothWaysCancelAndOfTwoTheyDoNot) {
  // Nineteen of twenty right at 0.95 and above is calibrated, whichever one is wrong.
  PairCalibration calibrated;
  for (int i = 0; i < 19; ++i) calibrated.Add(Logit(0.9500001));
  calibrated.Add(-Logit(0.9500001));
  EXPECT_NEAR(calibrated.error(), 0, 1e-6);
  PairCalibration apart;
  apart.Add(Logit(0.6));   // right, 0.4 above
  apart.Add(-Logit(0.9));  // wrong, 0.9 below
  EXPECT_NEAR(apart.error(), (0.4 + 0.9) / 2, 1e-12);
}

TEST(PairCalibration, Extremes) {
  PairCalibration sure, wrong, blind, none, nan;
  for (const double d : {1e4, std::numeric_limits<double>::infinity()}) {
    sure.Add(d);
    wrong.Add(-d);
    blind.Add(0);
  }
  EXPECT_EQ(sure.brier(), 0);
  EXPECT_EQ(sure.error(), 0);
  EXPECT_EQ(wrong.brier(), 1);
  EXPECT_EQ(wrong.error(), 1);
  EXPECT_EQ(blind.brier(), 0.25);
  EXPECT_EQ(blind.error(), 0);
  EXPECT_TRUE(std::isnan(none.brier()) && std::isnan(none.error()));
  nan.Add(1);
  nan.Add(std::nan(""));
  EXPECT_TRUE(std::isnan(nan.brier()) && std::isnan(nan.error()));
}

// Scores that say what is so: the error falls to what the number of pairs leaves; ten times as sure, it is
// large.
TEST(PairCalibration, SeesScoresThatAreTooSure) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform;
  std::normal_distribution<double> normal;
  PairCalibration honest, sure;
  for (int i = 0; i < 40000; ++i) {
    const double difference = normal(random);
    const double sign = uniform(random) < 1 / (1 + std::exp(-difference)) ? 1 : -1;
    honest.Add(sign * difference);
    sure.Add(10 * sign * difference);
  }
  // Ten bins of about 4,000 pairs, each off by 0.5 / sqrt(4000) or so.
  EXPECT_LT(honest.error(), 0.02);
  EXPECT_GT(sure.error(), 0.2);
  EXPECT_LT(honest.brier(), sure.brier());
}

// Micro-batches and ranks add their sums; weights count pairs.
TEST(PairCalibration, SumsAdd) {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal(0.5, 2);
  PairCalibration whole, parts[3], added;
  for (int i = 0; i < 300; ++i) {
    const double difference = normal(random);
    whole.Add(difference);
    whole.Add(difference);
    parts[i % 3].Add(difference, 2);
  }
  for (PairCalibration& part : parts) {
    for (int s = 0; s < PairCalibration::kSums; ++s) added.sums()[s] += part.sums()[s];
  }
  EXPECT_NEAR(added.brier(), whole.brier(), 1e-12);
  EXPECT_NEAR(added.error(), whole.error(), 1e-12);
}

}  // namespace
}  // namespace tanren
