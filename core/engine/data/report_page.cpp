// A DataReport as one HTML page.
#include <algorithm>
#include <cstdio>

#include "engine/data/data_report.h"

namespace espalier {
namespace {

constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data</title>
<style>
:root { color-scheme: light dark; --ink: #1c1e21; --dim: #6b7078; --line: #d9dce1; --page: #fff;
  --learnt: #d6f2de; --learnt-ink: #0c5b2a; --bar: #4a7fd6; --warn: #fff3d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --dim: #9aa0a9; --line: #363a41;
  --page: #17191c; --learnt: #173c25; --learnt-ink: #9be3b4; --bar: #6c9bea; --warn: #3f3415; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; } td { padding: .15rem 1rem .15rem 0; vertical-align: top; }
td:first-child { color: var(--dim); } svg { width: 100%; height: auto; } svg text { fill: var(--dim); }
svg rect { fill: var(--bar); }
.warning { background: var(--warn); border-radius: .4rem; padding: .5rem .8rem; margin: .4rem 0; }
.document { border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; }
.document header { color: var(--dim); font-size: .85rem; padding: .3rem .8rem;
  border-bottom: 1px solid var(--line); }
pre { margin: 0; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.5 ui-monospace, monospace; color: var(--dim); }
mark { background: var(--learnt); color: var(--learnt-ink); border-radius: .2rem; }
</style></head><body>
)";

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&': result += "&amp;"; break;
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

std::string line(const std::string& name, const std::string& value) {
  return "<tr><td>" + name + "</td><td>" + value + "</td></tr>\n";
}

std::string numbers(const DataReport& report) {
  const double learnt = report.tokens == 0 ? 0.0
                                           : static_cast<double>(report.label_tokens) /
                                                 static_cast<double>(report.tokens);
  std::string html = "<table>\n";
  html += line("samples", (report.samples < 0 ? "a stream" : std::to_string(report.samples)) +
                              ", " + std::to_string(report.looked_at) + " looked at");
  html += line("tokens", std::to_string(report.tokens) + ", " + percent(learnt) + " learnt");
  html += line("length", "median " + std::to_string(report.percentile(0.5)) + ", 90 % " +
                             std::to_string(report.percentile(0.9)) + ", 99 % " +
                             std::to_string(report.percentile(0.99)) + ", longest " +
                             std::to_string(report.percentile(1)));
  if (report.max_length > 0)
    html += line("cut", std::to_string(report.truncated) + " samples to " +
                            std::to_string(report.max_length) + " tokens");
  html += line("padding", percent(report.padded_efficiency) + " of padded batches are tokens");
  if (report.capacity > 0)
    html += line("packing", report.packing + ": " + std::to_string(report.rows) + " rows of " +
                                std::to_string(report.capacity) + " tokens, " +
                                percent(report.packed_efficiency) + " full");
  return html + "</table>\n";
}

std::string histogram(const DataReport& report) {
  constexpr int kHeight = 140;
  constexpr int kWidth = 760;
  const auto buckets = report.histogram();
  if (buckets.empty()) return {};
  std::int64_t most = 1;
  for (const auto& bucket : buckets) most = std::max(most, bucket.count);
  const int step = kWidth / static_cast<int>(buckets.size());
  std::string html = "<svg viewBox=\"0 0 " + std::to_string(kWidth) + " " +
                     std::to_string(kHeight + 20) + "\" role=\"img\" aria-label=\"lengths\">\n";
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    const auto& bucket = buckets[i];
    const int height = static_cast<int>(bucket.count * kHeight / most);
    const int x = static_cast<int>(i) * step;
    html += "<rect x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(kHeight - height) +
            "\" width=\"" + std::to_string(std::max(1, step - 2)) + "\" height=\"" +
            std::to_string(height) + "\"><title>" + std::to_string(bucket.from) + " to " +
            std::to_string(bucket.to - 1) + " tokens: " + std::to_string(bucket.count) +
            "</title></rect>\n";
    if (i % 5 == 0)
      html += "<text x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(kHeight + 15) +
              "\" font-size=\"11\">" + std::to_string(bucket.from) + "</text>\n";
  }
  return html + "</svg>\n";
}

std::string rows(const DataReport& report) {
  std::string html;
  for (std::size_t r = 0; r < report.shown.size(); ++r) {
    const ShownRow& row = report.shown[r];
    html += "<h2>Row " + std::to_string(r + 1) + "</h2>\n";
    for (const ShownDocument& document : row.documents) {
      html += "<div class=\"document\"><header>" + std::to_string(document.tokens) + " tokens, " +
              std::to_string(document.learnt) + " learnt</header><pre>";
      for (const ShownRun& run : document.runs) {
        const std::string title = " title=\"" + std::to_string(run.tokens) + " tokens\"";
        html += run.learnt ? "<mark" + title + ">" + escaped(run.text) + "</mark>"
                           : "<span" + title + ">" + escaped(run.text) + "</span>";
      }
      html += "</pre></div>\n";
    }
  }
  return html;
}

}  // namespace

std::string report_page(const DataReport& report) {
  std::string html = kHead;
  html += "<h1>" + escaped(report.section) + "</h1>\n" + numbers(report) +
          "<h2>Tokens of a sample</h2>\n" + histogram(report);
  for (const DataFinding& finding : report.findings) {
    const std::string count = finding.examples.empty() ? "" : std::to_string(finding.count) + " ";
    html += "<div class=\"warning\">" + count + escaped(finding.text) + "</div>\n";
  }
  html += "<p>What is learnt is <mark>marked</mark>.</p>\n" + rows(report);
  return html + "</body></html>\n";
}

}  // namespace espalier
