// Every text of the shared data comes back from its tokens. TANREN_SOAK=1 reads all of it.
#include <gtest/gtest.h>

#include "core/corpus/input_stream.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/core/tokenizer/test_data.h"

namespace tanren {
namespace {

// The file in blocks of whole lines, decompressed.
void ForEachBlock(const std::string& path, int64_t limit_bytes,
                  const std::function<void(const std::string&)>& visit) {
  auto stream = InputStream::Open(path);
  ASSERT_TRUE(stream.ok()) << stream.status();
  LineReader lines(*std::move(stream), 64 << 20);
  LineReader::Line line;
  std::string block;
  int64_t read = 0;
  for (bool more = true; more && read < limit_bytes;) {
    const auto next = lines.Next(&line);
    ASSERT_TRUE(next.ok()) << next.status();
    more = *next;
    if (more) block += line.text;
    if (block.size() >= (1 << 20) || !more) {
      visit(block);
      read += static_cast<int64_t>(block.size());
      block.clear();
    }
  }
}

TEST(DataRoundTrip, EveryCorpusComesBackFromItsTokens) {
  TANREN_NEED_DATA(data);
  const auto gpt2 = *LoadTokenizer(data + "/tokenizer/gpt2");
  const auto llama = *LoadTokenizer(data + "/tokenizer/llama2");
  const int64_t limit_bytes = Soak() ? int64_t{1} << 40 : 2 << 20;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(data)) {
    const std::string path = entry.path().string();
    if (!entry.is_regular_file() || path.find("/tokenizer/") != std::string::npos) continue;
    ++files;
    bool first = true;
    ForEachBlock(path, limit_bytes, [&](const std::string& block) {
      const auto ids = gpt2->Encode(block);
      ASSERT_TRUE(ids.ok()) << path << ": " << ids.status();
      ASSERT_EQ(*gpt2->Decode(*ids), block) << path;
      std::set<std::string> characters;
      ASSERT_TRUE(CollectCharacters(block, &characters).ok()) << path;
      const auto by_character = *MakeCharacterTokenizer(characters, {});
      ASSERT_EQ(*by_character->Decode(*by_character->Encode(block)), block) << path;
      // SentencePiece is slow: a sample of the start, unless there is time.
      if (first || Soak()) {
        const std::string sample = Soak() ? block : block.substr(0, block.find('\n', 20000));
        ASSERT_EQ(*llama->Decode(*llama->Encode(sample)), sample) << path;
      }
      first = false;
    });
  }
  EXPECT_GE(files, 8);
}

}  // namespace
}  // namespace tanren
