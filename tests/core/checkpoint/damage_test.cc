// Nothing damaged or forged is ever accepted: it is refused by name, and a resume falls back one commit.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "absl/strings/match.h"
#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/checkpoint/resume.h"
#include "tests/core/checkpoint/testing.h"

namespace tanren {
namespace {

namespace fs = std::filesystem;
using testing::GlobalTensor;
using ::testing::HasSubstr;
using testing::ReadFile;
using testing::ScratchDirectory;
using testing::WriteFile;

GlobalTensor Filled(const std::string& name, Role role, std::vector<int64_t> shape, char fill) {
  GlobalTensor tensor;
  tensor.info = {"policy", name, role, DType::kF32, std::move(shape)};
  tensor.data.assign(static_cast<size_t>(Box::Whole(tensor.info.shape).elements() * 4), fill);
  tensor.shard_dim = 0;
  return tensor;
}

std::vector<GlobalTensor> TensorsOf(char fill) {
  return {Filled("a", Role::kWeight, {6, 4}, fill),
          Filled("b", Role::kWeight, {5}, static_cast<char>(fill + 1)),
          Filled("a", Role::kFirstMoment, {6, 4}, static_cast<char>(fill + 2))};
}

// A run with an older and a newer commit, both from 2 x 2 ranks.
class DamageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(testing::SaveAt(run_.path(), 10, older_, 2, 2).ok());
    ASSERT_TRUE(testing::SaveAt(run_.path(), 20, newer_, 2, 2).ok());
  }

  std::string InNewer(const std::string& name) const {
    return run_ / "step-00000020" + (name.empty() ? "" : "/" + name);
  }

  // What a resume of two ranks does now.
  struct Outcome {
    absl::Status status;
    int64_t step = -1;
    std::vector<std::string> warnings;
  };
  Outcome Resume(const std::string& resume) {
    Outcome outcome;
    testing::OnRanks(2, [&](Comm& world) {
      const testing::RankPieces mine = testing::MakePieces(newer_, 2, 1, world.rank(), false);
      const auto loaded = LoadCheckpoint(world, {run_.path(), resume, {}},
                                         [&](const CheckpointReader&) { return mine.pieces; });
      if (loaded.ok() && loaded->reader != nullptr) {
        const auto& truth = loaded->reader->manifest().step == 20 ? newer_ : older_;
        for (size_t i = 0; i < truth.size(); ++i) {
          EXPECT_EQ(*mine.memory[i], testing::NaiveSlice(truth[i], mine.pieces[i]));
        }
      }
      if (world.rank() != 0) return;
      outcome.status = loaded.status();
      if (!loaded.ok()) return;
      outcome.step = loaded->reader == nullptr ? 0 : loaded->reader->manifest().step;
      outcome.warnings = loaded->warnings;
    });
    return outcome;
  }

  // The newer commit is refused with this text; auto falls back, naming it; the path alone does not.
  void ExpectRefused(const std::string& text) {
    const Outcome by_path = Resume(InNewer(""));
    EXPECT_EQ(by_path.status.code(), absl::StatusCode::kDataLoss) << by_path.status;
    EXPECT_THAT(std::string(by_path.status.message()), HasSubstr(text));
    const Outcome automatic = Resume("auto");
    ASSERT_TRUE(automatic.status.ok()) << automatic.status;
    EXPECT_EQ(automatic.step, 10);
    ASSERT_EQ(automatic.warnings.size(), 1u);
    EXPECT_THAT(automatic.warnings[0], HasSubstr(text));
    EXPECT_THAT(automatic.warnings[0], HasSubstr("step-00000020"));
  }

  absl::StatusOr<Manifest> NewerManifest() { return DecodeManifest(ReadFile(InNewer("manifest.pb"))); }
  // A forger can compute COMMIT too.
  void Forge(const std::string& manifest) {
    WriteFile(InNewer("manifest.pb"), manifest);
    WriteFile(InNewer("COMMIT"), Sha256Hex(manifest) + "\n");
  }

