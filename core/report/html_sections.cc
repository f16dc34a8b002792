#include "core/report/html_sections.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/report/html_chart.h"
#include "core/report/html_config.h"
#include "core/report/html_curves.h"
#include "core/report/html_escape.h"
#include "core/report/html_evaluation.h"
#include "core/report/html_scale.h"
#include "core/report/html_table.h"
#include "core/report/units.h"

namespace tanren {
namespace {

std::string Shown(const std::optional<double>& value, Unit unit) {
  return value.has_value() ? FormatFigure(*value, unit) : "";
}

// The time that was measured from outside, or that of the steps.
std::string TimeOf(const RunContents& run) {
  if (std::isfinite(run.summary.seconds) && run.summary.seconds > 0)
    return FormatDuration(run.summary.seconds);
  return run.metrics.seconds > 0 ? absl::StrCat("≈ ", FormatDuration(run.metrics.seconds)) : "";
}

std::optional<double> LastOf(const RunContents& run, const char* name) {
  const MetricSeries* series = run.metrics.Find(name);
  return series != nullptr && series->count() > 0 ? std::optional(series->last()) : std::nullopt;
}

std::optional<double> HighestOf(const RunContents& run, const char* name) {
  const MetricSeries* series = run.metrics.Find(name);
  return series != nullptr && series->count() > 0 ? std::optional(series->maximum()) : std::nullopt;
}

class Tiles {
 public:
  // `html` "": no tile.
  void Add(std::string_view title, const std::string& html) {
    if (html.empty()) return;
    absl::StrAppend(&out_, "<div><span>", HtmlText(title), "</span><b>", html, "</b></div>");
  }
  std::string Render() const { return absl::StrCat("<div class=\"tiles\">", out_, "</div>\n"); }

