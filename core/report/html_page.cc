#include "core/report/html_page.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/report/html_escape.h"
#include "core/report/html_evaluation.h"
#include "core/report/html_sections.h"
#include "core/report/html_style.h"

namespace tanren {
namespace {

// Only the script with this hash runs: no text from data can, even if it came to stand outside its element.
std::string Head(const std::string& title) {
  const std::string digest = absl::HexStringToBytes(Sha256Hex(kPageScript));
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "img-src data:; base-uri 'none'; form-action 'none'; script-src 'sha256-",
      absl::Base64Escape(digest),
      "'\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>",
      HtmlText(title, 200), "</title>\n<style>", View(kPageStyle), "</style>\n</head>\n<body>\n");
}

std::string Navigation(const ReportPage& page) {
  std::string out = "<nav><div><a href=\"#overview\">Overview</a>";
  for (size_t i = 0; i < page.runs.size(); ++i) {
    absl::StrAppendFormat(&out, "<a href=\"#s%d\">%s</a>", i, HtmlText(page.runs[i].name, 100));
  }
  if (!page.evaluations.empty()) absl::StrAppend(&out, "<a href=\"#evaluations\">Evaluations</a>");
  return absl::StrCat(out, "</div></nav>\n");
}

std::string RunHeading(const RunContents& run, size_t index) {
  return absl::StrFormat("<h2 id=\"s%d\">%s<small>%s</small><small>%s</small></h2>\n", index,
                         HtmlText(run.name, 200), HtmlText(run.kind), HtmlText(run.directory, 400));
}

// Of a single run its kind; and the newest start of any run.
std::string Subtitle(const ReportPage& page) {
  const std::string kind = page.runs.size() == 1 ? HtmlText(page.runs[0].kind) : "";
  const RunStart* newest = nullptr;
  for (const RunContents& run : page.runs) {
    if (run.starts.empty()) continue;
    if (newest == nullptr || run.starts.back().time > newest->time) newest = &run.starts.back();
  }
  if (newest == nullptr) return absl::StrCat("<p class=\"dim\">", kind, "</p>\n");
  return absl::StrCat("<p class=\"dim\">", kind, kind.empty() ? "" : ", ", "newest start ",
                      HtmlText(newest->time), " on ", HtmlText(newest->host), ", ", HtmlText(newest->ranks),
                      " ranks, tanren ", HtmlText(newest->build), "</p>\n");
}

}  // namespace

std::string RenderPage(const ReportPage& page) {
  const bool several = page.runs.size() > 1;
  std::string out = absl::StrCat(Head(page.title), "<header id=\"overview\"><h1>", HtmlText(page.title, 400),
                                 "</h1>\n", Subtitle(page), "</header>\n");
  if (several) absl::StrAppend(&out, Navigation(page));
  absl::StrAppend(&out, "<main>\n", several ? HtmlOverview(page.runs) : "");
  for (size_t i = 0; i < page.runs.size(); ++i) {
    absl::StrAppend(&out, several ? RunHeading(page.runs[i], i) : "", HtmlRun(page.runs[i]));
  }
  if (!page.evaluations.empty()) absl::StrAppend(&out, "<h2 id=\"evaluations\">Evaluations</h2>\n");
  for (const EvaluationLog& log : page.evaluations) out += HtmlEvaluation(log, 3);
  return absl::StrCat(
      out,
      "</main>\n<footer>Curves of more than 400 values show the lowest and the highest of every few. "
      "Dashed lines are restarts, red triangles values that were not finite. ≈ is estimated from the "
      "logged steps.</footer>\n<script>",
      View(kPageScript), "</script>\n</body>\n</html>\n");
}

}  // namespace tanren
