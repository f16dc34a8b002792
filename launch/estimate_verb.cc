#include "launch/estimate_verb.h"

#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/pipeline/plan.h"
#include "core/plugin/load.h"
#include "core/report/append_file.h"
#include "core/trainer/setup.h"
#include "launch/job.h"
#include "nlohmann/json.hpp"
#include "parallel/engine/mesh_engine.h"
#include "parallel/engine/planning.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

struct Estimated {
  Job job;
  MeshShape shape;
  Price price;
};

absl::StatusOr<MeshShape> LayoutOf(const config::ParallelConfig& parallel, int64_t world_size) {
  MeshShape shape = MeshShapeOf(parallel);
  const int64_t others = int64_t{shape.tensor} * shape.pipe * shape.context;
  if (shape.data == 0) shape.data = static_cast<int>(world_size / others);
  if (world_size < 1 || world_size > (1 << 24) || shape.data * others != world_size) {
    return InvalidInput("--world-size: %d ranks do not divide into %s; choose a multiple of %d", world_size,
                        shape.ToString(), others);
  }
  return shape;
}

// Whether a checkpoint that the stage would look at is still to be made.
bool LacksCheckpoint(const config::InitConfig& init) {
  return std::ranges::any_of(
      std::vector<std::string>{init.from(), init.reference(), init.reward(), init.critic()},
      [](const std::string& path) { return !path.empty() && !std::filesystem::exists(path); });
}

// As PrepareJob(), of a run whose tokenizer (then of `vocabulary` tokens) or checkpoints other stages have
// yet to make.
absl::Status PrepareOnPaper(const std::string& path, const std::vector<std::string>& overrides,
                            int64_t vocabulary, Job* job, std::string* assumption) {
  TANREN_ASSIGN_OR_RETURN(const config::Config config, LoadConfigWithPlugins(path, overrides));
  job->config = config::Resolve(config);
  TANREN_ASSIGN_OR_RETURN(job->stage, MakeStage(job->config.stage()));
  const bool no_tokenizer =
      !job->config.tokenizer().path().empty() && !std::filesystem::exists(job->config.tokenizer().path());
  const bool no_checkpoint = LacksCheckpoint(job->config.init());
  if (!no_tokenizer && !no_checkpoint) return PrepareJob(path, overrides, job);
  if (!no_tokenizer) {
    TANREN_ASSIGN_OR_RETURN(job->tokenizer, TokenizerFromConfig(job->config));
    vocabulary = job->tokenizer->vocab_size();
  } else if (vocabulary == 0) {
    return InvalidInput("tokenizer.path: %s is not there yet; state its size with --vocabulary",
                        job->config.tokenizer().path());
  }
  TANREN_ASSIGN_OR_RETURN(job->engine, EngineOptionsFromConfig(job->config, vocabulary));
  AssumeModels(job->config, &job->engine);
  *assumption = absl::StrCat(no_tokenizer ? absl::StrCat("a vocabulary of ", vocabulary) : "",
                             no_tokenizer && no_checkpoint ? "; " : "",
                             no_checkpoint ? "the models of other stages are as large as this one's" : "");
  return absl::OkStatus();
}

absl::StatusOr<Estimated> EstimateRun(const EstimateOptions& options, const std::string& path,
                                      const std::vector<std::string>& overrides, int64_t world_size) {
  Estimated out;
  std::string assumption;
  TANREN_RETURN_IF_ERROR(PrepareOnPaper(path, overrides, options.vocabulary, &out.job, &assumption));
  TANREN_ASSIGN_OR_RETURN(out.shape, LayoutOf(out.job.config.parallel(), world_size));
  out.price = PriceRun(out.job.config, out.job.engine, out.shape, options.machine, options.lengths);
  if (!out.price.assumption.empty() && !assumption.empty()) absl::StrAppend(&assumption, "; ");
  out.price.assumption = assumption + out.price.assumption;
  return out;
}

