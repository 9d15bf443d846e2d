#include <cstdio>

#include "app/command.h"
#include "app/options.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "report/report_page.h"

namespace espalier::app {
namespace {

constexpr const char* kText =
    "Writes one HTML page about some runs: their curves over each other with values where the "
    "pointer is, in which settings their recipes differ, plugins, and what the models wrote. The "
    "page needs no network and no other file.";

}  // namespace

int run_report(const std::vector<std::string>& arguments) {
  std::vector<std::string> folders;
  std::string output;
  std::int64_t refresh = 0;
  Options options("report RUN [RUN ...] --output FILE.html", kText);
  options.positionals("RUN", folders, "a run folder, the output_dir of a recipe")
      .value("output", output, "the page to write", /*required=*/true)
      .value("refresh", refresh,
             "the page loads itself anew every so many seconds; 0: never. Write it again as often, "
             "such as with watch -n 30 espalier report ...");
  options.parse(arguments);
  if (refresh < 0)
    throw_bad_input("--refresh is negative", std::to_string(refresh), "0 or more", "--refresh");
  ProblemList problems;
  std::vector<report::RunRecords> runs;
  for (const std::string& folder : folders) {
    try {
      runs.emplace_back(folder);
      if (runs.back().training().steps().empty()) {
        problems.add({ErrorCode::kBadInput,
                      "the run in '" + folder + "' has made no step yet",
                      {},
                      "at least one line in training.jsonl",
                      folder,
                      {}});
      }
    } catch (const Error& error) {
      for (const Problem& problem : error.problems()) problems.add(problem);
    }
  }
  problems.throw_if_any();
  report::PageOptions page;
  page.refresh_seconds = static_cast<int>(refresh);
  const std::string html = report::report_page(runs, page);
  write_file_atomically(output, html);
  std::printf("%s (%.0f kB)\n", output.c_str(), static_cast<double>(html.size()) / 1000);
  return 0;
}

}  // namespace espalier::app
