// A DataReport as JSON and for a terminal.
#include <algorithm>
#include <cstdio>

#include "engine/data/data_report.h"

namespace espalier {
namespace {

constexpr std::int64_t kBarWidth = 40;
constexpr const char* kLearnt = "\033[1;32m";
constexpr const char* kRest = "\033[2m";
constexpr const char* kTitle = "\033[1m";
constexpr const char* kWarning = "\033[33m";
constexpr const char* kOff = "\033[0m";

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

/// Control characters of data must not command the terminal.
std::string printable(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      result += format("\\x%02x", byte);
    } else {
      result += c;
    }
  }
  return result;
}

std::string painted(const std::string& text, const char* paint, bool colour) {
  return colour ? paint + text + kOff : text;
}

std::string row_text(const ShownRow& row, std::size_t number, bool colour) {
  std::string text;
  for (std::size_t d = 0; d < row.documents.size(); ++d) {
    const ShownDocument& document = row.documents[d];
    const std::string title =
        format("-- row %zu", number + 1) +
        (row.documents.size() > 1 ? format(", document %zu of %zu", d + 1, row.documents.size())
                                  : "") +
        format(": %lld tokens, %lld learnt", static_cast<long long>(document.tokens),
               static_cast<long long>(document.learnt));
    text += painted(title, kTitle, colour) + "\n";
    for (const ShownRun& run : document.runs) {
      const std::string shown = printable(run.text);
      if (colour) {
        text += painted(shown, run.learnt ? kLearnt : kRest, true);
      } else {
        text += run.learnt ? "«" + shown + "»" : shown;
      }
    }
    if (!text.ends_with('\n')) text += '\n';
  }
  return text;
}

std::string numbers_text(const DataReport& report) {
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  };
  const auto number = [](std::int64_t value) { return static_cast<long long>(value); };
  std::string text = report.samples < 0 ? format("samples      a stream, %lld looked at\n",
                                                 number(report.looked_at))
                                        : format("samples      %lld, %lld looked at\n",
                                                 number(report.samples), number(report.looked_at));
  text += format("tokens       %lld, of which %.1f %% are learnt\n", number(report.tokens),
                 share(report.label_tokens, report.tokens));
  text += format("length       %lld shortest, %lld median, %lld 90 %%, %lld 99 %%, %lld longest\n",
                 number(report.percentile(0)), number(report.percentile(0.5)),
                 number(report.percentile(0.9)), number(report.percentile(0.99)),
                 number(report.percentile(1)));
  if (report.max_length > 0) {
    text += format("cut          %lld samples to %lld tokens, %lld tokens lost\n",
                   number(report.truncated), number(report.max_length), number(report.tokens_cut));
  }
  text +=
      format("padding      %.1f %% of padded batches are tokens\n", 100 * report.padded_efficiency);
  if (report.capacity > 0) {
    text +=
        format("packing      %s: %lld rows of %lld tokens, %.1f %% full\n", report.packing.c_str(),
               number(report.rows), number(report.capacity), 100 * report.packed_efficiency);
  }
  return text;
}

std::string histogram_text(const DataReport& report) {
  std::string text = "\n";
  std::int64_t most = 1;
  const auto buckets = report.histogram();
  for (const auto& bucket : buckets) most = std::max(most, bucket.count);
  for (const auto& bucket : buckets) {
    const std::int64_t width = (bucket.count * kBarWidth + most - 1) / most;
    text += format("%7lld to %-7lld %8lld ", static_cast<long long>(bucket.from),
                   static_cast<long long>(bucket.to - 1), static_cast<long long>(bucket.count)) +
            std::string(static_cast<std::size_t>(width), '#') + "\n";
  }
  return text;
}

std::string examples_text(const DataFinding& finding) {
  std::string text;
  for (const std::int64_t example : finding.examples)
    text += (text.empty() ? " (sample " : ", ") + std::to_string(example);
  if (text.empty()) return {};
  return text +
         (finding.count > static_cast<std::int64_t>(finding.examples.size()) ? ", ...)" : ")");
}

Value value_of(const ShownRow& row) {
  Array documents;
  for (const ShownDocument& document : row.documents) {
    Array runs;
    for (const ShownRun& run : document.runs) {
      Table item;
      item.set("text", run.text);
      item.set("tokens", run.tokens);
      item.set("learnt", run.learnt);
      runs.emplace_back(std::move(item));
    }
    Table item;
    item.set("tokens", document.tokens);
    item.set("learnt", document.learnt);
    item.set("runs", std::move(runs));
    documents.emplace_back(std::move(item));
  }
  Table table;
  table.set("width", row.width);
  table.set("documents", std::move(documents));
  return table;
}

Value value_of(const DataFinding& finding) {
  Table table;
  table.set("kind", finding.kind);
  table.set("text", finding.text);
  table.set("count", finding.count);
  Array examples;
  for (const std::int64_t example : finding.examples) examples.emplace_back(example);
  table.set("examples", std::move(examples));
  return table;
}

}  // namespace

Value DataReport::to_value() const {
  Table lengths_table;
  lengths_table.set("min", percentile(0));
  lengths_table.set("p50", percentile(0.5));
  lengths_table.set("p90", percentile(0.9));
  lengths_table.set("p99", percentile(0.99));
  lengths_table.set("max", percentile(1));
  Array buckets;
  for (const Bucket& bucket : histogram()) {
    Table item;
    item.set("from", bucket.from);
    item.set("to", bucket.to);
    item.set("count", bucket.count);
    buckets.emplace_back(std::move(item));
  }
  lengths_table.set("histogram", std::move(buckets));
  Table table;
  table.set("section", section);
  table.set("samples", samples < 0 ? Value() : Value(samples));
  table.set("looked_at", looked_at);
  table.set("tokens", tokens);
  table.set("label_tokens", label_tokens);
  table.set("max_length", max_length);
  table.set("truncated", truncated);
  table.set("tokens_cut", tokens_cut);
  table.set("lengths", std::move(lengths_table));
  table.set("packing", packing);
  table.set("packed_sequence_size", capacity);
  table.set("rows", rows);
  table.set("padded_efficiency", padded_efficiency);
  table.set("packed_efficiency", packed_efficiency);
  Array lint;
  for (const DataFinding& finding : findings) lint.push_back(value_of(finding));
  table.set("lint", std::move(lint));
  Array rows_shown;
  for (const ShownRow& row : shown) rows_shown.push_back(value_of(row));
  table.set("shown", std::move(rows_shown));
  return table;
}

std::string report_text(const DataReport& report, bool colour) {
  std::string text;
  for (std::size_t i = 0; i < report.shown.size(); ++i)
    text += row_text(report.shown[i], i, colour) + "\n";
  text += painted("[" + report.section + "]", kTitle, colour) + "\n" + numbers_text(report) +
          histogram_text(report) + "\n";
  if (report.findings.empty()) return text + "nothing stands out\n";
  for (const DataFinding& finding : report.findings) {
    const std::string count = finding.examples.empty() ? "" : std::to_string(finding.count) + " ";
    text += painted("warning: ", kWarning, colour) + count + printable(finding.text) +
            examples_text(finding) + "\n";
  }
  return text;
}

}  // namespace espalier
