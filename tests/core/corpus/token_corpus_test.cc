// Shards: written, read back over 64-bit offsets, and damaged.
#include "core/corpus/token_corpus.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "core/corpus/corpus_writer.h"
#include "core/corpus/synthetic_token_store.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;
using Documents = std::vector<std::vector<int32_t>>;

std::unique_ptr<Tokenizer> TokenizerOfSize(int64_t vocab_size) {
  if (vocab_size == 257) return *MakeByteTokenizer();
  std::set<std::string> words;
  for (int64_t i = 0; i < vocab_size; ++i) words.insert("w" + std::to_string(i));
  return *MakeWhitespaceTokenizer(words, {});
}

void WriteCorpus(const std::string& directory, const Tokenizer& tokenizer, const Documents& documents,
                 int64_t shard_tokens, std::mt19937_64* random) {
  std::filesystem::create_directories(directory);
  auto writer = CorpusWriter::Create(directory, tokenizer, shard_tokens);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& document : documents) {
    const size_t cut = document.empty() ? 0 : (*random)() % document.size();  // in two parts
    const absl::Span<const int32_t> all(document);
    ASSERT_TRUE((*writer)->Append(all.subspan(0, cut), static_cast<int64_t>(cut)).ok());
    ASSERT_TRUE((*writer)->Append(all.subspan(cut), static_cast<int64_t>(document.size() - cut)).ok());
    (*writer)->EndDocument();
  }
  const auto manifest = (*writer)->Finish(-1, -1);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
}

Documents RandomDocuments(int64_t vocab_size, int count, int longest, std::mt19937_64* random) {
  Documents documents(count);
  for (auto& document : documents) {
    document.resize((*random)() % (longest + 1));
    for (int32_t& id : document) id = static_cast<int32_t>((*random)() % vocab_size);
  }
  documents[0].push_back(0);
  return documents;
}

// Everything a store says, against the plain list of documents.
void ExpectHolds(const TokenStore& store, const Documents& documents) {
  std::vector<int32_t> flat;
  std::vector<int64_t> begins;
  for (const auto& document : documents) {
    if (!document.empty()) begins.push_back(static_cast<int64_t>(flat.size()));
    flat.insert(flat.end(), document.begin(), document.end());
  }
  ASSERT_EQ(store.num_tokens(), flat.size());
  ASSERT_EQ(store.num_documents(), begins.size());
  for (size_t i = 0; i < begins.size(); ++i)
    EXPECT_EQ(store.DocumentBegin(static_cast<int64_t>(i)), begins[i]);
  EXPECT_EQ(store.DocumentBegin(store.num_documents()), store.num_tokens());
  for (size_t offset = 0; offset < flat.size(); ++offset) {
    const auto next = std::upper_bound(begins.begin(), begins.end(), offset);
    ASSERT_EQ(store.DocumentContaining(static_cast<int64_t>(offset)), next - begins.begin() - 1) << offset;
    const size_t length = std::min<size_t>(flat.size() - offset, 23);
    std::vector<int32_t> read(length, -1);
    ASSERT_TRUE(store.Read(static_cast<int64_t>(offset), absl::MakeSpan(read)).ok());
    ASSERT_TRUE(std::equal(read.begin(), read.end(), flat.begin() + offset)) << offset;
  }
}

TEST(TokenCorpus, ReadsWhatWasWritten) {
  std::mt19937_64 random(FreshSeed());
  for (const int64_t vocab_size : {257, 65536, 65537}) {
    const auto tokenizer = TokenizerOfSize(vocab_size);
    for (const int64_t shard_tokens : {1, 7, 64, 100000}) {
      const int documents_count = shard_tokens < 64 ? 4 : 20;
      TemporaryDirectory directory;
      const Documents documents =
          RandomDocuments(vocab_size, documents_count, shard_tokens == 1 ? 5 : 30, &random);
      WriteCorpus(directory / "c", *tokenizer, documents, shard_tokens, &random);
      const auto corpus = TokenCorpus::Open(directory / "c");
      ASSERT_TRUE(corpus.ok()) << corpus.status();
      ExpectHolds(**corpus, documents);
      EXPECT_EQ((*corpus)->vocab_size(), vocab_size);
      EXPECT_TRUE((*corpus)->Verify().ok()) << (*corpus)->Verify();
      EXPECT_EQ((*corpus)->manifest().tokenizer_hash, tokenizer->Hash());
      EXPECT_EQ((*LoadTokenizer((*corpus)->tokenizer_directory()))->Hash(), tokenizer->Hash());
    }
  }
}

