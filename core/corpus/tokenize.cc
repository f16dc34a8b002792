#include "core/corpus/tokenize.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/corpus/encode_pipeline.h"
#include "core/corpus/input_stream.h"
#include "core/corpus/staged_directory.h"
#include "core/corpus/token_corpus.h"
#include "core/corpus/tokenize_record.h"
#include "core/tokenizer/files.h"
#include "core/tokenizer/utf8.h"

namespace tanren {
namespace {

// The splits in full: fractions sum to 1. One nameless split where none was asked for.
absl::StatusOr<std::vector<CorpusSplit>> CompleteSplits(std::vector<CorpusSplit> splits) {
  if (splits.empty()) return std::vector<CorpusSplit>{{"", 1.0}};
  double sum = 0;
  bool has_train = false;
  for (size_t i = 0; i < splits.size(); ++i) {
    sum += splits[i].fraction;
    has_train |= splits[i].name == "train";
    for (size_t j = 0; j < i; ++j) {
      if (splits[i].name == splits[j].name)
        return InvalidInput("the split %s is given twice", splits[i].name);
    }
  }
  if (sum < 1 - 1e-9 && !has_train) {
    splits.insert(splits.begin(), {"train", 1 - sum});
    sum = 1;
  }
  if (std::abs(sum - 1) > 1e-9) return InvalidInput("the splits' fractions sum to %g, not to 1", sum);
  return splits;
}

// Upper bounds of the splits in [0, 1].
std::vector<double> Cumulative(const std::vector<CorpusSplit>& splits) {
  std::vector<double> bounds;
  double sum = 0;
  for (const CorpusSplit& split : splits) bounds.push_back(sum += split.fraction);
  bounds.back() = 1;
  return bounds;
}

// By the first 53 bits of a hash: the same document is in the same split on every machine and in every order.
int SplitOfHash(const std::string& sha256, const std::vector<double>& bounds) {
  const uint64_t bits = std::strtoull(sha256.substr(0, 16).c_str(), nullptr, 16) >> 11;
  const double place = static_cast<double>(bits) * 0x1p-53;
  return static_cast<int>(std::upper_bound(bounds.begin(), bounds.end() - 1, place) - bounds.begin());
}

size_t BytesOfCharacters(std::string_view text, int64_t characters) {
  size_t i = 0;
  while (i < text.size() && characters > 0) {
    ++i;
    while (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) ++i;
    --characters;
  }
  return i;
}

// One run of TokenizeCorpus.
class Run {
 public:
  Run(const TokenizeOptions& options, const Tokenizer& tokenizer) : options_(options), tokenizer_(tokenizer) {
    if (options.append_end_of_text) frame_.end_of_text = tokenizer.roles().end_of_text;
    if (options.prepend_bos && tokenizer.roles().prepend_bos) frame_.bos = tokenizer.roles().bos;
  }

  absl::StatusOr<TokenizeSummary> Go() {
    TANREN_RETURN_IF_ERROR(CheckOptions());
    TANREN_RETURN_IF_ERROR(DigestInputs());
    record_.request = RequestHash(options_, splits_, digests_, tokenizer_);
    TANREN_ASSIGN_OR_RETURN(const bool up_to_date, LookForEarlier());
    if (up_to_date) return Summarise(options_.out, true);
    TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<StagedDirectory> staged,
                            StagedDirectory::Create(options_.out));
    TANREN_RETURN_IF_ERROR(OpenWriters(staged->path()));
    TANREN_RETURN_IF_ERROR(EncodeAll());
    TANREN_RETURN_IF_ERROR(CheckDamage(record_.damage, options_.max_damaged_fraction));
    for (size_t i = 0; i < writers_.size(); ++i) {
      const absl::StatusOr<CorpusManifest> manifest = writers_[i]->Finish(frame_.bos, frame_.end_of_text);
      if (!manifest.ok() && !absl::IsNotFound(manifest.status())) return manifest.status();
      if (!manifest.ok()) {
        if (splits_[i].name.empty()) return InvalidInput("the inputs hold no text");
        return InvalidInput("the split %s gets no document; make its fraction larger or drop it",
                            splits_[i].name);
      }
    }
    TANREN_RETURN_IF_ERROR(WriteTokenizeRecord(staged->path(), record_, options_.inputs, digests_));
    TANREN_RETURN_IF_ERROR(staged->Commit(options_.force));
    return Summarise(options_.out, false);
  }

 private:
  std::string DirectoryOf(const std::string& root, const std::string& split) const {
    return split.empty() ? root : absl::StrCat(root, "/", split);
  }

  void Report(const char* stage, int64_t done_bytes) const {
    if (options_.progress) options_.progress(stage, done_bytes, total_bytes_);
  }

