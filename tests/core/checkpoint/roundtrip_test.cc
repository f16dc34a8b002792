#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "core/base/status.h"
#include "core/checkpoint/resume.h"
#include "core/checkpoint/tools.h"
#include "tests/core/checkpoint/testing.h"

namespace tanren {
namespace {

using testing::GlobalTensor;
using ::testing::HasSubstr;
using testing::OnRanks;
using testing::RankPieces;
using testing::ScratchDirectory;

// Loads at a layout through LoadCheckpoint and compares every piece with an element-wise slice.
void ExpectLoads(const std::string& run_dir, const std::vector<GlobalTensor>& tensors, int data_ranks,
                 int tensor_ranks) {
  OnRanks(data_ranks * tensor_ranks, [&](Comm& world) {
    const RankPieces mine = testing::MakePieces(tensors, data_ranks, tensor_ranks, world.rank(), false);
    const auto loaded =
        LoadCheckpoint(world, {run_dir, "auto", {}}, [&](const CheckpointReader&) { return mine.pieces; });
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    ASSERT_NE(loaded->reader, nullptr);
    for (size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(*mine.memory[i], testing::NaiveSlice(tensors[i], mine.pieces[i]))
          << TensorKey(tensors[i].info) << " " << ToString(mine.pieces[i].region());
    }
  });
}

TEST(RoundTripTest, AnyLayoutReadsAnyLayout) {
  std::mt19937_64 random(testing::FreshSeed());
  for (int save_tensor = 1; save_tensor <= 4; ++save_tensor) {
    for (int save_data = 1; save_data <= 4; ++save_data) {
      ScratchDirectory scratch;
      const std::vector<GlobalTensor> tensors = testing::RandomTensors(random, 30);
      ASSERT_TRUE(testing::SaveAt(scratch.path(), 7, tensors, save_data, save_tensor).ok());
      ASSERT_TRUE(testing::CheckHolds(scratch / "step-00000007", tensors).ok());
      for (int i = 0; i < (testing::Soak() ? 16 : 3); ++i) {
        const int load_data = testing::Soak() ? 1 + i / 4 : 1 + static_cast<int>(random() % 4);
        const int load_tensor = testing::Soak() ? 1 + i % 4 : 1 + static_cast<int>(random() % 4);
        SCOPED_TRACE(absl::StrCat(save_data, "x", save_tensor, " -> ", load_data, "x", load_tensor));
        ExpectLoads(scratch.path(), tensors, load_data, load_tensor);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(RoundTripTest, PiecesLargerThanABlockAndUnaligned) {
  std::mt19937_64 random(testing::FreshSeed());
  GlobalTensor wide, narrow;
  wide.info = {"policy", "wide", Role::kWeight, DType::kF32, {1001, 1537}};
  narrow.info = {"policy", "narrow", Role::kFirstMoment, DType::kBF16, {1, 3, 700001}};
  wide.shard_dim = 1;
  for (GlobalTensor* tensor : {&wide, &narrow}) {
    tensor->data.resize(
        static_cast<size_t>(Box::Whole(tensor->info.shape).elements() * SizeOf(tensor->info.dtype)));
    for (size_t i = 0; i + 8 <= tensor->data.size(); i += 8) {
      const uint64_t word = random();
      memcpy(tensor->data.data() + i, &word, 8);
    }
  }
  ScratchDirectory scratch(ScratchDirectory::kDisk);
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 1, {wide, narrow}, 3, 2).ok());
  ExpectLoads(scratch.path(), {wide, narrow}, 1, 1);
  ExpectLoads(scratch.path(), {wide, narrow}, 2, 3);
}

TEST(RoundTripTest, StateConfigAndTokenizerComeBack) {
  std::mt19937_64 random(testing::FreshSeed());
  ScratchDirectory scratch;
  const auto tensors = testing::RandomTensors(random, 3);
  const std::string big(3 << 20, 'x');
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 3, tensors, 2, 1, [&](int, SaveRequest* r) {
                r->state["rollout"] = big;
              }).ok());
  OnRanks(3, [&](Comm& world) {
    const auto reader = CheckpointReader::Open(world, scratch / "step-00000003");
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(*(*reader)->State("rng"), std::string("\x00\x01\xff", 3));
    EXPECT_EQ(*(*reader)->State("rollout"), big);
    EXPECT_FALSE((*reader)->State("absent").ok());
    EXPECT_EQ(*(*reader)->ConfigText(), "model: tiny\n");
    EXPECT_EQ((*reader)->ReadTokenizer()->at("merges.txt"), "a b\n");
    EXPECT_EQ((*reader)->manifest().mesh.data, 2);
  });
  EXPECT_EQ(testing::ReadFile(scratch / "LATEST"), "step-00000003\n");
}

TEST(RoundTripTest, WholeTensorsAreReadableBySafetensorsUnderTheirNames) {
  ScratchDirectory scratch;
  GlobalTensor tensor;
  tensor.info = {"policy", "wte", Role::kWeight, DType::kF32, {2, 3}};
  tensor.data.assign(24, 'q');
  tensor.shard_dim = 0;
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 1, {tensor}, 1, 1).ok());
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 2, {tensor}, 1, 2).ok());
  const auto whole = SafetensorsFile::Open(scratch / "step-00000001/model-00000.safetensors");
  EXPECT_NE(whole->header().Find("policy/wte"), nullptr);
  const auto slice = SafetensorsFile::Open(scratch / "step-00000002/model-00001.safetensors");
  EXPECT_EQ(slice->header().Find("policy/wte"), nullptr);
  EXPECT_NE(slice->header().Find("policy/wte@1,0+1,3"), nullptr);
}