  const std::vector<GlobalTensor> older_ = TensorsOf('1'), newer_ = TensorsOf('5');
  ScratchDirectory run_;
};

TEST_F(DamageTest, UndamagedResumesTheNewest) {
  const Outcome outcome = Resume("auto");
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.step, 20);
  EXPECT_TRUE(outcome.warnings.empty());
}

TEST_F(DamageTest, TruncatedShard) {
  fs::resize_file(InNewer("model-00001.safetensors"), fs::file_size(InNewer("model-00001.safetensors")) - 1);
  ExpectRefused("model-00001.safetensors");
}

TEST_F(DamageTest, GrownShard) {
  fs::resize_file(InNewer("optimizer-00002.safetensors"),
                  fs::file_size(InNewer("optimizer-00002.safetensors")) + 8);
  ExpectRefused("optimizer-00002.safetensors");
}

TEST_F(DamageTest, MissingShard) {
  fs::remove(InNewer("optimizer-00000.safetensors"));
  ExpectRefused("optimizer-00000.safetensors: No such file");
}

TEST_F(DamageTest, SwappedShards) {
  fs::rename(InNewer("model-00000.safetensors"), InNewer("x"));
  fs::rename(InNewer("model-00001.safetensors"), InNewer("model-00000.safetensors"));
  fs::rename(InNewer("x"), InNewer("model-00001.safetensors"));
  ExpectRefused("model-0000");
}

TEST_F(DamageTest, ShardOfAnotherStep) {
  fs::copy_file(run_ / "step-00000010/model-00000.safetensors", InNewer("model-00000.safetensors"),
                fs::copy_options::overwrite_existing);
  ExpectRefused("model-00000.safetensors");
}

TEST_F(DamageTest, EveryBitOfAShardCounts) {
  for (const char* name : {"model-00000.safetensors", "optimizer-00001.safetensors"}) {
    const std::string good = ReadFile(InNewer(name));
    for (size_t bit = 0; bit < good.size() * 8; bit += 7) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
      WriteFile(InNewer(name), bad);
      const absl::Status status = testing::CheckHolds(InNewer(""), newer_);
      ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << name << " bit " << bit;
      ASSERT_THAT(std::string(status.message()), HasSubstr(name));
    }
    WriteFile(InNewer(name), good);
  }
  // The last byte lies in the data: found while loading, not only by verify.
  std::string bad = ReadFile(InNewer("optimizer-00001.safetensors"));
  bad.back() = static_cast<char>(bad.back() ^ 4);
  WriteFile(InNewer("optimizer-00001.safetensors"), bad);
  ExpectRefused("optimizer-00001.safetensors: bytes ");
}

TEST_F(DamageTest, MissingOrForeignCommit) {
  fs::remove(InNewer("COMMIT"));
  ExpectRefused("COMMIT");
  fs::copy_file(run_ / "step-00000010/COMMIT", InNewer("COMMIT"));
  ExpectRefused("is not the SHA-256 of manifest.pb");
}

TEST_F(DamageTest, ManifestOfAnotherStep) {
  fs::remove_all(InNewer(""));
  fs::copy(run_ / "step-00000010", InNewer(""), fs::copy_options::recursive);
  ExpectRefused("the manifest is of step 10");
}

TEST_F(DamageTest, ConfigAndTokenizer) {
  const std::string good = ReadFile(InNewer("tokenizer/vocab.json"));
  WriteFile(InNewer("tokenizer/vocab.json"), "{\"a\":1}");
  ExpectRefused("tokenizer/vocab.json is damaged");
  WriteFile(InNewer("tokenizer/vocab.json"), good);
  WriteFile(InNewer("resolved.yaml"), "model: huge\n");
  ExpectRefused("resolved.yaml is damaged");
}

