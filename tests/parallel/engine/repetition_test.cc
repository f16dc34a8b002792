#include "parallel/engine/repetition.h"

#include <cmath>
#include <map>
#include <random>

#include "gtest/gtest.h"

namespace tanren {
namespace {

constexpr int64_t kVocab = 50;

GenerationRequest Request(std::vector<int32_t> prompt, float penalty, int32_t ngram) {
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.repetition = {penalty, ngram};
  return request;
}

// By token; every penalty is of row 3.
std::map<int32_t, float> PenaltiesOf(const RepetitionTracker& tracker) {
  std::vector<kernels::TokenPenalty> penalties(kVocab);
  const int64_t count = tracker.Write(3, penalties.data());
  std::map<int32_t, float> by_token;
  for (int64_t i = 0; i < count; ++i) {
    EXPECT_EQ(penalties[i].row, 3);
    EXPECT_TRUE(by_token.emplace(penalties[i].token, penalties[i].penalty).second) << "twice the same token";
  }
  return by_token;
}

std::vector<int32_t> BannedIn(const RepetitionTracker& tracker) {
  std::vector<int32_t> banned;
  for (const auto& [token, penalty] : PenaltiesOf(tracker)) {
    if (std::isinf(penalty)) banned.push_back(token);
  }
  return banned;
}

TEST(RepetitionTracker, PenalisesEveryTokenOfPromptAndAnswerOnce) {
  RepetitionTracker tracker(Request({4, 7, 4}, 1.5f, 0), kVocab);
  EXPECT_EQ(PenaltiesOf(tracker), (std::map<int32_t, float>{{4, 1.5f}, {7, 1.5f}}));
  tracker.Add(9);
  tracker.Add(7);
  EXPECT_EQ(PenaltiesOf(tracker), (std::map<int32_t, float>{{4, 1.5f}, {7, 1.5f}, {9, 1.5f}}));
}

TEST(RepetitionTracker, OffIsNothing) {
  RepetitionTracker tracker(Request({4, 7, 4}, 1, 0), kVocab);
  tracker.Add(4);
  EXPECT_TRUE(PenaltiesOf(tracker).empty());
}

TEST(RepetitionTracker, BansWhatWouldRepeatAnNgram) {
  RepetitionTracker tracker(Request({1, 2, 3, 1, 2}, 1, 3), kVocab);
  EXPECT_EQ(BannedIn(tracker), std::vector<int32_t>{3});
  tracker.Add(5);
  EXPECT_TRUE(BannedIn(tracker).empty());
  tracker.Add(1);
  tracker.Add(2);  // followed by 3, and by 5
  EXPECT_EQ(BannedIn(tracker), (std::vector<int32_t>{3, 5}));
  EXPECT_EQ(BannedIn(RepetitionTracker(Request({6, 6, 8}, 2, 1), kVocab)), (std::vector<int32_t>{6, 8}));
  EXPECT_TRUE(BannedIn(RepetitionTracker(Request({6}, 1, 1000), kVocab)).empty());
}

// An answer drawn at random from what is allowed never holds an n-gram twice.
TEST(RepetitionTracker, NoNgramOccursTwice) {
  std::mt19937 random(3);
  for (const int32_t n : {2, 3}) {
    const GenerationRequest request = Request({0}, 1, n);
    RepetitionTracker tracker(request, 9);
    std::vector<int32_t> tokens = request.prompt;
    std::map<std::vector<int32_t>, int> seen;
    for (int i = 0; i < 40; ++i) {
      const std::vector<int32_t> banned = BannedIn(tracker);
      int32_t token;
      do {
        token = static_cast<int32_t>(random() % 9);
      } while (std::find(banned.begin(), banned.end(), token) != banned.end());
      tokens.push_back(token);
      tracker.Add(token);
      if (tokens.size() < static_cast<size_t>(n)) continue;
      const int times = ++seen[std::vector<int32_t>(tokens.end() - n, tokens.end())];
      EXPECT_EQ(times, 1) << "length " << n << " at " << i;
    }
  }
}

TEST(RepetitionTracker, EndsOfAnAnswerAndAFullyBannedVocabularyAreFree) {
  GenerationRequest request = Request({1, 2, 3, 1, 2}, 1.5f, 3);
  request.stop = {{3}, {2, 2}};
  EXPECT_EQ(PenaltiesOf(RepetitionTracker(request, kVocab)),
            (std::map<int32_t, float>{{1, 1.5f}, {2, 1.5f}}));
  EXPECT_TRUE(BannedIn(RepetitionTracker(Request({0, 1, 2}, 1, 1), 3)).empty());
  EXPECT_EQ(BannedIn(RepetitionTracker(Request({0, 1, 2}, 1, 1), 4)).size(), 3u);
}

}  // namespace
}  // namespace tanren
