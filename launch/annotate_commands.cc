#include <memory>

#include "CLI/CLI.hpp"
#include "launch/annotate_verb.h"
#include "launch/command_line.h"

namespace tanren {

void AddAnnotateVerb(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("annotate", "Rank sampled answers: preferences out of samples");
  auto options = std::make_shared<AnnotateOptions>();
  verb->add_option("samples", options->samples,
                   "JSONL, plain or compressed: {\"prompt\", \"answer\", \"responses\": [...]} per line")
      ->required();
  verb->add_option("--judge", options->judge, "Who ranks: arithmetic (right answer first, then right steps)")
      ->required();
  verb->add_option("--out", options->out, "The rankings, JSONL")->required();
  verb->add_flag("--force", options->force, "Replace the file of --out");
  verb->callback([options, exit_code] { *exit_code = Annotate(*options); });
}

}  // namespace tanren