TEST_F(DamageTest, LinksAndFifosAreNotFollowed) {
  const std::string shard = InNewer("model-00000.safetensors");
  fs::rename(shard, run_ / "elsewhere");
  fs::create_symlink(run_ / "elsewhere", shard);
  ExpectRefused("links are not followed");
  fs::remove(shard);
  ASSERT_EQ(mkfifo(shard.c_str(), 0600), 0);
  ExpectRefused("not a regular file");
  fs::remove(shard);
  fs::create_directory(shard);
  ExpectRefused("not a regular file");
  fs::remove(shard);
  fs::rename(run_ / "elsewhere", shard);
  fs::rename(InNewer(""), run_ / "moved");
  fs::create_directory_symlink(run_ / "moved", InNewer(""));
  ExpectRefused("step-00000020");
  fs::remove(InNewer(""));
  WriteFile(InNewer(""), "a file");
  ExpectRefused("step-00000020");
}

TEST_F(DamageTest, NoValidCommitIsNeverAFreshStart) {
  fs::remove(InNewer("COMMIT"));
  fs::remove(run_ / "step-00000010/manifest.pb");
  const Outcome outcome = Resume("auto");
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("step-00000010"));
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("step-00000020"));
}

TEST_F(DamageTest, AutoFallsBackOneCommitOnly) {
  ASSERT_TRUE(testing::SaveAt(run_.path(), 30, newer_, 1, 1).ok());
  fs::remove(run_ / "step-00000030/COMMIT");
  fs::remove(InNewer("COMMIT"));
  EXPECT_EQ(Resume("auto").status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Resume(run_ / "step-00000010").step, 10) << "by its path it is served";
}

TEST_F(DamageTest, FreshStartsAndNone) {
  EXPECT_EQ(Resume("none").status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Resume(run_ / "step-00000099").status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Resume(run_.path()).status.message()), HasSubstr("is a run directory"));
  fs::remove_all(run_ / "step-00000010");
  fs::rename(InNewer(""), run_ / "step-00000020.tmp-0123");
  EXPECT_EQ(Resume("auto").step, 0) << "a leftover is not a checkpoint";
  EXPECT_EQ(Resume("none").step, 0);
  EXPECT_THAT(std::string(Resume(run_ / "step-00000020.tmp-0123").status.message()),
              HasSubstr("never loaded"));
  fs::rename(run_ / "step-00000020.tmp-0123", run_ / "step-00000020.damaged-0123");
  EXPECT_FALSE(Resume("auto").status.ok()) << "checkpoints were there";
}

TEST_F(DamageTest, ADamagedStepIsSetAsideWhenTheRunReachesItAgain) {
  fs::resize_file(InNewer("model-00001.safetensors"), 9);
  ASSERT_EQ(Resume("auto").step, 10);
  ASSERT_TRUE(testing::SaveAt(run_.path(), 20, newer_, 2, 1).ok());
  EXPECT_EQ(Resume("auto").step, 20);
  EXPECT_TRUE(Resume("auto").warnings.empty());
}

// Lets a chunk begin at another row, under the key that fits.
void MoveRows(Manifest* manifest, int chunk, int64_t row) {
  ChunkInfo& moved = manifest->chunks[chunk];
  moved.region.box.offset[0] = row;
  moved.key = ChunkKey(manifest->tensors[moved.tensor], moved.region);
}

