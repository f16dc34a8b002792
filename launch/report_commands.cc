#include <memory>

#include "CLI/CLI.hpp"
#include "launch/command_line.h"
#include "launch/report_verb.h"

namespace tanren {

void AddReportVerb(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand(
      "report", "Say what a run, or each stage of a home, has reached, and write a page with all of it");
  auto options = std::make_shared<ReportOptions>();
  verb->add_option("run", options->run, "A run directory, or one with those of several stages")->required();
  verb->add_option("--html", options->html,
                   "Where the page is written; default: RUN/report.html, with --summary nowhere");
  verb->add_option("--stage", options->stage, "Name of the row; default: the directory's");
  verb->add_option("--from-step", options->from_step, "Count steps and tokens after this one")
      ->capture_default_str();
  verb->add_option("--to-step", options->to_step, "The figures as of this step; -1: the last")
      ->capture_default_str();
  verb->add_option("--seconds", options->seconds, "Time that the stage took");
  verb->add_option("--evaluation", options->evaluation,
                   "A file of `tanren eval --summary`, for the accuracy");
  verb->add_option("--summary", options->summary,
                   "Also set the row in this JSON file, and print all its rows");
  verb->callback([options, exit_code] { *exit_code = Report(*options); });
}

}  // namespace tanren
