#include "CLI/CLI.hpp"
#include "launch/bench_verb.h"
#include "launch/command_line.h"

namespace tanren {
namespace {

using Verb = int (*)(const BenchOptions&);

CLI::App* AddBench(CLI::App& bench, const char* name, const char* text,
                   const std::shared_ptr<BenchOptions>& options, Verb run, int* exit_code) {
  CLI::App* verb = bench.add_subcommand(name, text);
  verb->add_option("--device", options->device, "cpu or cuda")->capture_default_str();
  verb->add_option("--precision", options->precision, "bf16 or fp32")->capture_default_str();
  verb->callback([options, run, exit_code] { *exit_code = run(*options); });
  return verb;
}

}  // namespace

void AddBenchVerb(CLI::App& app, int* exit_code) {
  auto* bench = app.add_subcommand("bench", "Measure kernels and steps on this machine");
  bench->require_subcommand(1);
  auto options = std::make_shared<BenchOptions>();
  auto* attention =
      AddBench(*bench, "attention", "Attention forward and backward", options, BenchAttention, exit_code);
  attention->add_option("--head-dims", options->head_dims, "Head sizes")
      ->delimiter(',')
      ->capture_default_str();
  attention->add_option("--lengths", options->lengths, "Sequence lengths")
      ->delimiter(',')
      ->capture_default_str();
  attention->add_option("--tokens", options->tokens, "Tokens of a packed row")->capture_default_str();
  attention->add_option("--width", options->width, "Heads times head size")->capture_default_str();
  attention->add_option("--kv-groups", options->kv_groups, "Query heads a key/value head")
      ->capture_default_str();
  attention->add_flag("--full", options->full, "No causal mask");
  attention->add_flag("--mixed", options->mixed, "Segments of many lengths, the longest as given");
  AddBench(*bench, "gemm", "The matrix products of published models", options, BenchMatmul, exit_code);
  AddBench(*bench, "kernels", "Memory-bound kernels beside a copy", options, BenchKernels, exit_code);
  auto* collectives =
      AddBench(*bench, "collectives", "Collectives between the ranks of `tanren launch -n N bench ...`",
               options, BenchCollectives, exit_code);
  collectives->add_option("--sizes", options->sizes, "Bytes of the whole buffer")
      ->delimiter(',')
      ->capture_default_str();
  collectives->add_option("--tensor", options->tensor, "Ranks of the tensor axis")->capture_default_str();
  for (const auto& [name, text, run] :
       {std::tuple{"step", "A training step on random tokens", &BenchStep},
        std::tuple{"decode", "Greedy generation from random tokens", &BenchDecode}}) {
    auto* verb = AddBench(*bench, name, text, options, run, exit_code);
    verb->add_option("model", options->model, "Model shape, a file like configs/models/gpt2_124m.yaml")
        ->capture_default_str();
    verb->add_option("overrides", options->overrides, "key=value of a run's configuration");
    verb->add_option("--steps", options->steps, "Steps measured; decode: tokens of an answer")
        ->capture_default_str();
    verb->add_option("--batch", options->batch, "Decode: sequences at once")->capture_default_str();
    verb->add_option("--prompt", options->prompt, "Decode: tokens of a prompt")->capture_default_str();
    verb->add_flag("--parts", options->parts, "Decode: the kernels of a step instead, together and by kind");
  }
}

}  // namespace tanren
