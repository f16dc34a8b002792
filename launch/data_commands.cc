#include "CLI/CLI.hpp"
#include "launch/command_line.h"
#include "launch/data_verbs.h"
#include "launch/show_examples.h"
#include "launch/tokenizer_verbs.h"

namespace tanren {
namespace {

void AddTextInput(CLI::App* verb, TextInputOptions* text) {
  verb->add_option("inputs", text->inputs, "Text or JSONL files, also .gz and .zst")->required();
  verb->add_option("--format", text->format, "auto, text or jsonl")->capture_default_str();
  verb->add_option("--text-key", text->text_keys,
                   "Field of a JSONL record; several are joined by line feeds");
  verb->add_option("--document-delimiter", text->document_delimiter,
                   "A line that ends a document of a text file");
  verb->add_flag("--split-at-blank-lines", text->split_at_blank_lines, "A blank line ends a document");
  verb->add_option("--max-damaged", text->max_damaged, "Largest fraction of damaged lines")
      ->capture_default_str();
}

void AddTokenize(CLI::App* data, int* exit_code) {
  auto* verb = data->add_subcommand("tokenize", "Turn text into memory-mapped token shards");
  auto options = std::make_shared<DataTokenizeOptions>();
  AddTextInput(verb, &options->text);
  verb->add_option("--tokenizer", options->tokenizer, "A tokenizer's directory or file, or \"bytes\"")
      ->required();
  verb->add_option("--out", options->out, "Directory of the corpus, or of one corpus per split")->required();
  verb->add_option("--split", options->splits, "name=fraction; may be given several times");
  verb->add_option("--split-by", options->split_by, "auto, position or document")->capture_default_str();
  verb->add_flag("!--no-end-of-text", options->end_of_text,
                 "Do not end documents with the end-of-text token");
  verb->add_flag("!--no-bos", options->bos, "Do not begin documents with the tokenizer's begin token");
  verb->add_option("--shard-tokens", options->shard_tokens, "Tokens per shard file; 0: the default");
  verb->add_option("--threads", options->threads, "0: all cores");
  verb->add_flag("--force", options->force, "Replace another corpus");
  verb->callback([options, exit_code] { *exit_code = DataTokenize(*options); });
}

void AddShow(CLI::App* data, int* exit_code) {
  auto* verb =
      data->add_subcommand("show", "Print the first documents of a corpus, or the first examples of a file");
  auto options = std::make_shared<DataShowOptions>();
  auto examples = std::make_shared<ShowExamplesOptions>();
  verb->add_option("path", options->directory,
                   "Directory of a corpus, or a .jsonl[.gz|.zst] file of examples")
      ->required();
  verb->add_option("--first", options->first, "First document shown")->capture_default_str();
  verb->add_option("--documents", options->documents, "Number of documents")->capture_default_str();
  verb->add_option("--max-tokens", options->max_tokens, "Of each document of a corpus")
      ->capture_default_str();
  verb->add_flag("--ids", options->ids, "Show token ids instead of text (of a corpus)");
  verb->add_option("--tokenizer", examples->tokenizer, "Of examples: a directory or file, or \"bytes\"");
  verb->add_option("--template", examples->chat_template, "Of examples: plain or chatml")
      ->capture_default_str();
  verb->add_option("--format", examples->format,
                   "Of examples: a format by name; ranking: of choices, all of them; answer: of worked "
                   "answers, the prompt and what is checked, as RL takes it")
      ->capture_default_str();
  verb->add_option("--system", examples->system,
                   "Of examples: system message of records that have none, as chat.system");
  verb->add_option("--color", examples->color, "Of examples: auto, always or never")->capture_default_str();
  verb->callback([options, examples, exit_code] {
    if (!IsExampleFile(options->directory)) {
      *exit_code = DataShow(*options);
      return;
    }
    examples->path = options->directory;
    examples->first = options->first;
    examples->documents = options->documents;
    *exit_code = ShowExamples(*examples);
  });
}

void AddStats(CLI::App* data, int* exit_code) {
  auto* verb = data->add_subcommand("stats", "Count the documents, tokens and lengths of a corpus");
  auto options = std::make_shared<DataStatsOptions>();
  verb->add_option("directory", options->directory, "Directory of a corpus")->required();
  verb->add_option("--top", options->top, "Most frequent tokens shown")->capture_default_str();
  verb->callback([options, exit_code] { *exit_code = DataStats(*options); });
}

void AddSynth(CLI::App* data, int* exit_code) {
  auto* verb = data->add_subcommand("synth", "Generate arithmetic with worked steps, for every stage");
  auto options = std::make_shared<DataSynthOptions>();
  verb->add_option("--out", options->out, "Directory")->required();
  verb->add_option("--seed", options->seed, "Seed")->capture_default_str();
  verb->add_option("--problems", options->problems, "Problems of train.jsonl")->capture_default_str();
  verb->add_option("--pretrain", options->pretrain, "Documents of pretrain.jsonl")->capture_default_str();
  verb->add_option("--sft", options->sft, "Examples of sft.jsonl and sft_answers.jsonl")
      ->capture_default_str();
  verb->add_option("--wordings", options->wordings, "Instructions of wordings.jsonl")->capture_default_str();
  verb->add_option("--prompts", options->prompts, "Questions of prompts.jsonl")->capture_default_str();
  verb->add_option("--held-out", options->held_out, "Held-out problems")->capture_default_str();
  verb->add_option("--recall", options->recall, "Questions who has how many, of each of recall*.jsonl")
      ->capture_default_str();
  verb->add_option("--recall-people", options->recall_people, "Most people of such a question: 1 to 3")
      ->capture_default_str();
  verb->add_option("--harder-prompts", options->harder_prompts, "Share of prompts.jsonl that is harder")
      ->capture_default_str();
  verb->add_option("--longer-sft", options->longer_sft, "Share of sft.jsonl with longer operands")
      ->capture_default_str();
  verb->add_option(
          "--held-out-wordings", options->held_out_wordings,
          "Sentence patterns of each operation that no training file shows; of --recall's four times as many")
      ->capture_default_str();
  verb->add_option("--digits", options->digits, "Longest operand of a usual problem")->capture_default_str();
  verb->add_flag("--force", options->force, "Replace another synthetic corpus");
  verb->callback([options, exit_code] { *exit_code = DataSynth(*options); });
}

void AddTokenizerTrain(CLI::App* tokenizer, int* exit_code) {
  auto* verb = tokenizer->add_subcommand("train", "Make a tokenizer from text");
  auto options = std::make_shared<TokenizerTrainOptions>();
  AddTextInput(verb, &options->text);
  verb->add_option("--out", options->out, "Directory of the tokenizer")->required();
  verb->add_option("--kind", options->kind, "bpe, bytes, characters or whitespace")->capture_default_str();
  verb->add_option("--vocab-size", options->vocab_size, "Of a bpe tokenizer")->capture_default_str();
  verb->add_option("--split-pattern", options->split, "gpt2, gpt4 or qwen (bpe)")->capture_default_str();
  verb->add_option("--min-count", options->min_count, "Fewest occurrences of a merged pair (bpe)")
      ->capture_default_str();
  verb->add_option("--special", options->specials, "Special tokens; default <|endoftext|>");
  verb->add_flag_callback(
      "--no-specials", [options] { options->specials.clear(); }, "No special tokens");
  verb->add_option("--threads", options->threads, "0: all cores");
  verb->add_flag("--force", options->force, "Replace another tokenizer");
  verb->callback([options, exit_code] { *exit_code = TokenizerTrain(*options); });
}

void AddTokenizerUse(CLI::App* tokenizer, int* exit_code) {
  auto* encode = tokenizer->add_subcommand("encode", "Text to token ids");
  auto encode_options = std::make_shared<TokenizerEncodeOptions>();
  encode->add_option("tokenizer", encode_options->tokenizer, "A tokenizer's directory or file, or \"bytes\"")
      ->required();
  encode->add_option("file", encode_options->file, "Text file; - or nothing: standard input");
  encode->add_option("--text", encode_options->text, "The text itself");
  encode->add_flag("--specials", encode_options->specials, "Special tokens in the text are special");
  encode->add_flag("--pieces", encode_options->pieces, "One line per token, with its text");
  encode->callback([encode_options, exit_code] { *exit_code = TokenizerEncode(*encode_options); });

  auto* decode = tokenizer->add_subcommand("decode", "Token ids to text");
  auto decode_options = std::make_shared<TokenizerDecodeOptions>();
  decode->add_option("tokenizer", decode_options->tokenizer, "A tokenizer's directory or file, or \"bytes\"")
      ->required();
  decode->add_option("ids", decode_options->ids, "Ids; none: standard input");
  decode->callback([decode_options, exit_code] { *exit_code = TokenizerDecode(*decode_options); });

  auto* info = tokenizer->add_subcommand("info", "What a tokenizer is");
  auto info_options = std::make_shared<TokenizerInfoOptions>();
  info->add_option("tokenizer", info_options->tokenizer, "A tokenizer's directory or file, or \"bytes\"")
      ->required();
  info->callback([info_options, exit_code] { *exit_code = TokenizerInfo(*info_options); });
}

}  // namespace

void AddDataVerbs(CLI::App& app, int* exit_code) {
  auto* data = app.add_subcommand("data", "Make and look at token corpora");
  data->require_subcommand(1);
  AddTokenize(data, exit_code);
  AddShow(data, exit_code);
  AddStats(data, exit_code);
  AddSynth(data, exit_code);
  auto* tokenizer = app.add_subcommand("tokenizer", "Make and use tokenizers");
  tokenizer->require_subcommand(1);
  AddTokenizerTrain(tokenizer, exit_code);
  AddTokenizerUse(tokenizer, exit_code);
}

}  // namespace tanren
