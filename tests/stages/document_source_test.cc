#include "stages/common/document_source.h"

#include <map>
#include <set>

#include "core/base/status.h"
#include "core/corpus/synthetic_token_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tanren {
namespace {

using testing::HasSubstr;

std::shared_ptr<const SyntheticTokenStore> Store(int64_t tokens, uint64_t seed = 3,
                                                 int64_t mean_document = 20) {
  return std::make_shared<SyntheticTokenStore>(tokens, mean_document, 97, seed);
}

std::unique_ptr<DocumentSource> Make(std::vector<DocumentSource::Part> parts,
                                     DocumentSource::Options options) {
  auto source = DocumentSource::Make(std::move(parts), options);
  TANREN_CHECK(source.ok());
  return *std::move(source);
}

// Every target is the store's next token, and no segment or target crosses the end of a document.
TEST(DocumentSource, SlicesAreTheStoresTokensCutAtDocuments) {
  const auto store = Store(5000);
  const auto source = Make({{store, 1}}, {64, true, false, false, 1});
  int64_t offset = 0;
  std::set<int64_t> trained;
  while (true) {
    const auto ref = source->Next();
    if (absl::IsOutOfRange(ref.status())) break;
    ASSERT_TRUE(ref.ok());
    Unit unit;
    ASSERT_TRUE(source->Load(*ref, &unit).ok());
    ASSERT_EQ(unit.tokens(), ref->tokens);
    int64_t at = 0;
    for (int32_t length : unit.segment_lengths) {
      for (int32_t i = 0; i < length; ++i, ++at) {
        EXPECT_EQ(unit.ids[at], store->TokenAt(offset + at));
        const bool last =
            store->DocumentContaining(offset + at) != store->DocumentContaining(offset + at + 1);
        EXPECT_EQ(unit.mask[at] != 0, !last);
        EXPECT_EQ(unit.targets[at], last ? -1 : store->TokenAt(offset + at + 1));
        EXPECT_TRUE(!last || i == length - 1);
        if (unit.mask[at]) trained.insert(offset + at);
      }
    }
    offset += unit.tokens();
  }
  EXPECT_EQ(offset, store->num_tokens() - 1);
  // Every token but the first of each document was a target once.
  EXPECT_EQ(static_cast<int64_t>(trained.size()), store->num_tokens() - store->num_documents());
}

TEST(DocumentSource, JoinedDocumentsAreOneSegment) {
  const auto source = Make({{Store(1000), 1}}, {64, false, false, false, 1});
  Unit unit;
  ASSERT_TRUE(source->Load(*source->Next(), &unit).ok());
  EXPECT_THAT(unit.segment_lengths, testing::ElementsAre(64));
  EXPECT_THAT(unit.mask, testing::Each(1));
}

TEST(DocumentSource, AnEpochCoversTheStoreOnceOnAShiftedGridInANewOrder) {
  const auto store = Store(64 * 50 + 1);
  const auto source = Make({{store, 1}}, {64, false, true, true, 9});
  std::vector<std::vector<int32_t>> first_ids(2);
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::multiset<std::vector<int32_t>> seen;
    for (int i = 0; i < 49; ++i) {  // a shifted grid of 50 slices holds 49
      Unit unit;
      ASSERT_TRUE(source->Load(*source->Next(), &unit).ok());
      first_ids[epoch].push_back(unit.ids[0]);
      seen.insert(unit.ids);
    }
    EXPECT_EQ(std::set<std::vector<int32_t>>(seen.begin(), seen.end()).size(), 49u) << "epoch " << epoch;
  }
  EXPECT_NE(first_ids[0], first_ids[1]);
}

TEST(DocumentSource, BlendsByWeight) {
  const auto source = Make({{Store(5000, 1), 3}, {Store(90000, 2), 1}}, {64, true, true, true, 1});
  std::map<int64_t, int64_t> tokens;
  for (int i = 0; i < 4000; ++i) {
    const auto ref = source->Next();
    tokens[ref->key] += ref->tokens;
    if (i <= 100) continue;
    EXPECT_NEAR(static_cast<double>(tokens[0]) / (tokens[0] + tokens[1]), 0.75, 0.01);
  }
}