 private:
  std::string out_;
};

std::string TilesOf(const RunContents& run) {
  Tiles tiles;
  tiles.Add("state", HtmlState(run.state));
  if (run.has_metrics) {
    tiles.Add("steps", absl::StrCat(run.summary.steps));
    tiles.Add("tokens", FormatCount(static_cast<double>(run.summary.tokens)));
  }
  tiles.Add("time", TimeOf(run));
  tiles.Add("loss", Shown(LastOf(run, "loss"), Unit::kNumber));
  tiles.Add("validation loss", Shown(run.summary.validation_loss, Unit::kNumber));
  tiles.Add("loss on pre-training data", Shown(run.summary.base_loss, Unit::kNumber));
  tiles.Add("KL to the reference", Shown(run.summary.kl, Unit::kNumber));
  tiles.Add("accuracy", Shown(run.summary.accuracy, Unit::kShare));
  tiles.Add("pairs in order", Shown(run.summary.pair_accuracy, Unit::kShare));
  tiles.Add("tokens a second", Shown(LastOf(run, "tokens_per_second"), Unit::kCount));
  tiles.Add("model FLOP utilisation", Shown(LastOf(run, "mfu"), Unit::kShare));
  tiles.Add("peak memory of a rank", Shown(HighestOf(run, "memory_bytes"), Unit::kBytes));
  if (run.starts.size() > 1) tiles.Add("restarts", absl::StrCat(run.starts.size() - 1));
  if (run.all_warnings > 0) {
    tiles.Add("warnings", absl::StrCat("<span class=\"warn\">", run.all_warnings, "</span>"));
  }
  tiles.Add("gates", HtmlGateCount(run.evaluations));
  return tiles.Render();
}

std::string NotesOf(const RunContents& run) {
  std::string out;
  if (!run.detail.empty()) absl::StrAppend(&out, "<p>", HtmlText(run.detail), "</p>");
  for (const std::string& note : run.notes) absl::StrAppend(&out, "<p>", HtmlText(note), "</p>");
  return out.empty() ? "" : absl::StrCat("<div class=\"notes\">", out, "</div>\n");
}

std::string CurvesOf(const RunContents& run) {
  std::vector<ChartMark> marks;
  for (size_t i = 1; i < run.starts.size(); ++i) {
    const RunStart& start = run.starts[i];
    marks.push_back(
        {start.resumed_step, absl::StrCat("restart after step ", start.resumed_step, ", ", start.time)});
  }
  std::string out;
  for (const ChartGroup& group : ChartsOf(run.metrics)) {
    std::string charts;
    for (const Chart& chart : group.charts) {
      charts += RenderChart(chart, run.metrics.first_step, run.metrics.last_step, marks);
    }
    if (!charts.empty()) {
      absl::StrAppend(&out, "<h3>", HtmlText(group.title), "</h3>\n<div class=\"charts\">", charts,
                      "</div>\n");
    }
  }
  return out;
}

std::string SamplesOf(const RunContents& run) {
  if (run.samples.empty()) return "";
  HtmlTable table("rtt", {"step", "prompt", "what the model wrote"});
  for (const LoggedSample& sample : run.samples) {
    table.Add({absl::StrCat(sample.step), HtmlLines(sample.prompt), HtmlLines(sample.completion)});
  }
  const bool all = run.all_samples == static_cast<int64_t>(run.samples.size());
  return HtmlDetails(all ? absl::StrCat("Samples: ", run.all_samples)
                         : absl::StrCat("Samples: ", run.samples.size(), " of ", run.all_samples),
                     table.Render());
}

std::string WarningsOf(const RunContents& run) {
  if (run.warnings.empty()) return "";
  HtmlTable table("lrll", {"time", "rank", "", "warning"});
  for (const LoggedWarning& warning : run.warnings) {
    table.Add(
        {HtmlText(warning.time), absl::StrCat(warning.rank),
         warning.severity == 'E' ? "<span class=\"bad\">error</span>" : "<span class=\"warn\">warning</span>",
         HtmlText(warning.text, 2000)});
  }
  const bool all = run.all_warnings == static_cast<int64_t>(run.warnings.size());
  return HtmlDetails(absl::StrCat("Warnings and errors: ", run.all_warnings,
                                  all ? "" : absl::StrCat(", the first ", run.warnings.size())),
                     table.Render(), /*open=*/run.all_warnings <= 10);
}

std::string StartsOf(const RunContents& run) {
  if (run.starts.empty()) return "";
  HtmlTable table("lrlllll", {"started", "after step", "", "ranks", "threads", "host", "build"});
  for (size_t i = 0; i < run.starts.size(); ++i) {
    const RunStart& start = run.starts[i];
    table.Add({HtmlText(start.time), absl::StrCat(start.resumed_step), i == 0 ? "start" : "restart",
               HtmlText(start.ranks), HtmlText(start.threads), HtmlText(start.host), HtmlText(start.build)});
  }
  return HtmlDetails(run.starts.size() == 1 ? std::string("One start, no restart")
                                            : absl::StrCat("Restarts: ", run.starts.size() - 1),
                     table.Render(), /*open=*/run.starts.size() > 1);
}

std::string CheckpointsOf(const RunContents& run) {
  if (run.checkpoints.empty()) return "";
  HtmlTable table("rlr", {"step", "", "size"});
  for (const CheckpointEntry& entry : run.checkpoints) {
    table.Add(
        {absl::StrCat(entry.step),
         entry.committed ? "<span class=\"good\">committed</span>" : "<span class=\"bad\">no commit</span>",
         FormatBytes(static_cast<double>(entry.bytes))});
  }
  return HtmlDetails(absl::StrCat("Checkpoints: ", run.checkpoints.size()), table.Render());
}

std::string EnvironmentOf(const RunContents& run) {
  if (run.environment.empty()) return "";
  HtmlTable table("ll", {"of the newest start", ""});
  for (const auto& [name, value] : run.environment) table.Add({HtmlText(name), HtmlText(value)});
  return HtmlDetails("Environment", table.Render());
}

std::string Meter(const std::optional<double>& share) {
  if (!share.has_value()) return "";
  return absl::StrFormat("<span class=\"meter\" style=\"--v:%.1f%%\">%s</span>",
                         100 * std::clamp(*share, 0.0, 1.0), FormatFigure(*share, Unit::kShare));
}

}  // namespace

std::string HtmlState(const std::string& state) {
  if (state.empty()) return "";
  const bool good = state == "finished", bad = state == "failed" || state == "interrupted";
  return absl::StrCat("<span class=\"",
                      good  ? "good"
                      : bad ? "bad"
                            : "warn",
                      "\">", HtmlText(state), "</span>");
}

std::string HtmlRun(const RunContents& run) {
  std::string out = absl::StrCat(TilesOf(run), NotesOf(run), CurvesOf(run));
  for (const EvaluationLog& log : run.evaluations) out += HtmlEvaluation(log, 3);
  const std::string rest = absl::StrCat(SamplesOf(run), WarningsOf(run), StartsOf(run), CheckpointsOf(run));
  absl::StrAppend(&out, rest, HtmlConfig(run.config));
  if (!run.stage_text.empty()) {
    absl::StrAppend(&out, HtmlDetails("What the stage is run with",
                                      absl::StrCat("<pre>", HtmlLines(run.stage_text, 1 << 17), "</pre>")));
  }
  return absl::StrCat(out, EnvironmentOf(run));
}

std::string HtmlOverview(const std::vector<RunContents>& runs) {
  HtmlTable table("lllrrrrrrrrrrrr", {"stage", "kind", "state", "steps", "tokens", "time", "validation loss",
                                      "pre-training data loss", "KL", "accuracy", "harder", "majority",
                                      "best by reward", "pairs in order", "gates"});
  for (size_t i = 0; i < runs.size(); ++i) {
    const RunContents& run = runs[i];
    const StageSummary& figures = run.summary;
    table.Add({absl::StrFormat("<a href=\"#s%d\">%s</a>", i, HtmlText(run.name, 200)), HtmlText(run.kind),
               HtmlState(run.state), run.has_metrics ? absl::StrCat(figures.steps) : "",
               run.has_metrics ? FormatCount(static_cast<double>(figures.tokens)) : "", TimeOf(run),
               Shown(figures.validation_loss, Unit::kNumber), Shown(figures.base_loss, Unit::kNumber),
               Shown(figures.kl, Unit::kNumber), Meter(figures.accuracy), Meter(figures.accuracy_harder),
               Meter(figures.majority), Meter(figures.best_of_n), Meter(figures.pair_accuracy),
               HtmlGateCount(run.evaluations)});
  }
  return table.Render();
}

}  // namespace tanren
