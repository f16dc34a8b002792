#include "core/report/html_page.h"

#include <sys/stat.h>

#include <filesystem>

#include "core/config/text.h"
#include "core/report/html_chart.h"
#include "core/report/html_curves.h"
#include "gmock/gmock.h"
#include "tests/core/report/support.h"

namespace tanren {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kHostile[] = R"(</script><img src=x onerror=alert(1)>"'<!-- )";

// A JSON string of the hostile text, with a control character behind it.
std::string HostileJson() { return R"("<\/script><img src=x onerror=alert(1)>\"'<!-- \u001b[2J")"; }

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// A run directory in which every text is hostile.
void MakeHostileRun(const TemporaryDirectory& home) {
  namespace fs = std::filesystem;
  fs::create_directories(home / "run/logs");
  fs::create_directories(home / "run/step-00000002");
  const std::string bad = HostileJson();
  WriteAll(home / "run/metrics.jsonl",
           "{\"step\":1,\"loss\":4," + bad + ":1,\"tokens\":7}\n{\"step\":2,\"loss\":\"nan\"," + bad +
               ":2}\n{\"step\":3,\"loss\":1,\"validation_loss\":2}\n{\"step\":4,");
  WriteAll(home / "run/env.json", "{\"start_time\":" + bad + ",\"resumed_step\":2,\"command\":[" + bad +
                                      "],\"ranks\":2,\"machine\":{\"hostname\":" + bad +
                                      "},\"earlier\":[{\"start_time\":" + bad + "},7]}");
  WriteAll(home / "run/resolved.yaml", "stage: sft\nrun_directory: \"" + std::string(kHostile) + "\xff\"\n");
  WriteAll(home / "run/samples.jsonl",
           "{\"step\":1,\"prompt\":" + bad + ",\"completion\":" + bad + "}\n{\"step\":2\n");
  WriteAll(home / "run/logs/rank_00000.log", "2026-11-27T13:33:57.425Z I fine\n2026-11-27T13:33:57.425Z W " +
                                                 std::string(kHostile) +
                                                 "\xff\n2026-11-27T13:33:58.425Z E over\n");
  WriteAll(home / "run.json", "{\"cases\":3,\"accuracy\":0.5,\"checkpoint\":" + bad + "," + bad + ":1}");
  std::string answers;
  for (int i = 0; i < 60; ++i) {
    answers += "{\"prompt\":" + bad + ",\"completion\":" + bad + ",\"extracted\":" + bad +
               ",\"answer\":" + bad + ",\"correct\":false,\"kind\":" + bad + "}\n";
  }
  WriteAll(home / "run.answers.jsonl", answers + "{\"correct\":true}\n{\"correct\":\n");
}

RunContents HostileRun(const TemporaryDirectory& home) {
  MakeHostileRun(home);
  RunContents run = ReadRunContents(home / "run");
  run.name = run.kind = run.state = run.detail = kHostile;
  return run;
}

TEST(HtmlPage, HostileTextStaysText) {
  const TemporaryDirectory home;
  const RunContents run = HostileRun(home);
  ReportPage page{kHostile, {run, run}, {}};
  EvaluationLog suite;
  suite.name = suite.checkpoint = kHostile;
  suite.gates.push_back({kHostile, kHostile, kHostile, kHostile, 0.5, 0.75, std::nullopt, false});
  page.evaluations.push_back(suite);
  const std::string html = RenderPage(page);
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_EQ(Count(html, "<script"), 1);
  EXPECT_EQ(Count(html, "</script"), 1);
  EXPECT_EQ(Count(html, "<!--"), 0);
  EXPECT_EQ(Count(html, "alert(1)>"), 0) << "an angle bracket is not escaped";
  EXPECT_GT(Count(html, "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&quot;&#39;"), 200);
  EXPECT_EQ(html.find('\x1b'), std::string::npos);
  EXPECT_THAT(html, HasSubstr("\\x1b[2J"));
  EXPECT_EQ(config::FirstInvalidUtf8(html), std::string_view::npos);
  EXPECT_THAT(html, HasSubstr("✗ failed"));
}

TEST(HtmlPage, SaysWhatARunHas) {
  const TemporaryDirectory home;
  RunContents run = HostileRun(home);
  ASSERT_TRUE(run.has_metrics);
  EXPECT_EQ(run.metrics.damaged_lines, 1);
  ASSERT_EQ(run.starts.size(), 2);
  EXPECT_EQ(run.starts[1].resumed_step, 2);
  ASSERT_EQ(run.samples.size(), 1);
  EXPECT_EQ(run.all_warnings, 2);
  EXPECT_EQ(run.warnings[1].text, "over");
  ASSERT_EQ(run.checkpoints.size(), 1);
  EXPECT_FALSE(run.checkpoints[0].committed);
  ASSERT_EQ(run.evaluations.size(), 1);
  EXPECT_EQ(run.evaluations[0].checked, 61);
  EXPECT_EQ(run.evaluations[0].wrong, 60);
  EXPECT_EQ(run.evaluations[0].first_wrong.size(), EvaluationLog::kMaxWrong);
  run.name = "sft";
  const std::string html = RenderPage({"runs/sft", {run}, {}});
  EXPECT_THAT(html, HasSubstr("metrics.jsonl: damaged lines passed over: 1"));
  EXPECT_THAT(html, HasSubstr("samples.jsonl: damaged lines passed over: 1"));
  EXPECT_THAT(html, HasSubstr("run.answers.jsonl: damaged lines passed over: 1"));
  EXPECT_THAT(html, HasSubstr("Wrong answers: 60 of 61 answers wrong, the first 50"));
  EXPECT_THAT(html, HasSubstr("loss is not finite at step 2"));
  EXPECT_THAT(html, HasSubstr("restart after step 2"));
  EXPECT_THAT(html, HasSubstr("Warnings and errors: 2"));
  EXPECT_EQ(html, RenderPage({"runs/sft", {run}, {}})) << "the same contents, another page";
}

TEST(HtmlPage, NamesNothingOutsideItself) {
  const TemporaryDirectory home;
  const std::string html = RenderPage({"x", {HostileRun(home)}, {}});
  for (const char* outside :
       {"https:", "url(", "@import", "src=\"", "href=\"/", "fetch(", "XMLHttp", "//cdn"}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
  EXPECT_EQ(Count(html, "http:"), 1) << "the name of SVG's namespace";
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, HasSubstr("script-src 'sha256-"));
}

TEST(HtmlPage, AnEmptyDirectoryIsAPageToo) {
  const TemporaryDirectory home;
  RunContents run = ReadRunContents(home.path());
  EXPECT_FALSE(run.has_metrics);
  EXPECT_THAT(RenderPage({"x", {run}, {}}), HasSubstr("</html>"));
}

TEST(HtmlPage, FilesOfTheWrongKindAreNotWaitedFor) {
  const TemporaryDirectory home;
  for (const char* name : {"metrics.jsonl", "env.json", "resolved.yaml", "samples.jsonl", "summary.json"}) {
    ASSERT_EQ(mkfifo((home / name).c_str(), 0600), 0);
  }
  EXPECT_FALSE(ReadRunContents(home.path()).has_metrics);
}

TEST(HtmlPage, DamagedJsonOfEveryKindIsPassedOver) {
  const std::string deep(200'000, '[');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("\xff\xff"),
        deep,
        std::string(
            "{\"tests\":{\"a\":{\"strategies\":{\"b\":7}},\"c\":[]},\"gates\":[7,{\"passed\":\"yes\"}]}"),
        std::string("{\"cases\":1,\"figures_by_difficulty\":[1]}"),
        std::string("{\"earlier\":[[]],\"machine\":7}")}) {
    const TemporaryDirectory home;
    std::filesystem::create_directories(home / "run");
    for (const char* name : {"run/env.json", "run/samples.jsonl", "run/metrics.jsonl", "run/summary.json",
                             "run.json", "run.answers.jsonl", "run/resolved.yaml", "run/stage.yaml"}) {
      WriteAll(home / name, text);
    }
    EXPECT_THAT(RenderPage({"x", {ReadRunContents(home / "run")}, {}}), HasSubstr("</html>"))
        << text.substr(0, 60);
  }
}

TEST(HtmlPage, GatesAndFiguresOfASuite) {
  const TemporaryDirectory home;
  WriteAll(home / "summary.json", R"({"checkpoint":"sft/step-00000500","seed":1,
    "tests":{"heldout":{"cases":8,"strategies":{"greedy":{"figures":{"accuracy":0.875,"tokens":1234567},
      "by_difficulty":{"harder":{"accuracy":0.5}}}}},"base":{"figures":{"perplexity":1.4375}}},
    "gates":[{"test":"heldout","strategy":"greedy","figure":"accuracy","value":0.875,"minimum":0.5,"passed":true},
      {"test":"base","figure":"perplexity","value":null,"maximum":1.25,"passed":false}],"passed":false})");
  WriteAll(
      home / "samples.jsonl",
      R"({"test":"heldout","strategy":"greedy","prompt":"1 + 1 = ?","completion":"#### 3","extracted":"3","answer":"2","correct":false})"
      "\n");
  const RunContents run = ReadRunContents(home.path());
  ASSERT_EQ(run.evaluations.size(), 1);
  const std::string html = RenderPage({"x", {run}, {}});
  for (const char* text : {"✗ 1/2", "✓ passed", "87.5%", "50%", "not measured", "heldout, greedy, harder",
                           "1.438", "1.23M", "1 + 1 = ?", "heldout, greedy"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
}

TEST(HtmlCurves, EveryFigureHasOnePlace) {
  RunMetrics metrics;
  for (const char* name :
       {"loss", "validation_loss", "lr", "tokens", "memory_bytes", "odd", "validation_odd", "validation_only",
        "reward_kindness", "validation_base_bits_per_byte", "validation_reward"}) {
    metrics.figures.push_back({name, {}});
    metrics.figures.back().series.Add(1, 1);
  }
  std::vector<std::string> placed;
  for (const ChartGroup& group : ChartsOf(metrics)) {
    for (const Chart& chart : group.charts) {
      for (const ChartCurve& curve : chart.curves) placed.push_back(chart.title + ":" + curve.name);
    }
  }
  EXPECT_THAT(placed, testing::UnorderedElementsAre(
                          "Loss:loss", "Loss:validation_loss", "Learning rate:lr", "odd:odd",
                          "odd:validation_odd", "only:validation_only", "reward_kindness:reward_kindness",
                          "Reward:validation_reward", "base_bits_per_byte:validation_base_bits_per_byte",
                          "Memory of a rank, high-water mark:memory_bytes"));
}

TEST(HtmlChart, HasAxesValuesAndMarks) {
  MetricSeries series;
  for (int i = 0; i <= 10; ++i) series.Add(i * 100, i);
  series.Add(500, NAN);
  const Chart chart{"Loss", Unit::kNumber, false, false, {{"loss", &series}}};
  const std::string svg = RenderChart(chart, 0, 1000, {{300, "restart"}});
  EXPECT_THAT(svg, HasSubstr("data-v=\"0:0 100:1 200:2"));
  EXPECT_THAT(svg, HasSubstr(">1000</text>"));
  EXPECT_THAT(svg, HasSubstr("<title>restart</title>"));
  EXPECT_THAT(svg, HasSubstr("loss is not finite at step 500"));
  EXPECT_THAT(svg, HasSubstr("loss <b>10</b>"));
  EXPECT_EQ(Count(svg, "class=\"m\""), 1);
  EXPECT_EQ(RenderChart({"Empty", Unit::kNumber, false, false, {}}, 0, 1, {}), "");
}

}  // namespace
}  // namespace tanren
