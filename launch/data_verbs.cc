#include "launch/data_verbs.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "core/base/status.h"
#include "core/corpus/synth.h"
#include "core/corpus/token_corpus.h"
#include "core/corpus/tokenize.h"
#include "launch/text_verbs.h"

namespace tanren {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

absl::StatusOr<TokenizeOptions> ToTokenizeOptions(const DataTokenizeOptions& options) {
  TokenizeOptions tokenize;
  TANREN_ASSIGN_OR_RETURN(tokenize.documents, ToDocumentOptions(options.text));
  for (const std::string& text : options.splits) {
    TANREN_ASSIGN_OR_RETURN(const CorpusSplit split, ParseCorpusSplit(text));
    tokenize.splits.push_back(split);
  }
  if (options.split_by == "position") {
    tokenize.split_by = TokenizeOptions::SplitBy::kPosition;
  } else if (options.split_by == "document") {
    tokenize.split_by = TokenizeOptions::SplitBy::kDocument;
  } else if (options.split_by != "auto") {
    return InvalidInput("--split-by %s is none of auto, position and document", options.split_by);
  }
  tokenize.inputs = options.text.inputs;
  tokenize.max_damaged_fraction = options.text.max_damaged;
  tokenize.out = options.out;
  tokenize.append_end_of_text = options.end_of_text;
  tokenize.prepend_bos = options.bos;
  if (options.shard_tokens != 0) tokenize.shard_tokens = options.shard_tokens;
  tokenize.threads = options.threads;
  tokenize.force = options.force;
  return tokenize;
}

void PrintSummary(const TokenizeSummary& summary, double seconds) {
  if (summary.up_to_date)
    Print("up to date: the corpus was made from these inputs with this tokenizer already\n");
  int64_t text_bytes = 0;
  for (const TokenizeSummary::Split& split : summary.splits) {
    const CorpusManifest& m = split.manifest;
    text_bytes += m.text_bytes;
    Print(absl::StrFormat("%s: %d documents, %d tokens, %d bytes of text, %.3f bytes per token\n",
                          split.directory, m.documents, m.tokens, m.text_bytes,
                          static_cast<double>(m.text_bytes) / static_cast<double>(m.tokens)));
  }
  if (summary.splits.size() > 1) {
    Print(summary.split_by_position ? "split by position: the first characters, then the last\n"
                                    : "split by document: by the hash of its text\n");
  }
  PrintDamage(summary.damage);
  if (!summary.up_to_date) {
    Print(absl::StrFormat("%.1f s, %.1f MB of text per second\n", seconds,
                          static_cast<double>(text_bytes) / 1e6 / std::max(seconds, 1e-9)));
  }
}

// A corpus with the tokenizer it was made with.
struct OpenedCorpus {
  std::unique_ptr<TokenCorpus> corpus;
  std::unique_ptr<Tokenizer> tokenizer;
};

absl::StatusOr<OpenedCorpus> OpenWithTokenizer(const std::string& directory) {
  OpenedCorpus opened;
  TANREN_ASSIGN_OR_RETURN(opened.corpus, TokenCorpus::Open(directory));
  TANREN_ASSIGN_OR_RETURN(opened.tokenizer, LoadTokenizer(opened.corpus->tokenizer_directory()));
  if (opened.tokenizer->Hash() != opened.corpus->manifest().tokenizer_hash) {
    return InvalidInput("%s is not the tokenizer that the corpus was made with",
                        opened.corpus->tokenizer_directory());
  }
  return opened;
}

absl::Status ShowDocument(const OpenedCorpus& opened, int64_t document, const DataShowOptions& options) {
  const int64_t begin = opened.corpus->DocumentBegin(document);
  const int64_t tokens = opened.corpus->DocumentBegin(document + 1) - begin;
  std::vector<int32_t> ids(static_cast<size_t>(std::min(tokens, options.max_tokens)));
  TANREN_RETURN_IF_ERROR(opened.corpus->Read(begin, absl::MakeSpan(ids)));
  Print(absl::StrFormat("--- document %d: %d tokens from %d\n", document, tokens, begin));
  if (options.ids) {
    for (size_t i = 0; i < ids.size(); ++i) Print(absl::StrCat(i == 0 ? "" : " ", ids[i]));
  } else {
    TANREN_ASSIGN_OR_RETURN(const std::string text, opened.tokenizer->Decode(ids));
    Print(PrintableText(text));
  }
  const int64_t hidden = tokens - static_cast<int64_t>(ids.size());
  Print(hidden > 0 ? absl::StrFormat("\n... %d more tokens\n", hidden) : "\n");
  return absl::OkStatus();
}

absl::Status Show(const DataShowOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const OpenedCorpus opened, OpenWithTokenizer(options.directory));
  const int64_t all = opened.corpus->num_documents();
  if (options.first < 0 || options.first >= all || options.documents < 1 || options.max_tokens < 1) {
    return InvalidInput("--first %d, --documents %d, --max-tokens %d: the corpus has documents 0 to %d",
                        options.first, options.documents, options.max_tokens, all - 1);
  }
  for (int64_t i = 0; i < std::min(options.documents, all - options.first); ++i) {
    TANREN_RETURN_IF_ERROR(ShowDocument(opened, options.first + i, options));
  }
  return absl::OkStatus();
}

