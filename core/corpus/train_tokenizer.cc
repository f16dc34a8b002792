#include "core/corpus/train_tokenizer.h"

#include <filesystem>
#include <set>
#include <utility>

#include "core/base/status.h"
#include "core/tokenizer/bpe_tokenizer.h"
#include "core/tokenizer/bpe_trainer.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/simple_vocabularies.h"
#include "core/tokenizer/split_pattern.h"

namespace tanren {
namespace {

using AddText = absl::FunctionRef<absl::Status(std::string_view)>;

int64_t TotalBytes(const std::vector<std::string>& inputs) {
  int64_t total = 0;
  for (const std::string& input : inputs) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(input, error);
    if (!error) total += static_cast<int64_t>(bytes);
  }
  return total;
}

absl::Status ReadTexts(const TrainTokenizerOptions& options, DocumentReader::LastCut last_cut,
                       DamageReport* damage, AddText add) {
  if (options.inputs.empty())
    return InvalidInput("no input files to train a tokenizer of the kind %s", options.kind);
  const int64_t total = TotalBytes(options.inputs);
  int64_t before = 0;
  DocumentReader reader(options.documents, std::move(last_cut));
  for (const std::string& path : options.inputs) {
    int64_t read = 0;
    TANREN_RETURN_IF_ERROR(reader.ReadFile(
        path, damage,
        [&](DocumentPart part) { return At(absl::StrCat(path, ":", part.line), add(part.text)); },
        [&](int64_t bytes) {
          read = bytes;
          if (options.progress) options.progress("reading", before + bytes, total);
        }));
    before += read;
  }
  return CheckDamage(*damage, options.max_damaged_fraction);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TrainBpe(const TrainTokenizerOptions& options,
                                                    DamageReport* damage) {
  BpeTrainerOptions trainer_options;
  trainer_options.vocab_size = options.vocab_size;
  trainer_options.split = options.split;
  trainer_options.specials = options.specials;
  trainer_options.min_count = options.min_count;
  trainer_options.threads = options.threads;
  if (options.progress) {
    trainer_options.progress = [&](int64_t merges, int64_t target) {
      options.progress("merging", merges, target);
    };
  }
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<BpeTrainer> trainer, BpeTrainer::Create(trainer_options));
  TANREN_RETURN_IF_ERROR(ReadTexts(options, LastSplitBoundary, damage,
                                   [&](std::string_view text) { return trainer->Add(text); }));
  TANREN_ASSIGN_OR_RETURN(BpeDefinition definition, trainer->Train());
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<BpeTokenizer> tokenizer,
                          BpeTokenizer::Create(std::move(definition)));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

// Behind any line feed a word and a character end.
size_t LastLineEnd(std::string_view text) {
  const size_t feed = text.rfind('\n', text.size() - 2);
  return text.size() < 2 || feed == std::string_view::npos ? 0 : feed + 1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> TrainTokenizer(const TrainTokenizerOptions& options,
                                                          DamageReport* damage) {
  if (options.kind == "bpe") return TrainBpe(options, damage);
  if (options.kind == "bytes") return MakeByteTokenizer(options.specials);
  std::set<std::string> tokens;
  if (options.kind == "characters") {
    TANREN_RETURN_IF_ERROR(ReadTexts(options, LastLineEnd, damage, [&](std::string_view text) {
      return CollectCharacters(text, &tokens);
    }));
    return MakeCharacterTokenizer(tokens, options.specials);
  }
  if (options.kind == "whitespace") {
    TANREN_RETURN_IF_ERROR(ReadTexts(options, LastLineEnd, damage,
                                     [&](std::string_view text) { return CollectWords(text, &tokens); }));
    return MakeWhitespaceTokenizer(tokens, options.specials);
  }
  return InvalidInput("the kind %s is none of bpe, bytes, characters and whitespace", Quoted(options.kind));
}

}  // namespace tanren
