#include "report/report_page.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "config/flat_tree.h"
#include "config/toml.h"
#include "espalier/base/json.h"
#include "report/html.h"
#include "report/page_assets.h"
#include "report/page_data.h"
#include "report/sample_cards.h"

namespace espalier::report {
namespace {

using Names = std::vector<std::string>;

std::string table_row(const std::string& element, const std::vector<std::string>& cells) {
  std::string html = "<tr>";
  for (const std::string& one : cells) html += "<" + element + ">" + one + "</" + element + ">";
  return html + "</tr>\n";
}

std::string header_row(const std::vector<std::string>& cells) {
  return "<thead>" + table_row("th", cells) + "</thead><tbody>\n";
}

std::string in_table(const std::string& rows, const char* kind) {
  return std::string("<div class=\"scroll\"><table class=\"") + kind + "\">\n" + rows +
         "</tbody></table></div>\n";
}

double last_of(const std::vector<double>* values) {
  return values == nullptr || values->empty() ? std::nan("") : values->back();
}

double most_of(const std::vector<double>* values) {
  double most = std::nan("");
  if (values == nullptr) return most;
  for (const double value : *values) {
    if (!(most >= value)) most = value;
  }
  return most;
}

double median_of(const std::vector<double>* values) {
  if (values == nullptr) return std::nan("");
  std::vector<double> finite;
  std::copy_if(values->begin(), values->end(), std::back_inserter(finite),
               [](double value) { return std::isfinite(value); });
  if (finite.empty()) return std::nan("");
  std::nth_element(finite.begin(), finite.begin() + static_cast<std::ptrdiff_t>(finite.size() / 2),
                   finite.end());
  return finite[finite.size() / 2];
}

std::string number_or_dash(double value) {
  return std::isnan(value) ? "&ndash;" : short_number(value);
}

std::string best_validation(const RunRecords& run) {
  std::string text;
  for (const auto& [source, log] : run.validation()) {
    const std::vector<double>* loss = log.column("loss");
    if (loss == nullptr) continue;
    std::size_t best = loss->size();
    for (std::size_t i = 0; i < loss->size(); ++i) {
      if (std::isfinite((*loss)[i]) && (best == loss->size() || (*loss)[i] < (*loss)[best]))
        best = i;
    }
    if (best == loss->size()) continue;
    if (!text.empty()) text += "<br>";
    text += number_or_dash((*loss)[best]) + " <span class=\"dim\">at " +
            std::to_string(log.steps()[best]) +
            (source.size() > 11 ? ", " + escaped(source.substr(11)) : "") + "</span>";
  }
  return text.empty() ? "&ndash;" : text;
}

std::string state_of(const RunRecords& run) {
  switch (run.status()) {
    case RunStatus::kTraining: return "<span class=\"state training\">training</span>";
    case RunStatus::kStopped: return "<span class=\"state stopped\">stopped</span>";
    case RunStatus::kFinished: break;
  }
  const Value* ended = run.facts().find("ended");
  const bool early = ended != nullptr && ended->is_string() && ended->as_string() != "complete";
  return "<span class=\"state\">" + (early ? escaped(ended->as_string()) : "finished") + "</span>";
}

std::string summary(const std::vector<RunRecords>& runs, const Names& names) {
  std::string rows = header_row({"run", "state", "steps", "loss", "best validation loss",
                                 "tokens / s", "memory", "time in steps"});
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const MetricLog& log = runs[i].training();
    const std::int64_t steps = log.steps().empty() ? 0 : log.steps().back();
    const auto total = runs[i].total_steps();
    double seconds = 0;
    if (const std::vector<double>* each = log.column("step_seconds"); each != nullptr) {
      for (const double one : *each) seconds += std::isfinite(one) ? one : 0;
    }
    double memory = most_of(log.column("peak_device_bytes"));
    if (std::isnan(memory)) memory = most_of(log.column("peak_rss_bytes"));
    rows += table_row(
        "td", {(runs.size() > 1 ? run_dot(i) : "") + escaped(names[i]), state_of(runs[i]),
               std::to_string(steps) +
                   (total ? " <span class=\"dim\">of " + std::to_string(*total) + "</span>" : ""),
               number_or_dash(last_of(log.column("loss"))), best_validation(runs[i]),
               number_or_dash(median_of(log.column("tokens_per_second"))),
               std::isnan(memory) ? "&ndash;" : bytes_text(memory), duration_text(seconds)});
  }
  return in_table(rows, "tight");
}

std::string controls() {
  return "<div id=\"bar\"><span id=\"runs\"></span>"
         "<label>smooth <input type=\"range\" id=\"smooth\" min=\"0\" max=\"10\" value=\"0\">"
         "</label><label><input type=\"checkbox\" id=\"log\"> log scale</label>"
         "<label>over <select id=\"axis\"><option value=\"step\">steps</option>"
         "<option value=\"tokens\">tokens</option><option value=\"seconds\">time</option>"
         "</select></label><button id=\"unzoom\" hidden>show all</button></div>\n"
         "<noscript><p>The curves are drawn by a script inside this page, which this browser does "
         "not run.</p></noscript>\n<div id=\"charts\"></div>\n";
}

std::string thinning_note(const PageData& data) {
  std::string note = "Drag over a chart to zoom in, double-click to see all.";
  if (data.shown < data.all)
    note += " Long curves are thinned: " + std::to_string(data.shown) + " of " +
            std::to_string(data.all) +
            " points are drawn, the lowest and the highest of each stretch.";
  return "<p class=\"note\">" + note + "</p>\n";
}

/// A table of what differs between the runs; a column for each.
std::string differences(const std::vector<RunRecords>& runs, const Names& names) {
  std::vector<std::map<std::string, Value>> flat;
  std::set<std::string> keys;
  for (const RunRecords& run : runs) {
    flat.push_back(config::flat_tree(run.recipe()));
    for (const auto& [key, value] : flat.back()) keys.insert(key);
  }
  std::vector<std::string> head = {"setting"};
  for (std::size_t i = 0; i < names.size(); ++i) head.push_back(run_dot(i) + escaped(names[i]));
  std::string rows;
  for (const std::string& key : keys) {
    const auto value_of = [&](std::size_t run) {
      const auto found = flat[run].find(key);
      return found == flat[run].end() ? std::string() : dump_json(found->second);
    };
    bool differs = false;
    for (std::size_t run = 1; run < runs.size(); ++run)
      differs = differs || value_of(run) != value_of(0);
    if (!differs) continue;
    std::vector<std::string> cells = {"<code>" + escaped(key) + "</code>"};
    for (std::size_t run = 0; run < runs.size(); ++run) {
      const std::string value = value_of(run);
      cells.push_back(value.empty() ? "&ndash;" : "<code>" + escaped(value) + "</code>");
    }
    rows += table_row("td", cells);
  }
  if (rows.empty()) return "<p class=\"note\">The recipes are equal.</p>\n";
  return in_table(header_row(head) + rows, "wide");
}

std::string recipes(const std::vector<RunRecords>& runs, const Names& names) {
  std::string html = "<h2>Recipes</h2>\n";
  if (runs.size() > 1) html += differences(runs, names);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].recipe().as_table().empty()) continue;
    html += "<details><summary>recipe of " + escaped(names[i]) + "</summary><pre>" +
            escaped(config::dump_toml(runs[i].recipe())) + "</pre></details>\n";
  }
  return html;
}

