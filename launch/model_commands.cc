#include "CLI/CLI.hpp"
#include "core/base/status.h"
#include "launch/chat_verb.h"
#include "launch/command_line.h"
#include "launch/eval_verb.h"
#include "launch/generate_verb.h"
#include "launch/score_verb.h"
#include "launch/suite_verb.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

void AddSampling(CLI::App& verb, SamplingOptions* options) {
  verb.add_option("--max-tokens", options->max_tokens, "Longest answer")->capture_default_str();
  verb.add_option("--temperature", options->temperature, "0: greedy")->capture_default_str();
  verb.add_option("--top-k", options->top_k, "Sample among the k most likely tokens; 0: all")
      ->capture_default_str();
  verb.add_option("--top-p", options->top_p, "Sample among the most likely tokens of this mass")
      ->capture_default_str();
  verb.add_option("--repetition-penalty", options->repetition_penalty,
                  "Discourages tokens that have occurred; 1: off")
      ->capture_default_str();
  verb.add_option("--no-repeat-ngram", options->no_repeat_ngram,
                  "Never repeats so many tokens in a row; 0: off")
      ->capture_default_str();
  verb.add_option("--seed", options->seed, "Seed of the sampling")->capture_default_str();
}

void AddGenerate(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("generate", "Answer or continue prompts with a trained model");
  auto options = std::make_shared<GenerateOptions>();
  verb->add_option("checkpoint", options->checkpoint,
                   "A step directory, or a run directory: its newest commit")
      ->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the checkpoint's config");
  verb->add_option("-p,--prompt", options->prompts,
                   "A message to answer, after pre-training a text to continue; may be given several times")
      ->required();
  AddSampling(*verb, &options->sampling);
  verb->add_option("-n,--n", options->n, "Answers per prompt")->capture_default_str();
  verb->add_flag("--raw", options->raw, "Continue the text as it stands, without the chat template");
  verb->add_flag("--json", options->json, "One JSON object per answer, with tokens and log-probabilities");
  verb->callback([options, exit_code] { *exit_code = Generate(*options); });
}

void AddChat(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("chat", "Talk to a trained model; /help says what else can be typed");
  auto options = std::make_shared<ChatOptions>();
  verb->add_option("checkpoint", options->checkpoint,
                   "A step directory, or a run directory: its newest commit")
      ->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the checkpoint's config");
  verb->add_option("--system", options->system, "System message; by default that of the config");
  AddSampling(*verb, &options->sampling);
  verb->add_option("--context", options->context_tokens,
                   "Tokens that a conversation may take; 0: the model's context, at most 8192")
      ->capture_default_str();
  verb->callback([options, exit_code] { *exit_code = Chat(*options); });
}

// The two forms of eval: a suite, or a checkpoint with --cases.
struct EvalCommand {
  std::string target;
  EvalOptions short_form;
  SuiteOptions suite;
  std::vector<CLI::Option*> short_only, suite_only;
};

// The first of the options that was given.
const CLI::Option* FirstGiven(const std::vector<CLI::Option*>& options) {
  for (const CLI::Option* option : options) {
    if (option->count() > 0) return option;
  }
  return nullptr;
}

int RunEvalCommand(EvalCommand& command) {
  const bool short_form = !command.short_form.cases.empty();
  if (const CLI::Option* wrong = FirstGiven(short_form ? command.suite_only : command.short_only)) {
    return StatusExit(short_form ? InvalidInput("%s belongs to suites; leave out --cases", wrong->get_name())
                                 : InvalidInput("%s goes with --cases; a suite has keys for it, see "
                                                "docs/evaluation.md",
                                                wrong->get_name()));
  }
  if (!short_form) {
    command.suite.suite = command.target;
    return EvalSuite(command.suite);
  }
  command.short_form.checkpoint = command.target;
  command.short_form.overrides = command.suite.overrides;
  return Eval(command.short_form);
}