  absl::Status CheckOptions() {
    if (options_.inputs.empty()) return InvalidInput("no input files");
    if (options_.out.empty()) return InvalidInput("no output directory");
    if (options_.documents.line_limit_bytes < 1 || options_.documents.line_limit_bytes > int64_t{1} << 30) {
      return InvalidInput("a line limit of %d bytes; 1 to 2^30 are possible",
                          options_.documents.line_limit_bytes);
    }
    TANREN_ASSIGN_OR_RETURN(splits_, CompleteSplits(options_.splits));
    bounds_ = Cumulative(splits_);
    const DocumentReader reader(options_.documents, nullptr);
    bool one_each = true;
    for (const std::string& input : options_.inputs) {
      TANREN_ASSIGN_OR_RETURN(const InputFormat format, reader.FormatOf(input));
      one_each &= reader.one_document_per_file(format);
    }
    const bool position_possible = options_.inputs.size() == 1 && one_each;
    if (options_.split_by == TokenizeOptions::SplitBy::kPosition && !position_possible) {
      return InvalidInput(
          "splitting by position needs one text file that is one document; split by document instead");
    }
    record_.split_by_position =
        splits_.size() > 1 && position_possible && options_.split_by != TokenizeOptions::SplitBy::kDocument;
    for (const CorpusSplit& split : splits_) record_.splits.push_back(split.name);
    return absl::OkStatus();
  }

  absl::Status DigestInputs() {
    int64_t before = 0;
    for (const std::string& input : options_.inputs) {
      TANREN_ASSIGN_OR_RETURN(const FileDigest digest,
                              DigestFile(input, [&](int64_t bytes) { Report("reading", before + bytes); }));
      before += digest.bytes;
      digests_.push_back(digest);
    }
    total_bytes_ = before;
    return absl::OkStatus();
  }

  // True when `out` is what this request makes. False when it may be written.
  absl::StatusOr<bool> LookForEarlier() {
    if (IsAbsentOrEmpty(options_.out)) return false;
    const absl::StatusOr<TokenizeRecord> earlier = ReadTokenizeRecord(options_.out);
    if (absl::IsNotFound(earlier.status())) {
      return InvalidInput(
          "%s is there already and is no corpus made by `tanren data tokenize`; choose another --out",
          options_.out);
    }
    if (earlier.ok() && earlier->request == record_.request) {
      bool sound = true;
      for (const CorpusSplit& split : splits_)
        sound &= TokenCorpus::Open(DirectoryOf(options_.out, split.name)).ok();
      if (sound) {
        record_.damage = earlier->damage;
        return true;
      }
      if (!options_.force) return InvalidInput("%s is damaged; make it anew with --force", options_.out);
    }
    if (options_.force) return false;
    return InvalidInput(
        "%s holds a corpus made from other inputs, another tokenizer or other options; choose another --out, "
        "or replace "
        "it with --force",
        options_.out);
  }

  absl::Status OpenWriters(const std::string& root) {
    for (const CorpusSplit& split : splits_) {
      const std::string directory = DirectoryOf(root, split.name);
      TANREN_RETURN_IF_ERROR(MakeDirectories(directory));
      TANREN_ASSIGN_OR_RETURN(std::unique_ptr<CorpusWriter> writer,
                              CorpusWriter::Create(directory, tokenizer_, options_.shard_tokens));
      writers_.push_back(std::move(writer));
    }
    return absl::OkStatus();
  }

  absl::Status EncodeAll() {
    int threads = options_.threads;
    if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    EncodePipeline pipeline(&tokenizer_, frame_, threads,
                            [this](const RoutedPart& part, absl::Span<const int32_t> ids) -> absl::Status {
                              CorpusWriter& writer = *writers_[part.split];
                              TANREN_RETURN_IF_ERROR(writer.Append(ids, part.part.text.size()));
                              if (part.part.ends) writer.EndDocument();
                              return absl::OkStatus();
                            });
    if (record_.split_by_position) TANREN_RETURN_IF_ERROR(FindPositions());
    int64_t before = 0;
    // A document that is not a whole file must be whole to be hashed.
    const auto cut = [this](std::string_view text) { return tokenizer_.LastCut(text); };
    DocumentReader parts(options_.documents, cut);
    DocumentReader whole(options_.documents, nullptr);
    for (size_t file = 0; file < options_.inputs.size(); ++file) {
      const std::string& path = options_.inputs[file];
      TANREN_ASSIGN_OR_RETURN(const InputFormat format, parts.FormatOf(path));
      const bool by_file = parts.one_document_per_file(format);
      const auto sink = [&](DocumentPart part) -> absl::Status {
        const std::string place = absl::StrCat(path, ":", part.line);
        if (record_.split_by_position) return PushByPosition(std::move(part), place, &pipeline);
        int split = 0;
        if (splits_.size() > 1)
          split = SplitOfHash(by_file ? digests_[file].sha256 : Sha256Hex(part.text), bounds_);
        return pipeline.Push({std::move(part), split}, place);
      };
      DocumentReader& reader = splits_.size() == 1 || by_file ? parts : whole;
      TANREN_RETURN_IF_ERROR(reader.ReadFile(path, &record_.damage, sink,
                                             [&](int64_t bytes) { Report("tokenising", before + bytes); }));
      before += digests_[file].bytes;
    }
    return pipeline.Finish();
  }