TEST_F(DamageTest, ManifestLies) {
  struct Lie {
    const char* title;
    std::function<void(Manifest*)> tell;
    const char* text;
  };
  const Lie lies[] = {
      {"chunk dropped", [](Manifest* m) { m->chunks.pop_back(); }, "chunks end at byte"},
      {"chunk twice", [](Manifest* m) { m->chunks.push_back(m->chunks[0]); }, "the one before ends at"},
      {"gap", [](Manifest* m) { MoveRows(m, 0, 1); }, "policy/a: gap: element [0, 0]"},
      {"overlap", [](Manifest* m) { MoveRows(m, 1, 2); }, "policy/a: overlap: element [2, 0]"},
      {"tensor grows", [](Manifest* m) { m->tensors[0].shape[0] += 1; }, "gap"},
      {"tensor shrinks", [](Manifest* m) { m->tensors[0].shape[0] -= 1; }, "lies outside shape"},
      {"tensor of another type", [](Manifest* m) { m->tensors[0].dtype = DType::kI32; },
       "is not the manifest's chunk"},
      {"shape overflows",
       [](Manifest* m) {
         m->tensors[0].shape = {1 << 30, 1 << 30, 1 << 30};
       },
       "overflows"},
      {"negative shape", [](Manifest* m) { m->tensors[0].shape = {-4}; }, "negative dim"},
      {"17 dims", [](Manifest* m) { m->tensors[0].shape.assign(17, 1); }, "17 dims"},
      {"tensor nobody wrote",
       [](Manifest* m) {
         m->tensors.push_back({"policy", "ghost", Role::kWeight, DType::kF32, {2}});
       },
       "policy/ghost: gap"},
      {"tensor twice", [](Manifest* m) { m->tensors.push_back(m->tensors[0]); }, "twice"},
      {"bad tensor index", [](Manifest* m) { m->chunks[0].tensor = 99; }, "tensor index 99"},
      {"negative tensor index", [](Manifest* m) { m->chunks[0].tensor = -1; }, "tensor index -1"},
      {"bad file index", [](Manifest* m) { m->chunks[0].file = 1 << 30; }, "names no shard"},
      {"file that is no shard",
       [](Manifest* m) {
         for (size_t f = 0; f < m->files.size(); ++f)
           if (m->files[f].kind == FileKind::kConfig) m->chunks[0].file = static_cast<int>(f);
       },
       "names no shard"},
      {"path", [](Manifest* m) { m->files[0].name = "../model-00000.safetensors"; }, "not a plain basename"},
      {"absolute path", [](Manifest* m) { m->files[0].name = "/etc/passwd"; }, "not a plain basename"},
      {"dot dot", [](Manifest* m) { m->files[0].name = ".."; }, "not a plain basename"},
      {"NUL in a name", [](Manifest* m) { m->files[0].name = std::string("model\0.safetensors", 18); },
       "not a plain basename"},
      {"path in a tokenizer", [](Manifest* m) { m->files.back().name = "../../x"; }, "not a plain basename"},
      {"file twice", [](Manifest* m) { m->files.push_back(m->files[0]); }, "twice"},
      {"config of another name",
       [](Manifest* m) {
         for (FileInfo& f : m->files)
           if (f.kind == FileKind::kConfig) f.name = "COMMIT";
       },
       "does not fit its kind"},
      {"file size", [](Manifest* m) { m->files[0].bytes = INT64_MAX; }, "9223372036854775807 bytes"},
      {"file of 2 GiB", [](Manifest* m) { m->files[0].bytes = int64_t{2} << 30; }, "chunks end at byte"},
      {"header of 2 GiB",
       [](Manifest* m) {
         m->files[0].header_bytes = int64_t{2} << 30;
         m->files[0].bytes = int64_t{4} << 30;
       },
       "outside the data"},
      {"negative header", [](Manifest* m) { m->files[0].header_bytes = -1; }, "header of -1 bytes"},
      {"header checksum", [](Manifest* m) { m->files[0].header_crc32c ^= 1; }, "header is damaged"},
      {"file offset", [](Manifest* m) { m->chunks[0].file_offset += 4; }, "begins at byte"},
      {"file offset overflows", [](Manifest* m) { m->chunks[0].file_offset = INT64_MAX; },
       "lie outside the data"},
      {"range", [](Manifest* m) { m->chunks[0].region.end = INT64_MAX; }, "lies outside its box"},
      {"range backwards", [](Manifest* m) { m->chunks[0].region.begin = m->chunks[0].region.end + 1; },
       "lies outside its box"},
      {"empty chunk", [](Manifest* m) { m->chunks[0].region.begin = m->chunks[0].region.end; },
       "empty chunk"},
      {"box outside", [](Manifest* m) { m->chunks[0].region.box.offset[0] = INT64_MAX; },
       "lies outside shape"},
      {"box without dims", [](Manifest* m) { m->chunks[0].region.box = Box{}; }, "box has 0 offsets"},
      {"checksums missing", [](Manifest* m) { m->chunks[0].block_crc32c.clear(); }, "0 block checksums"},
      {"checksums too many", [](Manifest* m) { m->chunks[0].block_crc32c.resize(9); }, "9 block checksums"},
      {"wrong checksum", [](Manifest* m) { m->chunks[0].block_crc32c[0] ^= 1; }, "are damaged: CRC32C"},
      {"blocks of a byte", [](Manifest* m) { m->block_bytes = 1; }, "checksum blocks of 1 bytes"},
      {"blocks of 2^62", [](Manifest* m) { m->block_bytes = int64_t{1} << 62; }, "checksum blocks"},
      {"key of another chunk", [](Manifest* m) { m->chunks[0].key = m->chunks[1].key; }, "key should be"},
      {"name with a slice mark", [](Manifest* m) { m->tensors[0].name = "a@0"; }, "tensor name"},
      {"model with a path", [](Manifest* m) { m->tensors[0].model = "../policy"; }, "model name"},
      {"mesh of nothing", [](Manifest* m) { m->mesh.data = 0; }, "mesh axis of size 0"},
      {"negative step", [](Manifest* m) { m->step = -20; }, "step -20"},
      {"config hash", [](Manifest* m) { m->config_sha256 = "0"; }, "resolved.yaml has SHA-256"},
      {"tokenizer hash", [](Manifest* m) { m->tokenizer_sha256 = ""; }, "tokenizer/ has hash"},
  };
  const auto good = NewerManifest();
  ASSERT_TRUE(good.ok());
  for (const Lie& lie : lies) {
    SCOPED_TRACE(lie.title);
    Manifest manifest = *good;
    lie.tell(&manifest);
    Forge(EncodeManifest(manifest));
    ExpectRefused(lie.text);
  }
  Forge(EncodeManifest(*good));
  EXPECT_EQ(Resume("auto").step, 20);
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
  return bytes + static_cast<char>(value);
}
std::string Field(int number, const std::string& value) {
  return Varint(number << 3 | 2) + Varint(value.size()) + value;
}

