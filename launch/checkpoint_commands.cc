#include "CLI/CLI.hpp"
#include "launch/ckpt_verbs.h"
#include "launch/command_line.h"
#include "launch/hf_verbs.h"

namespace tanren {
namespace {

void AddReading(CLI::App* ckpt, int* exit_code) {
  auto* ls = ckpt->add_subcommand("ls", "The checkpoints of a run");
  auto ls_options = std::make_shared<CkptLsOptions>();
  ls->add_option("run", ls_options->run_dir, "Run directory")->required();
  ls->callback([ls_options, exit_code] { *exit_code = CkptLs(*ls_options); });

  auto* inspect = ckpt->add_subcommand("inspect", "What a checkpoint holds");
  auto inspect_options = std::make_shared<CkptInspectOptions>();
  inspect->add_option("checkpoint", inspect_options->directory, "Step directory")->required();
  inspect->add_flag("--chunks", inspect_options->chunks, "Every chunk of every tensor");
  inspect->callback([inspect_options, exit_code] { *exit_code = CkptInspect(*inspect_options); });

  auto* verify = ckpt->add_subcommand("verify", "Read everything and check it");
  auto verify_options = std::make_shared<CkptVerifyOptions>();
  verify->add_option("checkpoint", verify_options->directory, "Step directory")->required();
  verify->callback([verify_options, exit_code] { *exit_code = CkptVerify(*verify_options); });

  auto* diff =
      ckpt->add_subcommand("diff", "Compare two checkpoints bit by bit; exit code 1 where they differ");
  auto diff_options = std::make_shared<CkptDiffOptions>();
  diff->add_option("a", diff_options->a, "Step directory")->required();
  diff->add_option("b", diff_options->b, "Step directory")->required();
  diff->callback([diff_options, exit_code] { *exit_code = CkptDiff(*diff_options); });
}

void AddWriting(CLI::App* ckpt, int* exit_code) {
  auto* reshard = ckpt->add_subcommand("reshard", "Rewrite a checkpoint as whole tensors");
  auto reshard_options = std::make_shared<CkptReshardOptions>();
  reshard->add_option("checkpoint", reshard_options->directory, "Step directory")->required();
  reshard->add_option("--out", reshard_options->out, "New step directory")->required();
  reshard->add_option("--files", reshard_options->files, "Pairs of shard files")->capture_default_str();
  reshard->callback([reshard_options, exit_code] { *exit_code = CkptReshard(*reshard_options); });

  auto* prune = ckpt->add_subcommand("prune", "Remove old checkpoints and leftovers of a run");
  auto prune_options = std::make_shared<CkptPruneOptions>();
  prune->add_option("run", prune_options->run_dir, "Run directory")->required();
  prune->add_option("--keep", prune_options->keep, "Newest commits kept, at least 2")->capture_default_str();
  prune->add_option("--keep-every", prune_options->keep_every, "Also keep steps divisible by it; 0: none");
  prune->callback([prune_options, exit_code] { *exit_code = CkptPrune(*prune_options); });
}

void AddExchange(CLI::App* ckpt, int* exit_code) {
  auto* in = ckpt->add_subcommand("import-hf", "Make a checkpoint from a Hugging Face model directory");
  auto import_options = std::make_shared<ImportHfOptions>();
  in->add_option("directory", import_options->directory, "Hugging Face directory")->required();
  in->add_option("--out", import_options->out, "New step directory")->required();
  in->callback([import_options, exit_code] { *exit_code = ImportHf(*import_options); });

  auto* out = ckpt->add_subcommand("export-hf", "Make a Hugging Face model directory from a checkpoint");
  auto export_options = std::make_shared<ExportHfOptions>();
  out->add_option("checkpoint", export_options->step_directory, "Step directory")->required();
  out->add_option("--out", export_options->out, "New Hugging Face directory")->required();
  out->add_option("--dtype", export_options->dtype, "float32 or bfloat16")->capture_default_str();
  out->callback([export_options, exit_code] { *exit_code = ExportHf(*export_options); });
}

}  // namespace

void AddCheckpointVerbs(CLI::App& app, int* exit_code) {
  auto* ckpt = app.add_subcommand("ckpt", "Look at, check and convert checkpoints");
  ckpt->require_subcommand(1);
  AddReading(ckpt, exit_code);
  AddWriting(ckpt, exit_code);
  AddExchange(ckpt, exit_code);
}

}  // namespace tanren