TEST(TokenCorpus, TheContentHashIsOfTheContentOnly) {
  std::mt19937_64 random(FreshSeed());
  TemporaryDirectory directory;
  Documents documents = RandomDocuments(257, 10, 40, &random);
  WriteCorpus(directory / "a", *TokenizerOfSize(257), documents, 16, &random);
  WriteCorpus(directory / "b", *TokenizerOfSize(257), documents, 1000, &random);
  documents[0].back() ^= 1;
  WriteCorpus(directory / "c", *TokenizerOfSize(257), documents, 1000, &random);
  const std::string hash = (*TokenCorpus::Open(directory / "a"))->content_hash();
  EXPECT_EQ((*TokenCorpus::Open(directory / "b"))->content_hash(), hash);
  EXPECT_NE((*TokenCorpus::Open(directory / "c"))->content_hash(), hash);
}

TEST(TokenCorpus, RangesOutsideAreErrors) {
  std::mt19937_64 random(FreshSeed());
  TemporaryDirectory directory;
  WriteCorpus(directory / "c", *TokenizerOfSize(257), {{1, 2, 3}}, 2, &random);
  const auto corpus = *TokenCorpus::Open(directory / "c");
  std::vector<int32_t> two(2);
  EXPECT_TRUE(corpus->Read(1, absl::MakeSpan(two)).ok());
  EXPECT_TRUE(corpus->Read(3, absl::Span<int32_t>()).ok());
  for (const int64_t offset :
       {int64_t{-1}, int64_t{2}, int64_t{1} << 62, std::numeric_limits<int64_t>::min()}) {
    EXPECT_FALSE(corpus->Read(offset, absl::MakeSpan(two)).ok()) << offset;
  }
  EXPECT_THAT(std::string(corpus->Read(2, absl::MakeSpan(two)).message()),
              HasSubstr("2 tokens from offset 2 of a corpus of 3"));
}

// A corpus of more than 2^32 tokens, whose files are holes but for a few tokens.
class SparseCorpus {
 public:
  SparseCorpus(const std::string& directory, std::vector<int64_t> shard_tokens, std::vector<int64_t> begins) {
    std::filesystem::create_directories(directory);
    CorpusManifest manifest;
    manifest.tokenizer_kind = "bytes";
    manifest.tokenizer_hash = manifest.content_hash = std::string(64, '0');
    manifest.vocab_size = 257;
    size_t document = 0;
    for (size_t i = 0; i < shard_tokens.size(); ++i) {
      ShardHeader header;
      header.token_bytes = 2;
      header.vocab_size = 257;
      header.first_token = manifest.tokens;
      header.tokens = shard_tokens[i];
      header.first_document = manifest.documents;
      std::vector<int64_t> own;
      while (document < begins.size() && begins[document] < header.first_token + header.tokens) {
        own.push_back(begins[document++]);
      }
      header.documents = static_cast<int64_t>(own.size());
      header.documents_crc32c = Crc32c(0, own.data(), header.documents * 8);
      SetShardLayout(&header);
      const std::string name = "shard-" + std::to_string(i);
      const int fd = open((directory + "/" + name).c_str(), O_RDWR | O_CREAT, 0600);
      unsigned char bytes[kShardHeaderBytes];
      EncodeShardHeader(header, bytes);
      good_ = good_ && fd >= 0 && ftruncate(fd, header.file_bytes) == 0 &&
              pwrite(fd, bytes, sizeof(bytes), 0) == sizeof(bytes) &&
              pwrite(fd, own.data(), own.size() * 8, header.documents_offset) ==
                  static_cast<ssize_t>(own.size() * 8);
      fds_.push_back(fd);
      headers_.push_back(header);
      manifest.tokens += header.tokens;
      manifest.documents += header.documents;
      manifest.shards.push_back({name, header.tokens, header.documents});
    }
    WriteAll(directory + "/corpus.json", FormatManifest(manifest));
  }
  ~SparseCorpus() {
    for (const int fd : fds_) close(fd);
  }

  bool good() const { return good_; }
  void Put(int64_t offset, uint16_t token) {
    for (size_t i = 0; i < headers_.size(); ++i) {
      const int64_t at = offset - headers_[i].first_token;
      if (at >= 0 && at < headers_[i].tokens) {
        good_ = good_ && pwrite(fds_[i], &token, 2, kShardTokensOffset + at * 2) == 2;
      }
    }
  }