TEST(RoundTripTest, MomentsAreConvertedWhereThatIsDeclared) {
  std::mt19937_64 random(testing::FreshSeed());
  // The second is read in more than one part.
  const std::vector<std::vector<int64_t>> shapes = {{5, 7}, {3, kStagingBytes / 4}, {0}};
  for (const DType from : {DType::kF32, DType::kBF16}) {
    const DType to = from == DType::kF32 ? DType::kBF16 : DType::kF32;
    std::vector<GlobalTensor> saved;
    for (size_t i = 0; i < shapes.size(); ++i) {
      GlobalTensor tensor;
      tensor.info = {"policy", absl::StrCat("t", i), i % 2 ? Role::kSecondMoment : Role::kFirstMoment, from,
                     shapes[i]};
      const int64_t elements = Box::Whole(shapes[i]).elements();
      tensor.data.resize(static_cast<size_t>(elements * SizeOf(from)));
      for (int64_t e = 0; e < elements; ++e) {
        const float value = std::ldexp(static_cast<float>(random() % 100000) - 5e4f, -20);
        const BFloat16 rounded(value);
        if (from == DType::kF32) memcpy(tensor.data.data() + 4 * e, &value, 4);
        if (from == DType::kBF16) memcpy(tensor.data.data() + 2 * e, &rounded, 2);
      }
      saved.push_back(std::move(tensor));
    }
    std::vector<GlobalTensor> wanted = saved;
    for (GlobalTensor& tensor : wanted) {
      tensor.info.dtype = to;
      const int64_t elements = Box::Whole(tensor.info.shape).elements();
      std::vector<char> values(static_cast<size_t>(elements * SizeOf(to)));
      for (int64_t e = 0; e < elements; ++e) {
        float value = 0;
        BFloat16 narrow;
        if (from == DType::kF32) {
          memcpy(&value, tensor.data.data() + 4 * e, 4);
          narrow = BFloat16(value);
          memcpy(values.data() + 2 * e, &narrow, 2);
        } else {
          memcpy(&narrow, tensor.data.data() + 2 * e, 2);
          value = static_cast<float>(narrow);
          memcpy(values.data() + 4 * e, &value, 4);
        }
      }
      tensor.data = std::move(values);
    }
    ScratchDirectory scratch;
    ASSERT_TRUE(testing::SaveAt(scratch.path(), 1, saved, 2, 1).ok());
    const auto load = [&](const std::function<bool(const TensorInfo&)>& may_be_converted) {
      absl::StatusOr<LoadResult> result = absl::UnknownError("not run");
      OnRanks(3, [&](Comm& world) {
        const RankPieces mine = testing::MakePieces(wanted, 3, 1, world.rank(), false);
        LoadRequest request{scratch.path(), "auto", {}};
        request.read.may_be_converted = may_be_converted;
        auto loaded = LoadCheckpoint(world, request, [&](const CheckpointReader&) { return mine.pieces; });
        for (size_t i = 0; loaded.ok() && i < wanted.size(); ++i) {
          EXPECT_EQ(*mine.memory[i], testing::NaiveSlice(wanted[i], mine.pieces[i])) << i;
        }
        if (world.rank() == 0) result = std::move(loaded);
      });
      return result;
    };
    const auto loaded = load([](const TensorInfo&) { return true; });
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->report.converted_tensors.size(), wanted.size());
    for (const auto& refused :
         {load(nullptr), load([](const TensorInfo& stored) { return stored.role == Role::kFirstMoment; })}) {
      EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(refused.status().message()),
                  HasSubstr(absl::StrCat(" in the checkpoint, ", NameOf(to))));
    }
  }
}