TEST(DocumentSource, ResumesExactly) {
  const auto make = [] { return Make({{Store(5000, 1), 3}, {Store(900, 2), 1}}, {64, true, true, true, 5}); };
  const auto a = make();
  for (int i = 0; i < 333; ++i) ASSERT_TRUE(a->Next().ok());
  const auto b = make();
  ASSERT_TRUE(b->RestoreState(a->SaveState()).ok());
  for (int i = 0; i < 200; ++i) {
    const auto from_a = a->Next(), from_b = b->Next();
    EXPECT_EQ(from_a->index, from_b->index);
    EXPECT_EQ(from_a->key, from_b->key);
    Unit unit_a, unit_b;
    ASSERT_TRUE(a->Load(*from_a, &unit_a).ok());
    ASSERT_TRUE(b->Load(*from_b, &unit_b).ok());
    EXPECT_EQ(unit_a.ids, unit_b.ids);
  }
}

TEST(DocumentSource, RefusesTheCursorOfOtherData) {
  const auto a = Make({{Store(5000, 1), 1}}, {64, true, true, true, 5});
  for (const DocumentSource::Options& options :
       {DocumentSource::Options{32, true, true, true, 5}, DocumentSource::Options{64, false, true, true, 5},
        DocumentSource::Options{64, true, false, true, 5},
        DocumentSource::Options{64, true, true, true, 6}}) {
    const auto b = Make({{Store(5000, 1), 1}}, options);
    EXPECT_THAT(b->RestoreState(a->SaveState()).message(), HasSubstr("other data or another order"));
  }
  const auto c = Make({{Store(5000, 2), 1}}, {64, true, true, true, 5});
  EXPECT_FALSE(c->RestoreState(a->SaveState()).ok());
  EXPECT_FALSE(a->RestoreState("").ok());
}

// A corpus and a cursor beyond 2^32 tokens, through many epochs.
TEST(DocumentSource, ACursorBeyond32BitsResumesExactly) {
  const int64_t tokens = (int64_t{1} << 33) + 12345;
  const auto store = Store(tokens, 4, 5000);
  const auto make = [&] { return Make({{store, 1}}, {1024, true, true, true, 5}); };
  const auto a = make();
  // 5 * 2^22 slices of 1,024 tokens: more than 2^34 tokens, in the third epoch.
  const std::string state = a->SaveState();
  const std::string identity = state.substr(0, state.find('\n') + 1);
  const int64_t taken = int64_t{5} << 22;
  ASSERT_TRUE(a->RestoreState(identity + std::to_string(taken) + "\n").ok());
  const auto b = make();
  ASSERT_TRUE(b->RestoreState(a->SaveState()).ok());
  bool far = false;
  for (int i = 0; i < 64; ++i) {
    const auto from_a = a->Next(), from_b = b->Next();
    ASSERT_TRUE(from_a.ok() && from_b.ok());
    EXPECT_EQ(from_a->index, taken + i);
    Unit unit_a, unit_b;
    ASSERT_TRUE(a->Load(*from_a, &unit_a).ok());
    ASSERT_TRUE(b->Load(*from_b, &unit_b).ok());
    EXPECT_EQ(unit_a.ids, unit_b.ids);
    EXPECT_EQ(unit_a.tokens(), 1024);
    far = true;
  }
  EXPECT_TRUE(far);
}

TEST(DocumentSource, ATinyTextIsOneShortSlice) {
  const auto source = Make({{Store(7, 1, 100), 1}}, {64, false, true, true, 1});
  for (int i = 0; i < 3; ++i) {
    const auto ref = source->Next();
    EXPECT_EQ(ref->tokens, 6);
    Unit unit;
    EXPECT_TRUE(source->Load(*ref, &unit).ok());
  }
  EXPECT_FALSE(DocumentSource::Make({{Store(1, 1, 100), 1}}, {64, false, true, true, 1}).ok());
  EXPECT_FALSE(DocumentSource::Make({}, {64, false, true, true, 1}).ok());
}

}  // namespace
}  // namespace tanren