TEST_F(DamageTest, ManifestEncodingLies) {
  const std::string good = ReadFile(InNewer("manifest.pb"));
  std::string groups, empties, dims;
  for (int i = 0; i < 100000; ++i) groups += '\x0b';  // start of group 1, nested and never ended
  for (int i = 0; i < 2'200'000; ++i) empties += Field(8, Field(7, std::string(14, 'k')));
  for (int i = 0; i < 2'000'000; ++i) dims += '\1';
  struct Lie {
    const char* title;
    std::string bytes;
    const char* text;
  };
  const Lie lies[] = {
      {"groups 100,000 deep", good + groups, "nested group"},
      {"groups inside a record", good + Field(7, groups.substr(0, 2000)), "damaged encoding or nested"},
      {"garbage at the end", good + std::string(200, '\x42'), "damaged encoding"},
      {"chunk without a byte", good + Field(8, ""), "field 8 of 0 bytes"},
      {"two million chunks", good + empties, "field 8 occurs more than"},
      {"two million dims", good + Field(7, Field(5, dims)), "field 7 of"},
      {"two million dims of a chunk", good + Field(8, Field(3, dims)), "chunk field 3"},
      {"length of 2 GiB", good + Varint(9 << 3 | 2) + Varint(uint64_t{2} << 30), "damaged encoding"},
      {"length of 2^63", good + Varint(9 << 3 | 2) + Varint(uint64_t{1} << 63), "damaged encoding"},
      {"unknown field", good + Field(77, "x"), "unknown field 77"},
      {"unknown field of a record", good + Field(6, Field(1, "aaaaaaaa") + Field(15, "x")), "does not have"},
      {"unknown role", good + Field(7, Field(1, "policy") + Field(2, "x") + Varint(3 << 3) + Varint(9)),
       "does not have"},
      {"truncated", good.substr(0, good.size() - 1), ""},
      {"empty", "", "no schema version"},
      {"second step", good + Varint(3 << 3) + Varint(21), "occurs more than 1"},
      {"state twice", good + Field(9, Field(1, "rng") + Field(2, "x")), "state \"rng\" twice"},
  };
  for (const Lie& lie : lies) {
    SCOPED_TRACE(lie.title);
    Forge(lie.bytes);
    ExpectRefused(lie.text);
  }
}

