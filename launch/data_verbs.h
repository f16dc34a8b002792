// tanren data tokenize | show | stats | synth
#ifndef TANREN_LAUNCH_DATA_VERBS_H_
#define TANREN_LAUNCH_DATA_VERBS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

// How text is found in input files; shared with `tanren tokenizer train`.
struct TextInputOptions {
  std::vector<std::string> inputs;     // files
  std::string format = "auto";         // --format auto | text | jsonl
  std::vector<std::string> text_keys;  // --text-key, repeated: fields of a JSONL record, joined by line feeds
  std::string document_delimiter;      // --document-delimiter: a line that ends a document of a text file
  bool split_at_blank_lines = false;   // --split-at-blank-lines
  double max_damaged = 0.01;           // --max-damaged: fraction of lines
};

struct DataTokenizeOptions {
  TextInputOptions text;
  std::string tokenizer;            // --tokenizer: a tokenizer's directory or file, or "bytes"
  std::string out;                  // --out
  std::vector<std::string> splits;  // --split name=fraction, repeated
  std::string split_by = "auto";    // --split-by auto | position | document
  bool end_of_text = true;          // --no-end-of-text
  bool bos = true;                  // --no-bos
  int64_t shard_tokens = 0;         // --shard-tokens; 0: the default
  int threads = 0;                  // --threads; 0: all
  bool force = false;               // --force
};

struct DataShowOptions {
  std::string directory;
  int64_t first = 0;         // --first: the first document shown
  int64_t documents = 3;     // --documents
  int64_t max_tokens = 200;  // --max-tokens of each document
  bool ids = false;          // --ids: show ids instead of text
};

struct DataStatsOptions {
  std::string directory;
  int64_t top = 20;  // --top: most frequent tokens
};

struct DataSynthOptions {
  std::string out;               // --out
  uint64_t seed = 1;             // --seed
  int64_t problems = 20000;      // --problems
  int64_t pretrain = 30000;      // --pretrain
  int64_t sft = 8000;            // --sft
  int64_t wordings = 2000;       // --wordings
  int64_t prompts = 4000;        // --prompts
  int64_t held_out = 500;        // --held-out
  int64_t recall = 0;            // --recall
  int recall_people = 1;         // --recall-people
  double harder_prompts = 0.25;  // --harder-prompts
  double longer_sft = 0.02;      // --longer-sft
  int held_out_wordings = 2;     // --held-out-wordings
  int digits = 2;                // --digits
  bool force = false;            // --force
};

// Each prints what it did on stdout, errors on stderr, and returns the exit code: 0, or 2 for wrong input.
int DataTokenize(const DataTokenizeOptions& options);
int DataShow(const DataShowOptions& options);
int DataStats(const DataStatsOptions& options);
int DataSynth(const DataSynthOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_DATA_VERBS_H_