void PrintLengths(const TokenCorpus& corpus) {
  std::array<int64_t, 65> documents{};
  std::array<int64_t, 65> tokens{};
  int64_t shortest = corpus.num_tokens();
  int64_t longest = 0;
  for (int64_t i = 0, begin = 0; i < corpus.num_documents(); ++i) {
    const int64_t end = corpus.DocumentBegin(i + 1);
    const int64_t length = end - begin;
    const int bucket = std::bit_width(static_cast<uint64_t>(length));
    ++documents[bucket];
    tokens[bucket] += length;
    shortest = std::min(shortest, length);
    longest = std::max(longest, length);
    begin = end;
  }
  Print(absl::StrFormat(
      "tokens per document: shortest %d, mean %.1f, longest %d\n", shortest,
      static_cast<double>(corpus.num_tokens()) / static_cast<double>(corpus.num_documents()), longest));
  for (int bucket = 1; bucket < 64; ++bucket) {
    if (documents[bucket] == 0) continue;
    Print(absl::StrFormat(
        "  %12d to %-12d %12d documents %5.1f%% of tokens\n", int64_t{1} << (bucket - 1),
        (int64_t{1} << (bucket - 1)) * 2 - 1, documents[bucket],
        100.0 * static_cast<double>(tokens[bucket]) / static_cast<double>(corpus.num_tokens())));
  }
}