std::string Bytes(double bytes) {
  const char* const units[] = {"B", "KB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  for (; bytes >= 1000 && unit < 5; ++unit) bytes /= 1000;
  return absl::StrFormat("%.4g %s", bytes, units[unit]);
}

std::string Time(double seconds) {
  if (seconds < 1) return absl::StrFormat("%.4g ms", 1e3 * seconds);
  if (seconds < 600) return absl::StrFormat("%.4g s", seconds);
  if (seconds < 2 * 86400) return absl::StrFormat("%.4g h", seconds / 3600);
  return absl::StrFormat("%.4g days", seconds / 86400);
}

void PrintPrice(const Estimated& run, const EstimateOptions& options) {
  const Price& price = run.price;
  const Machine& machine = options.machine;
  std::printf(
      "on paper    a rank of %.4g TFLOP/s at %.0f %%, memory %s/s, links %s/s in a node of %lld and %s/s "
      "between nodes, "
      "%.3g us a hop; storage %s/s%s\n",
      machine.flops_per_second / 1e12, 100 * machine.utilization,
      Bytes(machine.memory_bytes_per_second).c_str(), Bytes(machine.node_link_bytes_per_second).c_str(),
      static_cast<long long>(machine.ranks_per_node), Bytes(machine.network_bytes_per_second).c_str(),
      1e6 * machine.hop_seconds, Bytes(machine.storage_bytes_per_second).c_str(),
      options.machine_stated ? "" : " (an H200; state yours, see --help)");
  if (!price.assumption.empty()) std::printf("            %s\n", price.assumption.c_str());
  for (const AxisPrice& axis : price.axes) {
    if (axis.size == 1) continue;
    std::printf("traffic     axis %s, %d ranks%s: a rank sends %s a step in %.0f calls, %s\n",
                axis.axis.c_str(), axis.size, axis.crosses_nodes ? " over nodes" : " in a node",
                Bytes(axis.sent_bytes).c_str(), axis.calls, Time(axis.seconds).c_str());
  }
  std::printf("step        %s = products %s", Time(price.step_seconds).c_str(),
              Time(price.compute_seconds).c_str());
  std::printf(", optimizer %s", Time(price.optimizer_seconds).c_str());
  if (price.sampling_seconds > 0) std::printf(", sampling %s", Time(price.sampling_seconds).c_str());
  std::printf(", traffic; %.4g tokens/s of %.4g a step\n", price.tokens_per_second, price.step_tokens);
  std::printf("run         %.0f steps: %s, %.4g rank-hours\n", price.steps, Time(price.run_seconds).c_str(),
              price.rank_hours);
  std::printf("checkpoint  %s, %s to write, %.0f of them\n", Bytes(price.checkpoint_bytes).c_str(),
              Time(price.save_seconds).c_str(), price.saves);
  if (price.failures_per_day == 0) {
    std::printf("failures    none; saves take %.4g h of 24\n", price.lost_hours_per_day);
    return;
  }
  std::printf(
      "failures    %.4g a day; they and the saves take %.4g h of 24; the best interval is %.0f steps\n",
      price.failures_per_day, price.lost_hours_per_day, price.best_interval_steps);
}

Json ToJson(const Estimated& run) {
  const Price& price = run.price;
  Json axes = Json::array();
  for (const AxisPrice& axis : price.axes) {
    axes.push_back({{"axis", axis.axis},
                    {"ranks", axis.size},
                    {"crosses_nodes", axis.crosses_nodes},
                    {"sent_bytes", axis.sent_bytes},
                    {"calls", axis.calls},
                    {"seconds", axis.seconds}});
  }
  return {{"parameters", price.parameters},
          {"ranks", run.shape.world()},
          {"step_tokens", price.step_tokens},
          {"flops", price.flops},
          {"compute_seconds", price.compute_seconds},
          {"optimizer_seconds", price.optimizer_seconds},
          {"sampling_seconds", price.sampling_seconds},
          {"axes", axes},
          {"step_seconds", price.step_seconds},
          {"tokens_per_second", price.tokens_per_second},
          {"steps", price.steps},
          {"run_seconds", price.run_seconds},
          {"rank_hours", price.rank_hours},
          {"checkpoint_bytes", price.checkpoint_bytes},
          {"save_seconds", price.save_seconds},
          {"failures_per_day", price.failures_per_day},
          {"lost_hours_per_day", price.lost_hours_per_day},
          {"best_interval_steps", price.best_interval_steps}};
}

absl::Status WriteJson(const EstimateOptions& options, const Json& json) {
  if (options.json.empty()) return absl::OkStatus();
  return At("--json", ReplaceSmallFile(options.json, json.dump(2) + "\n"));
}

absl::Status EstimateOne(const EstimateOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const Estimated run, EstimateRun(options, options.config, options.overrides,
                                                           std::max<int64_t>(options.world_size, 1)));
  const config::Config& config = run.job.config;
  // Workspaces depend on the number of threads.
  if (config.parallel().threads() > 0) omp_set_num_threads(static_cast<int>(config.parallel().threads()));
  // Rank 0 is the fullest: it holds the first, never shorter, share of everything.
  const PaperMesh paper(run.shape, 0);
  TANREN_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(run.job.engine, paper.mesh()));
  PrintPlan(run.job, run.shape, plan);
  PrintPrice(run, options);
  Json json = ToJson(run);
  json["memory_bytes"] = plan.total_bytes;
  TANREN_RETURN_IF_ERROR(WriteJson(options, json));
  return CheckMemory(plan, config.parallel().memory_limit_bytes());
}