TEST(RoundTripTest, NewAndDroppedTensorsMustBeDeclared) {
  std::mt19937_64 random(testing::FreshSeed());
  ScratchDirectory scratch;
  std::vector<GlobalTensor> saved = testing::RandomTensors(random, 4), wanted = saved;
  wanted.pop_back();
  GlobalTensor added;
  added.info = {"policy", "score.weight", Role::kWeight, DType::kF32, {5}};
  added.data.assign(20, '\xee');
  wanted.push_back(added);
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 1, saved, 1, 1).ok());
  const auto load = [&](bool declare_new, bool declare_dropped) {
    absl::StatusOr<LoadResult> result = absl::UnknownError("not run");
    OnRanks(2, [&](Comm& world) {
      const RankPieces mine = testing::MakePieces(wanted, 2, 1, world.rank(), false);
      LoadRequest request{scratch.path(), "auto", {}};
      if (declare_new) request.read.may_be_new = [](const TensorInfo& t) { return t.name == "score.weight"; };
      if (declare_dropped)
        request.read.may_be_dropped = [&](const TensorInfo& t) { return t == saved[3].info; };
      auto loaded = LoadCheckpoint(world, request, [&](const CheckpointReader&) { return mine.pieces; });
      if (world.rank() == 0) result = std::move(loaded);
    });
    return result;
  };
  EXPECT_THAT(std::string(load(false, true).status().message()), HasSubstr("no tensor policy/score.weight"));
  EXPECT_THAT(std::string(load(true, false).status().message()), HasSubstr("not declared as dropped"));
  EXPECT_EQ(load(false, false).status().code(), absl::StatusCode::kInvalidArgument)
      << "no fallback, no fresh start";
  const auto loaded = load(true, true);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->report.new_tensors, std::vector<std::string>{"policy/score.weight"});
  EXPECT_EQ(loaded->report.dropped_tensors, std::vector<std::string>{TensorKey(saved[3].info)});
}

TEST(RoundTripTest, AnotherShapeOrTypeIsRefusedWithBoth) {
  ScratchDirectory scratch;
  GlobalTensor tensor;
  tensor.info = {"policy", "wte", Role::kWeight, DType::kF32, {2, 3}};
  tensor.data.assign(24, 'q');
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 1, {tensor}, 1, 1).ok());
  tensor.info.shape = {3, 2};
  EXPECT_THAT(std::string(testing::CheckHolds(scratch / "step-00000001", {tensor}).message()),
              HasSubstr("float32 [2, 3] in the checkpoint, float32 [3, 2] in this run"));
}

TEST(RoundTripTest, GapsOverlapsAndDisagreementsAreNotCommitted) {
  std::mt19937_64 random(testing::FreshSeed());
  GlobalTensor tensor;
  tensor.info = {"policy", "wte", Role::kOther, DType::kF32, {8, 3}};
  tensor.data.assign(96, 'q');
  ScratchDirectory scratch;
  const auto save = [&](const std::function<void(int, SaveRequest*)>& adjust) {
    const absl::Status status = testing::SaveAt(scratch.path(), 1, {tensor}, 2, 1, adjust);
    EXPECT_TRUE(std::filesystem::is_empty(scratch.path())) << "nothing stays behind";
    return std::string(status.message());
  };
  EXPECT_THAT(save([](int rank, SaveRequest* r) {
                if (rank == 1) r->pieces = {};
              }),
              HasSubstr("gap: element [4, 0]"));
  std::vector<TensorPiece> doubled;
  EXPECT_THAT(save([&](int rank, SaveRequest* r) {
                if (rank != 1) return;
                doubled.assign(r->pieces.begin(), r->pieces.end());
                doubled[0].range_begin = 0;
                doubled[0].data = tensor.data.data();
                r->pieces = doubled;
              }),
              HasSubstr("overlap: element [0, 0]"));
  EXPECT_THAT(save([](int rank, SaveRequest* r) { r->step += rank; }),
              HasSubstr("rank 0 has step 1, rank 1 has step 2"));
  EXPECT_THAT(save([](int rank, SaveRequest* r) {
                if (rank) r->state["rng"] = "x";
              }),
              HasSubstr("state of SHA-256"));
}