TEST_F(DamageTest, ALaterSchemaIsNotDamage) {
  std::string manifest = ReadFile(InNewer("manifest.pb"));
  ASSERT_EQ(manifest[0], '\x08');
  manifest[1] = 2;
  Forge(manifest);
  const Outcome outcome = Resume("auto");
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition)
      << "no fallback, no older step by surprise";
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("schema version 2"));
}

// In a child with little memory: what the file claims must not be allocated.
TEST_F(DamageTest, ManifestOf2GiBIsRefusedWithoutReadingIt) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve the address space";
#endif
  fs::resize_file(InNewer("manifest.pb"), uint64_t{2} << 30);
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit{uint64_t{256} << 20, uint64_t{256} << 20};
    setrlimit(RLIMIT_AS, &limit);
    const auto solo = MakeSoloComm("world");
    const absl::Status status = CheckpointReader::Open(*solo, InNewer("")).status();
    _exit(absl::IsDataLoss(status) && absl::StrContains(status.message(), "manifest.pb: 2147483648 bytes")
              ? 0
              : 1);
  }
  int result = -1;
  ASSERT_EQ(waitpid(child, &result, 0), child);
  EXPECT_EQ(result, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST_F(DamageTest, RandomDamageIsNeverAccepted) {
  std::mt19937_64 random(testing::FreshSeed());
  std::vector<std::string> names = {"COMMIT", "manifest.pb", "resolved.yaml", "tokenizer/vocab.json"};
  for (int r = 0; r < 4; ++r) {
    for (const char* kind : {"model", "optimizer"})
      names.push_back(absl::StrFormat("%s-%05d.safetensors", kind, r));
  }
  std::erase_if(names, [&](const std::string& name) { return !fs::exists(InNewer(name)); });
  const int rounds = testing::Soak() ? 20000 : 2000;
  int changed = 0;
  for (int round = 0; round < rounds; ++round) {
    const std::string name = names[random() % names.size()], good = ReadFile(InNewer(name));
    std::string bad = good;
    const size_t at = random() % bad.size();
    switch (random() % 7) {
      case 0:
        bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
        break;
      case 1:
        bad[at] = static_cast<char>(random());
        break;
      case 2:
        bad.resize(at);
        break;
      case 3:
        bad.append(1 + random() % 64, static_cast<char>(random()));
        break;
      case 4:
        std::fill(bad.begin() + static_cast<long>(at), bad.end(), '\0');
        break;
      case 5:
        bad.insert(at, 1 + random() % 8, static_cast<char>(random()));
        break;
      case 6:
        bad.erase(at, 1 + random() % 8);
        break;
    }
    // Half of the damaged manifests come with a COMMIT that fits.
    const std::string commit = ReadFile(InNewer("COMMIT"));
    WriteFile(InNewer(name), bad);
    if (name == "manifest.pb" && random() % 2) WriteFile(InNewer("COMMIT"), Sha256Hex(bad) + "\n");
    const absl::Status status = testing::CheckHolds(InNewer(""), newer_);
    if (bad != good) {
      ++changed;
      // A forged manifest may still be true of the tensors (another run id, say); what is accepted must hold
      // the bits.
      const bool accepted = status.ok() && name != "manifest.pb";
      ASSERT_FALSE(accepted) << name << " in round " << round;
      ASSERT_NE(status.code(), absl::StatusCode::kInternal) << name << " gave other bits in round " << round;
    }
    WriteFile(InNewer(name), good);
    WriteFile(InNewer("COMMIT"), commit);
  }
  EXPECT_GT(changed, rounds * 9 / 10);
  EXPECT_TRUE(testing::CheckHolds(InNewer(""), newer_).ok());
}

}  // namespace
}  // namespace tanren
