// tanren eval SUITE.yaml: measures what a suite names and holds its gates against the figures.
#ifndef TANREN_LAUNCH_SUITE_VERB_H_
#define TANREN_LAUNCH_SUITE_VERB_H_

#include <string>
#include <vector>

namespace tanren {

struct SuiteOptions {
  std::string suite;
  std::vector<std::string> overrides;  // key=value on the suite
  std::string trace;                   // directory for the trace of every part; empty: none
  std::string replay;                  // directory of an earlier trace of which `part` is run again
  std::string part;
};

// Writes out/summary.json and out/samples.jsonl and prints a table and every gate that failed. Exit code 0; 2
// for wrong input; 3 when a gate failed. With `replay`: 0 when the part's outputs are the same, 1 when not.
int EvalSuite(const SuiteOptions& options);

// `tanren config validate|schema|table --suite`: as ConfigValidate, ConfigSchema and ConfigTable.
int SuiteValidate(const std::string& path, const std::vector<std::string>& overrides);
int SuiteSchema();
int SuiteTable();

}  // namespace tanren

#endif  // TANREN_LAUNCH_SUITE_VERB_H_
