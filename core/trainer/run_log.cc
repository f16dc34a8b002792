#include "core/trainer/run_log.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/report/build_info.h"
#include "core/report/console.h"
#include "core/report/environment.h"
#include "core/report/event_writer.h"
#include "core/report/metrics_log.h"
#include "core/report/metrics_server.h"
#include "core/report/rank_log.h"
#include "core/report/samples_log.h"
#include "core/report/step_table.h"

namespace tanren {
namespace {

class QuietLog final : public RunLog {
 public:
  absl::Status Rewind(int64_t) override { return absl::OkStatus(); }
  void Step(const StepRecord&) override {}
  void Validation(int64_t, const std::vector<Metric>&) override {}
  void Sample(int64_t, const std::string&, const std::string&, const std::vector<int32_t>&) override {}
  void Info(const std::string&) override {}
  void Warning(const std::string& text) override { Log(Severity::kWarning, text); }
};

// The files of rank 0.
struct RunFiles {
  MetricsLog metrics;
  SamplesLog samples;
  std::optional<EventWriter> events;
};

// Without what they have of steps after `step`.
absl::StatusOr<RunFiles> OpenFiles(const RunLog::Options& options, int64_t step) {
  TANREN_ASSIGN_OR_RETURN(MetricsLog metrics, MetricsLog::Open(options.run_directory, step));
  TANREN_ASSIGN_OR_RETURN(SamplesLog samples, SamplesLog::Open(options.run_directory, step));
  std::optional<EventWriter> events;
  if (options.tensorboard) {
    TANREN_ASSIGN_OR_RETURN(EventWriter writer, EventWriter::Open(options.run_directory, step));
    events = std::move(writer);
  }
  return RunFiles{std::move(metrics), std::move(samples), std::move(events)};
}

class FullLog final : public RunLog {
 public:
  FullLog(const Options& options, RunFiles files, std::unique_ptr<MetricsServer> server)
      : options_(options),
        files_(std::move(files)),
        server_(std::move(server)),
        table_(&Console::Standard(), options.steps) {}

  absl::Status Rewind(int64_t step) override {
    TANREN_ASSIGN_OR_RETURN(files_, OpenFiles(options_, step));
    return absl::OkStatus();
  }

  void Step(const StepRecord& record) override {
    MetricsRecord line(record.step);
    line.Add("loss", record.result.loss)
        .Add("grad_norm", record.result.gradient_norm)
        .Add("lr", record.learning_rate)
        .Add("step_seconds", record.step_seconds)
        .Add("tokens_per_second", record.tokens_per_second)
        .Add("flops_per_second", record.flops_per_second)
        .Add("tokens", record.total_tokens)
        .Add("memory_bytes", static_cast<double>(PeakResidentBytes()));
    if (options_.peak_flops_per_second > 0) {
      line.Add("mfu", record.flops_per_second / options_.peak_flops_per_second);
    }
    if (record.save_wait_seconds > 0) line.Add("save_wait_seconds", record.save_wait_seconds);
    if (record.result.skipped) line.Add("skipped", 1);
    const auto count = [&](const char* name, int64_t value) {
      if (value > 0) line.Add(name, static_cast<double>(value));
    };
    count("skipped_steps", record.faults.skipped_steps);
    count("loss_spikes", record.faults.loss_spikes);
    count("rollbacks", record.faults.rollbacks);
    count("skipped_data_steps", record.faults.skipped_data_steps);
    const auto slowest = std::ranges::max_element(record.slow_ranks, {}, &SlowRank::ratio);
    if (slowest != record.slow_ranks.end()) {
      line.Add("slow_rank", slowest->rank).Add("slow_rank_ratio", slowest->ratio);
    }
    for (const Metric& metric : record.result.metrics) line.Add(metric.name, metric.value);
    Write(line);
    StepFigures figures;
    figures.step = record.step;
    figures.loss = record.result.loss;
    figures.gradient_norm = record.result.gradient_norm;
    figures.learning_rate = record.learning_rate;
    figures.tokens_per_second = record.tokens_per_second;
    if (options_.peak_flops_per_second > 0) {
      figures.model_flops_utilization = record.flops_per_second / options_.peak_flops_per_second;
    }
    figures.memory_bytes = static_cast<double>(PeakResidentBytes());
    const double done = static_cast<double>(std::max<int64_t>(record.step - options_.resumed_step, 1));
    figures.eta_seconds = record.total_seconds / done * static_cast<double>(options_.steps - record.step);
    table_.Print(figures);
  }

  void Validation(int64_t step, const std::vector<Metric>& metrics) override {
    MetricsRecord line(step);
    std::string text = absl::StrCat("step ", step, " validation:");
    for (const Metric& metric : metrics) {
      line.Add("validation_" + metric.name, metric.value);
      absl::StrAppendFormat(&text, " %s %.4f", metric.name, metric.value);
    }
    Write(line);
    Console::Standard().Print(text);
  }

  void Sample(int64_t step, const std::string& prompt, const std::string& completion,
              const std::vector<int32_t>& tokens) override {
    const tanren::Sample sample{step, prompt, completion, tokens};
    Note(files_.samples.Write(sample));
    if (files_.events) Note(files_.events->WriteText(step, "sample", prompt + completion));
    Console::Standard().Print(FormatSample(sample));
  }

  void Info(const std::string& text) override { Log(Severity::kInfo, text); }
  void Warning(const std::string& text) override { Log(Severity::kWarning, text); }

 private:
  void Write(const MetricsRecord& line) {
    Note(files_.metrics.Write(line));
    if (files_.events) Note(files_.events->Write(line));
    if (server_) server_->Update(line);
  }
  // A full disk must not end a run that could still be saved elsewhere or go on: it is said, once a failure.
  void Note(const absl::Status& status) {
    if (!status.ok()) Log(Severity::kWarning, std::string(View(status.message())));
  }

  Options options_;
  RunFiles files_;
  std::unique_ptr<MetricsServer> server_;  // null: not asked for
  StepTable table_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RunLog>> RunLog::Open(const Options& options) {
  TANREN_RETURN_IF_ERROR(OpenLog(options.run_directory, options.rank));
  if (options.rank != 0) return std::make_unique<QuietLog>();
  EnvironmentFacts facts;
  facts.command = options.command_line;
  facts.resumed_step = options.resumed_step;
  facts.ranks = options.ranks;
  facts.threads = options.threads;
  TANREN_RETURN_IF_ERROR(WriteEnvironment(options.run_directory, facts));
  TANREN_ASSIGN_OR_RETURN(RunFiles files, OpenFiles(options, options.resumed_step));
  std::unique_ptr<MetricsServer> server;
  if (options.metrics_port > 0) {
    MetricsServer::Options serving;
    serving.port = options.metrics_port;
    serving.stall_seconds = options.stall_seconds;
    serving.labels = {{"stage", options.stage},
                      {"run_directory", options.run_directory},
                      {"version", ThisBuild().version},
                      {"build", ThisBuild().build_id}};
    TANREN_ASSIGN_OR_RETURN(server, MetricsServer::Start(serving));
    std::printf("metrics     http://127.0.0.1:%d/metrics and /health\n", server->port());
  }
  return std::make_unique<FullLog>(options, std::move(files), std::move(server));
}

int64_t PeakResidentBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace tanren
