// The command line: one function per group of verbs. Each adds its subcommands to `app`; the chosen one
// stores its exit code in `exit_code`, which must outlive the parse.
#ifndef TANREN_LAUNCH_COMMAND_LINE_H_
#define TANREN_LAUNCH_COMMAND_LINE_H_

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace tanren {

void AddTrainVerbs(CLI::App& app, const std::vector<std::string>& command_line,
                   int* exit_code);                      // train, launch, estimate, doctor
void AddModelVerbs(CLI::App& app, int* exit_code);       // generate, eval, score
void AddReportVerb(CLI::App& app, int* exit_code);       // report
void AddAnnotateVerb(CLI::App& app, int* exit_code);     // annotate
void AddBenchVerb(CLI::App& app, int* exit_code);        // bench
void AddDataVerbs(CLI::App& app, int* exit_code);        // data, tokenizer
void AddCheckpointVerbs(CLI::App& app, int* exit_code);  // ckpt
void AddConfigVerbs(CLI::App& app, int* exit_code);      // config
void AddPluginVerbs(CLI::App& app, int* exit_code);      // plugin
void AddPipelineVerbs(CLI::App& app, int* exit_code);    // submit, runs

}  // namespace tanren

#endif  // TANREN_LAUNCH_COMMAND_LINE_H_
