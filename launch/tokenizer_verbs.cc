#include "launch/tokenizer_verbs.h"

#include <cstdio>
#include <iostream>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/corpus/staged_directory.h"
#include "core/corpus/train_tokenizer.h"
#include "core/tokenizer/files.h"
#include "launch/text_verbs.h"

namespace tanren {
namespace {

constexpr int64_t kMaxEncodeBytes = int64_t{1} << 30;

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string ReadStdin() {
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

// Puts a new tokenizer at `out`. False when an equal one is there.
absl::StatusOr<bool> Store(const Tokenizer& tokenizer, const std::string& out, bool force) {
  if (!IsAbsentOrEmpty(out)) {
    const absl::StatusOr<std::unique_ptr<Tokenizer>> earlier = LoadTokenizer(out);
    if (!earlier.ok())
      return InvalidInput("%s is there already and is no tokenizer; choose another --out", out);
    if ((*earlier)->Hash() == tokenizer.Hash()) return false;
    if (!force)
      return InvalidInput("%s holds another tokenizer; choose another --out, or replace it with --force",
                          out);
  }
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged, StagedDirectory::Create(out));
  TANREN_RETURN_IF_ERROR(tokenizer.Save(staged->path()));
  TANREN_RETURN_IF_ERROR(staged->Commit(force));
  return true;
}

absl::Status Train(const TokenizerTrainOptions& options) {
  if (options.out.empty()) return InvalidInput("no output directory");
  TrainTokenizerOptions train;
  TANREN_ASSIGN_OR_RETURN(train.documents, ToDocumentOptions(options.text));
  train.kind = options.kind;
  train.inputs = options.text.inputs;
  train.max_damaged_fraction = options.text.max_damaged;
  train.specials = options.specials;
  train.vocab_size = options.vocab_size;
  train.split = options.split;
  train.min_count = options.min_count;
  train.threads = options.threads;
  DamageReport damage;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer;
  {
    StageProgress progress;
    train.progress = [&](const char* stage, int64_t done, int64_t total) {
      progress.Show(stage, done, total);
    };
    tokenizer = TrainTokenizer(train, &damage);
  }
  TANREN_RETURN_IF_ERROR(tokenizer.status());
  TANREN_ASSIGN_OR_RETURN(const bool stored, Store(**tokenizer, options.out, options.force));
  Print(absl::StrFormat("%s%s: %s, %d tokens, sha256 %s\n", stored ? "" : "up to date: ", options.out,
                        std::string((*tokenizer)->kind()), (*tokenizer)->vocab_size(), (*tokenizer)->Hash()));
  if (options.kind == "bpe" && (*tokenizer)->vocab_size() < options.vocab_size) {
    Print(absl::StrFormat("the text has no more pairs that occur %d times: %d tokens instead of %d\n",
                          options.min_count, (*tokenizer)->vocab_size(), options.vocab_size));
  }
  PrintDamage(damage);
  return absl::OkStatus();
}

absl::Status Encode(const TokenizerEncodeOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TokenizerByName(options.tokenizer));
  std::string text = options.text;
  if (text.empty() && (options.file.empty() || options.file == "-")) {
    text = ReadStdin();
  } else if (text.empty()) {
    TANREN_ASSIGN_OR_RETURN(text, ReadSmallFile(options.file, kMaxEncodeBytes));
  }
  TANREN_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          options.specials ? tokenizer->EncodeWithSpecials(text) : tokenizer->Encode(text));
  std::string line;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (options.pieces) {
      absl::StrAppend(&line, ids[i], "\t", Quoted(tokenizer->DecodeToken(ids[i])), "\n");
    } else {
      absl::StrAppend(&line, i == 0 ? "" : " ", ids[i]);
    }
  }
  Print(options.pieces ? line : line + "\n");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> ParseIds(const TokenizerDecodeOptions& options) {
  std::vector<int64_t> numbers = options.ids;
  if (numbers.empty()) {
    const std::string text = ReadStdin();
    for (const absl::string_view word :
         absl::StrSplit(text, absl::ByAnyChar(" \t\r\n,"), absl::SkipEmpty())) {
      int64_t number = 0;
      if (!absl::SimpleAtoi(word, &number)) return InvalidInput("%s is not a token id", Quoted(View(word)));
      numbers.push_back(number);
    }
  }
  std::vector<int32_t> ids;
  for (const int64_t number : numbers) {
    if (number < 0 || number > std::numeric_limits<int32_t>::max())
      return InvalidInput("%d is not a token id", number);
    ids.push_back(static_cast<int32_t>(number));
  }
  return ids;
}

absl::Status Decode(const TokenizerDecodeOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TokenizerByName(options.tokenizer));
  TANREN_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseIds(options));
  TANREN_ASSIGN_OR_RETURN(const std::string text, tokenizer->Decode(ids));
  Print(text);
  return absl::OkStatus();
}

absl::Status Info(const TokenizerInfoOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TokenizerByName(options.tokenizer));
  Print(absl::StrFormat("kind: %s\ntokens: %d\nsha256: %s\n", std::string(tokenizer->kind()),
                        tokenizer->vocab_size(), tokenizer->Hash()));
  const TokenRoles& roles = tokenizer->roles();
  const std::pair<const char*, int32_t> named[] = {{"bos", roles.bos},
                                                   {"eos", roles.eos},
                                                   {"end of text", roles.end_of_text},
                                                   {"pad", roles.pad},
                                                   {"unknown", roles.unknown}};
  for (const auto& [role, id] : named) {
    if (id >= 0) Print(absl::StrFormat("%s: %d %s\n", role, id, Quoted(tokenizer->DecodeToken(id))));
  }
  if (roles.prepend_bos) Print("documents start with bos\n");
  Print(absl::StrFormat("special tokens: %d\n", tokenizer->specials().size()));
  for (const SpecialToken& special : tokenizer->specials()) {
    Print(absl::StrFormat("  %8d  %s\n", special.id, Quoted(special.text)));
  }
  return absl::OkStatus();
}

}  // namespace

int TokenizerTrain(const TokenizerTrainOptions& options) {
  const absl::Status status = Train(options);
  return status.ok() ? 0 : WrongInput(status);
}

int TokenizerEncode(const TokenizerEncodeOptions& options) {
  const absl::Status status = Encode(options);
  return status.ok() ? 0 : WrongInput(status);
}

int TokenizerDecode(const TokenizerDecodeOptions& options) {
  const absl::Status status = Decode(options);
  return status.ok() ? 0 : WrongInput(status);
}

int TokenizerInfo(const TokenizerInfoOptions& options) {
  const absl::Status status = Info(options);
  return status.ok() ? 0 : WrongInput(status);
}

}  // namespace tanren
