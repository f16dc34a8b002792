// tanren tokenizer train | encode | decode | info
#ifndef TANREN_LAUNCH_TOKENIZER_VERBS_H_
#define TANREN_LAUNCH_TOKENIZER_VERBS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launch/data_verbs.h"

namespace tanren {

struct TokenizerTrainOptions {
  TextInputOptions text;
  std::string out;                                        // --out: a directory
  std::string kind = "bpe";                               // --kind bpe | bytes | characters | whitespace
  int64_t vocab_size = 8192;                              // --vocab-size (bpe)
  std::string split = "gpt2";                             // --split-pattern gpt2 | gpt4 | qwen (bpe)
  int64_t min_count = 2;                                  // --min-count (bpe)
  std::vector<std::string> specials = {"<|endoftext|>"};  // --special, repeated; --no-specials
  int threads = 0;                                        // --threads
  bool force = false;                                     // --force: replace another tokenizer at `out`
};

struct TokenizerEncodeOptions {
  std::string tokenizer;
  std::string text;  // --text; empty: the file, or stdin for "-" or nothing
  std::string file;
  bool specials = false;  // --specials: special tokens in the text are special
  bool pieces = false;    // --pieces: one line per token, with its text
};

struct TokenizerDecodeOptions {
  std::string tokenizer;
  std::vector<int64_t> ids;  // none: read from stdin, separated by white space
};

struct TokenizerInfoOptions {
  std::string tokenizer;
};

// Each prints its result on stdout, errors on stderr, and returns the exit code: 0, or 2 for wrong input.
int TokenizerTrain(const TokenizerTrainOptions& options);
int TokenizerEncode(const TokenizerEncodeOptions& options);
int TokenizerDecode(const TokenizerDecodeOptions& options);
int TokenizerInfo(const TokenizerInfoOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_TOKENIZER_VERBS_H_