 private:
  bool good_ = true;
  std::vector<int> fds_;
  std::vector<ShardHeader> headers_;
};

TEST(TokenCorpus, ReadsBeyondTwoToTheThirtyTwoTokens) {
  constexpr int64_t kEdge = int64_t{1} << 32;
  const std::vector<int64_t> begins = {0, kEdge - 5, kEdge + 3, kEdge + 900};
  for (const std::vector<int64_t>& shards :
       {std::vector<int64_t>{kEdge + 1000}, {kEdge - 2, 1002}, {kEdge / 2, kEdge / 2 + 1, 999}}) {
    TemporaryDirectory directory;
    SparseCorpus sparse(directory / "c", shards, begins);
    if (!sparse.good()) GTEST_SKIP() << "the file system has no room for sparse files of 8 GiB";
    for (int64_t i = 0; i < 8; ++i) sparse.Put(kEdge - 4 + i, static_cast<uint16_t>(100 + i));
    sparse.Put(kEdge + 999, 256);
    const auto corpus = TokenCorpus::Open(directory / "c");
    ASSERT_TRUE(corpus.ok()) << corpus.status();
    EXPECT_EQ((*corpus)->num_tokens(), kEdge + 1000);
    std::vector<int32_t> read(10);
    ASSERT_TRUE((*corpus)->Read(kEdge - 5, absl::MakeSpan(read)).ok());
    EXPECT_EQ(read, (std::vector<int32_t>{0, 100, 101, 102, 103, 104, 105, 106, 107, 0}));
    ASSERT_TRUE((*corpus)->Read(kEdge + 999, absl::MakeSpan(read.data(), 1)).ok());
    EXPECT_EQ(read[0], 256);
    EXPECT_EQ((*corpus)->DocumentContaining(kEdge - 6), 0);
    EXPECT_EQ((*corpus)->DocumentContaining(kEdge), 1);
    EXPECT_EQ((*corpus)->DocumentContaining(kEdge + 3), 2);
    EXPECT_EQ((*corpus)->DocumentContaining(kEdge + 999), 3);
    for (size_t i = 0; i < begins.size(); ++i)
      EXPECT_EQ((*corpus)->DocumentBegin(static_cast<int64_t>(i)), begins[i]);
    // An id outside of the vocabulary, far beyond 32 bits.
    sparse.Put(kEdge + 500, 257);
    const absl::Status status = (*corpus)->Read(kEdge + 495, absl::MakeSpan(read));
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("is 257, but ids are 0 to 256: the shard is damaged"));
  }
}

TEST(TokenCorpus, EveryFlippedBitIsFound) {
  std::mt19937_64 random(FreshSeed());
  TemporaryDirectory directory;
  WriteCorpus(directory / "c", *TokenizerOfSize(257), RandomDocuments(257, 15, 30, &random), 33, &random);
  for (const std::string name : {"shard-00000.tokens", "shard-00001.tokens", "corpus.json"}) {
    const std::string path = directory / ("c/" + name);
    const std::string sound = ReadAll(path);
    ASSERT_FALSE(sound.empty());
    for (int round = 0; round < 150; ++round) {
      std::string damaged = sound;
      // The header and the tables behind it more often than the zeros between them.
      const size_t at =
          round % 2 == 0 ? random() % std::min<size_t>(sound.size(), 128) : random() % sound.size();
      damaged[at] ^= static_cast<char>(1 << random() % 8);
      WriteAll(path, damaged);
      const auto corpus = TokenCorpus::Open(directory / "c");
      const absl::Status status = corpus.ok() ? (*corpus)->Verify() : corpus.status();
      ASSERT_FALSE(status.ok()) << name << " byte " << at;
      ASSERT_THAT(std::string(status.message()), HasSubstr(directory / "c"));
      if (!corpus.ok()) continue;
      std::vector<int32_t> all(static_cast<size_t>((*corpus)->num_tokens()));
      if ((*corpus)->Read(0, absl::MakeSpan(all)).ok()) {
        for (const int32_t id : all) ASSERT_TRUE(id >= 0 && id < 257);
      }
    }
    WriteAll(path, sound);
  }
  EXPECT_TRUE(TokenCorpus::Open(directory / "c").ok());
}