absl::Status PrintTopTokens(const OpenedCorpus& opened, int64_t top) {
  const TokenCorpus& corpus = *opened.corpus;
  std::vector<std::pair<int64_t, int32_t>> counts(static_cast<size_t>(corpus.vocab_size()));
  for (size_t id = 0; id < counts.size(); ++id) counts[id].second = static_cast<int32_t>(id);
  std::vector<int32_t> ids(1 << 20);
  for (int64_t begin = 0; begin < corpus.num_tokens(); begin += static_cast<int64_t>(ids.size())) {
    const auto part = static_cast<size_t>(std::min<int64_t>(ids.size(), corpus.num_tokens() - begin));
    TANREN_RETURN_IF_ERROR(corpus.Read(begin, absl::MakeSpan(ids.data(), part)));
    for (size_t i = 0; i < part; ++i) ++counts[ids[i]].first;
  }
  const auto used = std::count_if(counts.begin(), counts.end(), [](const auto& c) { return c.first > 0; });
  std::stable_sort(counts.begin(), counts.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  Print(absl::StrFormat("tokens in use: %d of %d; the most frequent:\n", used, corpus.vocab_size()));
  for (int64_t i = 0; i < std::min<int64_t>(top, used); ++i) {
    std::string text = PrintableText(opened.tokenizer->DecodeToken(counts[i].second));
    for (size_t feed; (feed = text.find('\n')) != std::string::npos;) text.replace(feed, 1, "\\n");
    Print(absl::StrFormat(
        "  %12d %5.2f%%  %8d  \"%s\"\n", counts[i].first,
        100.0 * static_cast<double>(counts[i].first) / static_cast<double>(corpus.num_tokens()),
        counts[i].second, text));
  }
  return absl::OkStatus();
}

absl::Status Stats(const DataStatsOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const OpenedCorpus opened, OpenWithTokenizer(options.directory));
  TANREN_RETURN_IF_ERROR(opened.corpus->Verify());
  const CorpusManifest& m = opened.corpus->manifest();
  Print(absl::StrFormat("%s: %d documents, %d tokens, %d bytes of text, %.3f bytes per token, %d shards\n",
                        options.directory, m.documents, m.tokens, m.text_bytes,
                        static_cast<double>(m.text_bytes) / static_cast<double>(m.tokens), m.shards.size()));
  Print(absl::StrFormat("tokenizer: %s, %d tokens, sha256 %s\n", m.tokenizer_kind, m.vocab_size,
                        m.tokenizer_hash));
  Print(absl::StrFormat("content: sha256 %s, all checksums match\n", m.content_hash));
  PrintLengths(*opened.corpus);
  return PrintTopTokens(opened, options.top);
}

}  // namespace

int DataTokenize(const DataTokenizeOptions& options) {
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = TokenizerByName(options.tokenizer);
  if (!tokenizer.ok()) return WrongInput(tokenizer.status());
  absl::StatusOr<TokenizeOptions> tokenize = ToTokenizeOptions(options);
  if (!tokenize.ok()) return WrongInput(tokenize.status());
  const Clock::time_point start = Clock::now();
  absl::StatusOr<TokenizeSummary> summary;
  {
    StageProgress progress;
    tokenize->progress = [&](const char* stage, int64_t done, int64_t total) {
      progress.Show(stage, done, total);
    };
    summary = TokenizeCorpus(*tokenize, **tokenizer);
  }
  if (!summary.ok()) return WrongInput(summary.status());
  PrintSummary(*summary, SecondsSince(start));
  return 0;
}

int DataShow(const DataShowOptions& options) {
  const absl::Status status = Show(options);
  return status.ok() ? 0 : WrongInput(status);
}

int DataStats(const DataStatsOptions& options) {
  const absl::Status status = Stats(options);
  return status.ok() ? 0 : WrongInput(status);
}

int DataSynth(const DataSynthOptions& options) {
  SynthOptions synth;
  synth.out = options.out;
  synth.seed = options.seed;
  synth.problems = options.problems;
  synth.pretrain = options.pretrain;
  synth.sft = options.sft;
  synth.wordings = options.wordings;
  synth.prompts = options.prompts;
  synth.held_out = options.held_out;
  synth.recall = options.recall;
  synth.recall_people = options.recall_people;
  synth.harder_prompts = options.harder_prompts;
  synth.longer_sft = options.longer_sft;
  synth.held_out_wordings = options.held_out_wordings;
  synth.digits = options.digits;
  synth.force = options.force;
  const absl::StatusOr<SynthSummary> summary = WriteSynthCorpus(synth);
  if (!summary.ok()) return WrongInput(summary.status());
  if (summary->up_to_date) Print("up to date\n");
  for (const SynthFile& file : summary->files) {
    Print(absl::StrFormat("%s: %d %s\n", file.path, file.records, file.use));
  }
  Print(absl::StrFormat("harder: %d of prompts.jsonl, %d of heldout.jsonl; none of either is trained on\n",
                        summary->harder_prompts, summary->harder_held_out));
  Print(absl::StrCat("the first problem:\n", summary->example, "\n"));
  return 0;
}

}  // namespace tanren