  // Where, in characters, each split ends: int(n * fraction) as in nanoGPT.
  absl::Status FindPositions() {
    int64_t characters = 0;
    DamageReport ignored;  // counted in the second pass
    DocumentReader reader(options_.documents, [](std::string_view text) { return text.size() - 1; });
    const auto count = [&](DocumentPart part) {
      characters += CountUtf8Characters(part.text);
      return absl::OkStatus();
    };
    TANREN_RETURN_IF_ERROR(reader.ReadFile(options_.inputs[0], &ignored, count,
                                           [&](int64_t bytes) { Report("counting", bytes); }));
    for (const double bound : bounds_) {
      split_ends_.push_back(static_cast<int64_t>(static_cast<double>(characters) * bound));
    }
    split_ends_.back() = characters;
    return absl::OkStatus();
  }

  // Cuts a part where splits end; each split sees the text between as a document of its own.
  absl::Status PushByPosition(DocumentPart part, const std::string& place, EncodePipeline* pipeline) {
    std::string_view left = part.text;
    bool begins = part.begins;
    do {
      while (current_split_ + 1 < splits_.size() && position_ == split_ends_[current_split_]) {
        ++current_split_;
        begins = true;
      }
      const size_t bytes = BytesOfCharacters(left, split_ends_[current_split_] - position_);
      const int64_t characters = CountUtf8Characters(left.substr(0, bytes));
      position_ += characters;
      const bool ends = position_ == split_ends_[current_split_];
      DocumentPart piece{std::string(left.substr(0, bytes)), begins, ends, part.line};
      TANREN_RETURN_IF_ERROR(pipeline->Push({std::move(piece), static_cast<int>(current_split_)}, place));
      left.remove_prefix(bytes);
      begins = false;
    } while (!left.empty());
    return absl::OkStatus();
  }

  absl::StatusOr<TokenizeSummary> Summarise(const std::string& root, bool up_to_date) const {
    TokenizeSummary summary;
    summary.up_to_date = up_to_date;
    summary.split_by_position = record_.split_by_position;
    summary.damage = record_.damage;
    for (const CorpusSplit& split : splits_) {
      const std::string directory = DirectoryOf(root, split.name);
      TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<TokenCorpus> corpus, TokenCorpus::Open(directory));
      summary.splits.push_back({split.name, directory, corpus->manifest()});
    }
    return summary;
  }

  const TokenizeOptions& options_;
  const Tokenizer& tokenizer_;
  EncodeFrame frame_;
  std::vector<CorpusSplit> splits_;
  std::vector<double> bounds_;
  std::vector<FileDigest> digests_;
  int64_t total_bytes_ = 0;
  TokenizeRecord record_;
  std::vector<std::unique_ptr<CorpusWriter>> writers_;
  // Splitting by position: where each split ends, and where the reading is.
  std::vector<int64_t> split_ends_;
  size_t current_split_ = 0;
  int64_t position_ = 0;
};

}  // namespace

absl::StatusOr<CorpusSplit> ParseCorpusSplit(std::string_view text) {
  CorpusSplit split;
  const size_t equals = text.find('=');
  split.name = std::string(text.substr(0, equals));
  const bool named = !split.name.empty() && split.name[0] != '-' &&
                     std::all_of(split.name.begin(), split.name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                              c == '-' || c == '_';
                     });
  if (!named || equals == std::string_view::npos ||
      !absl::SimpleAtod(View(text.substr(equals + 1)), &split.fraction) || !(split.fraction > 0) ||
      split.fraction > 1) {
    return InvalidInput(
        "the split %s is not like validation=0.1: a name, and a fraction above 0 and at most 1",
        Quoted(text));
  }
  if (split.name == "tokenizer") return InvalidInput("a split cannot be named tokenizer");
  return split;
}

absl::StatusOr<TokenizeSummary> TokenizeCorpus(const TokenizeOptions& options, const Tokenizer& tokenizer) {
  return Run(options, tokenizer).Go();
}

}  // namespace tanren