std::string text_of(const Value& entry, const char* key) {
  const Value* found = entry.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

std::string plugins(const std::vector<RunRecords>& runs, const Names& names) {
  std::map<std::string, std::vector<std::string>> cells;  // id -> version and digest of each run
  for (std::size_t run = 0; run < runs.size(); ++run) {
    for (const Value& plugin : runs[run].plugins()) {
      auto& row = cells[text_of(plugin, "id")];
      row.resize(runs.size());
      row[run] = escaped(text_of(plugin, "version")) + " <code class=\"dim\">" +
                 escaped(text_of(plugin, "sha256").substr(0, 12)) + "</code>";
    }
  }
  if (cells.empty()) return {};
  std::vector<std::string> head = {"plugin"};
  for (std::size_t i = 0; i < runs.size(); ++i)
    head.push_back(runs.size() > 1 ? run_dot(i) + escaped(names[i]) : "version and sha256");
  std::string rows = header_row(head);
  for (const auto& [id, versions] : cells) {
    std::vector<std::string> row = {escaped(id)};
    for (const std::string& version : versions)
      row.push_back(version.empty() ? "&ndash;" : version);
    rows += table_row("td", row);
  }
  return "<h2>Plugins</h2>\n" + in_table(rows, "tight");
}

std::string damage_notes(const std::vector<RunRecords>& runs, const Names& names) {
  std::string html;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (const std::int64_t damaged = runs[i].training().damaged(); damaged > 0)
      html += "<p class=\"note\">" + escaped(names[i]) + ": " + std::to_string(damaged) +
              " lines of training.jsonl could not be read and are left out.</p>\n";
  }
  return html;
}

}  // namespace

std::string report_page(const std::vector<RunRecords>& runs, const PageOptions& options) {
  const Names names = names_of(runs);
  const std::vector<Chart> charts = charts_of(runs);
  const PageData data = page_data(runs, charts, options);
  std::string title;
  for (const std::string& name : names) title += (title.empty() ? "" : ", ") + name;
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  if (options.refresh_seconds > 0)
    html += "<meta http-equiv=\"refresh\" content=\"" + std::to_string(options.refresh_seconds) +
            "\">\n";
  html += "<title>" + escaped(title) + "</title>\n<style>\n" + kPageStyle +
          "</style></head><body>\n<h1>" + escaped(title) + "</h1>\n";
  html += summary(runs, names) + controls() + thinning_note(data) + damage_notes(runs, names);
  if (data.has_statistics)
    html += "<h2>Gradients and activations by block</h2>\n<div id=\"blocks\"></div>\n";
  html +=
      sample_cards(runs, names, options.sample_bytes) + recipes(runs, names) + plugins(runs, names);
  html += "<script type=\"application/json\" id=\"data\">" + data.json + "</script>\n<script>\n" +
          kPageScript + "</script>\n</body></html>\n";
  return html;
}

}  // namespace espalier::report