absl::Status EstimatePipeline(const EstimateOptions& options, const config::PipelineConfig& pipeline) {
  TANREN_ASSIGN_OR_RETURN(const PipelinePlan plan, PlanPipeline(pipeline));
  double hours = 0, rank_hours = 0;
  Json rows = Json::array();
  std::vector<std::string> unknown, assumptions;
  std::printf("%-16s %6s %10s %12s %12s %12s %12s %10s\n", "stage", "ranks", "steps", "step", "tokens/s",
              "time", "rank-hours", "checkpoint");
  for (const PlannedStage& stage : plan.stages) {
    if (stage.kind != StageKind::kTrain) {
      std::printf("%-16s %6lld %10s   (%s: not priced)\n", stage.name.c_str(),
                  static_cast<long long>(stage.ranks), "-", NameOf(stage.kind));
      continue;
    }
    const std::vector<std::string> overrides(stage.arguments.begin() + 2, stage.arguments.end());
    const int64_t ranks = options.world_size > 0 ? options.world_size : stage.ranks;
    const absl::StatusOr<Estimated> run = EstimateRun(options, stage.arguments[1], overrides, ranks);
    if (!run.ok()) {
      unknown.push_back(absl::StrCat("stage ", stage.name, ": ", run.status().message()));
      std::printf("%-16s %6lld %10lld   (unknown, see below)\n", stage.name.c_str(),
                  static_cast<long long>(ranks), static_cast<long long>(stage.steps));
      continue;
    }
    const Price& price = run->price;
    std::printf("%-16s %6lld %10.0f %12s %12.4g %12s %12.4g %10s\n", stage.name.c_str(),
                static_cast<long long>(ranks), price.steps, Time(price.step_seconds).c_str(),
                price.tokens_per_second, Time(price.run_seconds).c_str(), price.rank_hours,
                Bytes(price.checkpoint_bytes).c_str());
    if (!price.assumption.empty()) assumptions.push_back(absl::StrCat(stage.name, ": ", price.assumption));
    hours += price.run_seconds / 3600;
    rank_hours += price.rank_hours;
    rows.push_back(ToJson(*run));
    rows.back()["stage"] = stage.name;
  }
  std::printf("%-16s one after the other %.4g h, %.4g rank-hours%s\n", "together", hours, rank_hours,
              unknown.empty() ? "" : ", without what is unknown");
  for (const std::string& line : assumptions) std::printf("assumed of %s\n", line.c_str());
  std::fflush(stdout);
  TANREN_RETURN_IF_ERROR(
      WriteJson(options, {{"stages", rows}, {"hours", hours}, {"rank_hours", rank_hours}}));
  if (unknown.empty()) return absl::OkStatus();
  std::string text;
  for (const std::string& line : unknown) absl::StrAppend(&text, text.empty() ? "" : "\n", line);
  return InvalidInput("%s", text);
}

// A pipeline has stages, which no run has. A file that cannot be read is left to whoever reads it next.
bool HasStages(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("stages:")) return true;
  }
  return false;
}

}  // namespace

Machine H200() {
  Machine machine;
  machine.flops_per_second = 790e12;
  machine.memory_bytes_per_second = 4.3e12;
  machine.node_link_bytes_per_second = 450e9;
  machine.network_bytes_per_second = 50e9;
  machine.hop_seconds = 5e-6;
  machine.storage_bytes_per_second = 50e9;
  machine.ranks_per_node = 8;
  machine.failures_per_rank_day = 419.0 / 54 / 16384;
  machine.restart_seconds = 300;
  return machine;
}

int Estimate(const EstimateOptions& options) {
  if (!HasStages(options.config)) return StatusExit(EstimateOne(options));
  const absl::StatusOr<config::PipelineConfig> pipeline = LoadPipeline(options.config, options.overrides);
  return StatusExit(pipeline.ok() ? EstimatePipeline(options, *pipeline) : pipeline.status());
}

}  // namespace tanren