TEST(RoundTripTest, SameStepTwice) {
  std::mt19937_64 random(testing::FreshSeed());
  ScratchDirectory scratch;
  std::vector<GlobalTensor> tensors = testing::RandomTensors(random, 8);
  tensors[0].data.resize(std::max<size_t>(8, tensors[0].data.size()));
  tensors[0].info.shape = {static_cast<int64_t>(tensors[0].data.size()) / SizeOf(tensors[0].info.dtype)};
  tensors[0].shard_dim = -1;
  tensors[0].data.resize(static_cast<size_t>(tensors[0].info.shape[0] * SizeOf(tensors[0].info.dtype)));
  SaveReport report;
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 5, tensors, 2, 2, nullptr, &report).ok());
  EXPECT_FALSE(report.already_committed);
  ASSERT_TRUE(testing::SaveAt(scratch.path(), 5, tensors, 3, 1, nullptr, &report).ok())
      << "another layout, same contents";
  EXPECT_TRUE(report.already_committed);
  const absl::Status other_state = testing::SaveAt(scratch.path(), 5, tensors, 1, 1,
                                                   [](int, SaveRequest* r) { r->state["rng"] = "other"; });
  EXPECT_EQ(other_state.code(), absl::StatusCode::kAlreadyExists) << other_state;
  std::vector<GlobalTensor> changed = tensors;
  changed[0].data[0] ^= 1;
  const absl::Status status = testing::SaveAt(scratch.path(), 5, changed, 2, 2);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr(TensorKey(tensors[0].info)));
  EXPECT_TRUE(testing::CheckHolds(scratch / "step-00000005", tensors).ok());
}

TEST(ToolsTest, DiffAndReshardAcrossLayouts) {
  std::mt19937_64 random(testing::FreshSeed());
  ScratchDirectory scratch;
  std::vector<GlobalTensor> tensors = testing::RandomTensors(random, 20);
  GlobalTensor known;
  known.info = {"policy", "known", Role::kWeight, DType::kF32, {3}};
  known.data.assign(12, 0);
  tensors.push_back(known);
  ASSERT_TRUE(testing::SaveAt(scratch / "a", 5, tensors, 2, 2).ok());
  const float changed[] = {0, 2.5f, 0};
  memcpy(tensors.back().data.data(), changed, sizeof(changed));
  ASSERT_TRUE(testing::SaveAt(scratch / "b", 5, tensors, 1, 3).ok());
  const auto solo = MakeSoloComm("world");
  const auto a = CheckpointReader::Open(*solo, scratch / "a/step-00000005");
  const auto b = CheckpointReader::Open(*solo, scratch / "b/step-00000005");
  ASSERT_TRUE(a.ok() && b.ok());
  const auto differences = DiffCheckpoints(**a, **b, nullptr);
  ASSERT_TRUE(differences.ok());
  ASSERT_EQ(differences->size(), 1u);
  EXPECT_EQ((*differences)[0].name, "policy/known");
  EXPECT_EQ((*differences)[0].elements, 1);
  EXPECT_EQ((*differences)[0].max_abs_difference, 2.5);

  const auto resharded = ReshardCheckpoint(**b, scratch / "c", 3, nullptr);
  ASSERT_TRUE(resharded.ok()) << resharded.status();
  EXPECT_TRUE(testing::CheckHolds(scratch / "c", tensors).ok());
  const auto c = CheckpointReader::Open(*solo, scratch / "c");
  EXPECT_TRUE(DiffCheckpoints(**b, **c, nullptr)->empty());
  for (const ChunkInfo& chunk : (*c)->manifest().chunks) EXPECT_FALSE(absl::StrContains(chunk.key, "@"));
  EXPECT_TRUE(ReshardCheckpoint(**b, scratch / "c", 3, nullptr)->already_committed);
  EXPECT_EQ(ReshardCheckpoint(**a, scratch / "c", 3, nullptr).status().code(),
            absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace tanren