void AddEval(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("eval", "Measure a checkpoint: a suite of tests, or one file of cases");
  auto command = std::make_shared<EvalCommand>();
  EvalOptions& options = command->short_form;
  verb->add_option("target", command->target,
                   "A suite (YAML); or, with --cases, a step directory or a run directory")
      ->required();
  verb->add_option("overrides", command->suite.overrides,
                   "key=value: replaces a value of the suite; with --cases of the checkpoint's config");
  const auto suite = [&](CLI::Option* option) { command->suite_only.push_back(option); };
  suite(verb->add_option("--trace", command->suite.trace, "Write every part's input and output here"));
  suite(verb->add_option("--replay", command->suite.replay, "A trace of which one part is run again"));
  suite(verb->add_option("--part", command->suite.part, "That part: PART, or TEST/STRATEGY/PART"));
  verb->add_option("--cases", options.cases,
                   "JSONL file of cases: greedy answers, and samples with --samples");
  const auto only = [&](CLI::Option* option) { command->short_only.push_back(option); };
  only(verb->add_option("--prompt", options.prompt, "Prompt; {field} stands for the case's field"));
  only(verb->add_option("--marker", options.marker, "The answer follows it")->capture_default_str());
  only(verb->add_option("--limit", options.limit, "First cases only; 0: all")->capture_default_str());
  only(verb->add_option("--max-tokens", options.max_tokens, "Longest answer")->capture_default_str());
  only(verb->add_option("--slots", options.slots, "Sequences decoded at once")->capture_default_str());
  only(verb->add_option("--samples", options.samples,
                        "Sampled answers to each case: majority, pass@k, best of n")
           ->capture_default_str());
  only(verb->add_option("--temperature", options.temperature, "Of the samples")->capture_default_str());
  only(verb->add_option("--seed", options.seed, "Of the samples")->capture_default_str());
  only(verb->add_option("--reward", options.reward,
                        "Checkpoint of a reward model that chooses among the samples"));
  only(verb->add_option("--reference", options.reference,
                        "Checkpoint of a model from which the samples' KL divergence is measured"));
  only(verb->add_option("--out", options.out, "Write every case with its answer to this JSONL file"));
  only(verb->add_option("--summary", options.summary, "Write the figures to this JSON file"));
  verb->callback([command, exit_code] { *exit_code = RunEvalCommand(*command); });
}

void AddScore(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("score", "Log-probabilities, or a reward model's scores, of given answers");
  auto options = std::make_shared<ScoreOptions>();
  verb->add_option("checkpoint", options->checkpoint,
                   "A step directory, or a run directory: its newest commit; also of a reward model")
      ->required();
  verb->add_option("overrides", options->overrides, "key=value: replaces a value of the checkpoint's config");
  verb->add_option("-p,--prompt", options->prompts, "What is answered");
  verb->add_option("-r,--response", options->responses, "An answer; may be given several times");
  verb->add_option("--examples", options->examples,
                   "JSONL file of prompts with answers, in any format of examples, instead of the two above");
  verb->add_option("--format", options->format,
                   "Of --examples: a format by name; ranking: of choices, all of them")
      ->capture_default_str();
  verb->add_option("--reward", options->reward, "Checkpoint of a reward model that scores the answers too");
  verb->add_flag("--raw", options->raw,
                 "No chat template and no end of turn; so it is anyway after stage pretrain");
  verb->add_flag(
      "--skip-long", options->skip_long,
      "Leave a prompt out, and say so, whose answers do not fit into the context; else it is an error");
  verb->add_flag("--json", options->json, "One JSON object per prompt");
  verb->callback([options, exit_code] { *exit_code = Score(*options); });
}

}  // namespace

void AddModelVerbs(CLI::App& app, int* exit_code) {
  AddGenerate(app, exit_code);
  AddChat(app, exit_code);
  AddEval(app, exit_code);
  AddScore(app, exit_code);
}

}  // namespace tanren