TEST(TokenCorpus, NamesTruncatedMissingAndSwappedShards) {
  std::mt19937_64 random(FreshSeed());
  TemporaryDirectory directory;
  WriteCorpus(directory / "c", *TokenizerOfSize(257), RandomDocuments(257, 12, 30, &random), 40, &random);
  const std::string first = directory / "c/shard-00000.tokens";
  const std::string second = directory / "c/shard-00001.tokens";
  const std::string content = ReadAll(first);
  const std::string other = ReadAll(second);
  const auto error = [&] {
    const auto corpus = TokenCorpus::Open(directory / "c");
    return corpus.ok() ? std::string("no error") : std::string(corpus.status().message());
  };
  for (const size_t length : {size_t{0}, size_t{100}, size_t{4096}, content.size() - 1}) {
    std::filesystem::resize_file(first, 0);
    WriteAll(first, content.substr(0, length));
    EXPECT_THAT(error(),
                testing::AllOf(HasSubstr("shard-00000.tokens: the file has"), HasSubstr("truncated")));
  }
  WriteAll(first, other);
  WriteAll(second, content);
  EXPECT_THAT(error(), HasSubstr("shard-00000.tokens: the shard does not fit its place"));
  std::filesystem::remove(first);
  EXPECT_THAT(error(), HasSubstr("shard-00000.tokens: cannot open: No such file"));
  std::filesystem::create_symlink(second, first);
  EXPECT_THAT(error(), HasSubstr("shard-00000.tokens: cannot open"));
  std::filesystem::remove(directory / "c/corpus.json");
  EXPECT_THAT(error(), HasSubstr("no corpus.json here, so this is not a token corpus"));
}

TEST(TokenCorpus, AHalfWrittenCorpusIsNone) {
  TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "c");
  {
    auto writer = *CorpusWriter::Create(directory / "c", *TokenizerOfSize(257), 4);
    ASSERT_TRUE(writer->Append({1, 2, 3, 4, 5, 6}, 6).ok());
  }
  EXPECT_FALSE(TokenCorpus::Open(directory / "c").ok());
}

TEST(CorpusManifest, RefusesPathsAndWrongSums) {
  CorpusManifest manifest;
  manifest.vocab_size = 257;
  manifest.tokens = 5;
  manifest.documents = 1;
  manifest.shards = {{"../x", 5, 1}};
  const auto error = [&] {
    const auto parsed = ParseManifest(FormatManifest(manifest), "corpus.json");
    return parsed.ok() ? std::string("no error") : std::string(parsed.status().message());
  };
  EXPECT_THAT(error(), HasSubstr("the shard file \"../x\" is not a plain file name"));
  manifest.shards = {{"a", 4, 1}};
  EXPECT_THAT(error(), HasSubstr("the shards hold 4 tokens and 1 documents, but the corpus says 5 and 1"));
  manifest.shards = {{"a", std::numeric_limits<int64_t>::max(), 1}, {"b", 1, 0}};
  EXPECT_THAT(error(), HasSubstr("more than 2^63"));
  manifest.shards = {{"a", 5, 1}};
  EXPECT_EQ(error(), "no error");
}

TEST(SyntheticTokenStore, IsConsistentAndLargerThanMemory) {
  for (const int64_t tokens : {int64_t{1}, int64_t{1000}, (int64_t{1} << 40) + 7}) {
    const SyntheticTokenStore store(tokens, 100, 50, 3);
    ASSERT_GE(store.num_documents(), 1);
    EXPECT_EQ(store.DocumentBegin(0), 0);
    EXPECT_EQ(store.DocumentBegin(store.num_documents()), tokens);
    std::mt19937_64 random(FreshSeed());
    for (int round = 0; round < 2000; ++round) {
      const auto offset = static_cast<int64_t>(random() % static_cast<uint64_t>(tokens));
      const int64_t document = store.DocumentContaining(offset);
      ASSERT_LE(store.DocumentBegin(document), offset);
      ASSERT_GT(store.DocumentBegin(document + 1), offset);
      int32_t token = -1;
      ASSERT_TRUE(store.Read(offset, absl::MakeSpan(&token, 1)).ok());
      ASSERT_EQ(token, store.TokenAt(offset));
      ASSERT_TRUE(token >= 0 && token < 50);
    }
    int32_t token;
    EXPECT_FALSE(store.Read(tokens, absl::MakeSpan(&token, 1)).ok());
  }
}

}  // namespace
}  // namespace tanren
