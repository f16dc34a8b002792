#include <memory>

#include "CLI/CLI.hpp"
#include "launch/annotate_verb.h"
#include "launch/command_line.h"

namespace tanren {

void AddAnnotateVerb(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("annotate", "Rank sampled answers: preferences out of samples");
  auto options = std::make_shared<AnnotateOptions>();
  verb->add_option("samples", options->samples,
                   "JSONL, plain or compressed: {\"prompt\", \"responses\": [...]} per line");
  verb->add_option("--out", options->out, "The rankings, JSONL; a person goes on where the file ends");
  verb->add_option("--judge", options->judge,
                   "Who ranks: arithmetic (right answer first, then right steps); left out: you, here");
  verb->add_flag("--force", options->force, "Replace the file of --out (with --judge)");
  verb->add_flag("--labels", options->labels, "Call each answer good or bad (KTO) instead of ranking them");
  verb->add_option("--annotator", options->annotator, "Your name, stored with every decision");
  verb->add_option("--seed", options->seed, "Of the order in which the answers to a prompt are shown")
      ->capture_default_str();
  verb->add_flag("!--no-shuffle", options->shuffle, "Show the answers in the order of the samples");
  verb->add_flag("--show-models", options->show_models,
                 "Show who wrote an answer, where the samples say (\"models\")");

  auto* agreement = verb->add_subcommand("agreement", "How far two files of rankings, or of labels, agree");
  auto compared = std::make_shared<AgreementOptions>();
  agreement->add_option("first", compared->first, "Rankings or labels, JSONL")->required();
  agreement->add_option("second", compared->second, "The same answers, decided by another")->required();
  agreement->callback([compared, exit_code] { *exit_code = AnnotateAgreement(*compared); });
  verb->callback([options, agreement, exit_code] {
    if (!agreement->parsed()) *exit_code = Annotate(*options);
  });
}

}  // namespace tanren
