#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "app/compute.h"
#include "app/isolated_check.h"
#include "app/libtorch.h"
#include "app/plugins.h"
#include "app/terminal.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/location.h"
#include "plugin/elf_reader.h"
#include "plugin/fingerprint.h"

namespace espalier::app {
namespace {

using plugin::Candidate;
using plugin::Verdict;

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAccepted: return "accepted";
    case Verdict::kSameFile: return "same";
    case Verdict::kRefused: return "refused";
  }
  return "refused";
}

/// The features that decide which kernels are fast here.
std::string cpu_features() {
  const std::set<std::string> wanted = {"avx2",        "fma",         "f16c",        "avx512f",
                                        "avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_bf16",
                                        "asimd",       "sve",         "bf16"};
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  std::string found;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(std::min(line.find(':') + 1, line.size())));
    for (std::string word; words >> word;) {
      if (wanted.contains(word)) found += (found.empty() ? "" : " ") + word;
    }
    break;
  }
  return found.empty() ? "none that Espalier knows" : found;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name"))
      return line.substr(std::min(line.find(':') + 2, line.size()));
  }
  utsname system{};
  return ::uname(&system) == 0 ? system.machine : "unknown";
}

std::string gibibytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / (1024.0 * 1024.0 * 1024.0));
  return text;
}

/// What the engine finds out about the machine, in a process of its own: LibTorch may not even
/// load.
Table engine_facts() {
  if (!has_engine()) return {};
  const IsolatedResult result = run_isolated(
      [](conformance::Report& report) {
        EngineRequest request;
        request.command = "machine";
        request.options = Table();
        request.answer = std::make_shared<Value>();
        call_engine(request);
        for (const auto& [name, fact] : request.answer->as_table()) {
          report.warn(name, fact.as_string());
        }
      },
      std::chrono::seconds(60));
  Table facts;
  if (result.report.outcome() == conformance::Outcome::kFail) {
    const Problem& problem = result.report.remarks().front();
    facts.set("engine", problem.what + (problem.found.empty() ? "" : ": " + problem.found));
    return facts;
  }
  for (const Problem& remark : result.report.remarks()) facts.set(remark.what, remark.hint);
  return facts;
}

Table machine_facts() {
  Table facts;
  facts.set("fingerprint", plugin::host_fingerprint());
  facts.set("cpu", cpu_model());
  facts.set("cpu_features", cpu_features());
  facts.set("cpus", static_cast<std::int64_t>(::sysconf(_SC_NPROCESSORS_ONLN)));
  const double page_size = static_cast<double>(::sysconf(_SC_PAGESIZE));
  facts.set("memory", gibibytes(static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * page_size));
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0)
    facts.set("open_files_limit", files.rlim_cur == RLIM_INFINITY
                                      ? Value("unlimited")
                                      : Value(static_cast<std::int64_t>(files.rlim_cur)));
  facts.set("libtorch", libtorch_place());
  const Table engine = engine_facts();
  for (const auto& [name, fact] : engine) facts.set(name, fact);
  const char* path = std::getenv("ESPALIER_PLUGIN_PATH");
  facts.set("ESPALIER_PLUGIN_PATH", path == nullptr ? "not set" : path);
  return facts;
}

Value candidate_to_value(const Candidate& candidate) {
  Table entry;
  entry.set("path", candidate.path);
  entry.set("origin", candidate.origin);
  entry.set("verdict", verdict_name(candidate.verdict));
  if (!candidate.id.empty()) entry.set("id", candidate.id);
  if (candidate.plugin) entry.set("version", candidate.plugin->manifest.version);
  if (!candidate.same_as.empty()) entry.set("same_as", candidate.same_as);
  Array problems;
  for (const Problem& problem : candidate.problems) problems.push_back(problem_to_value(problem));
  entry.set("problems", std::move(problems));
  return entry;
}

void print_candidate(const Candidate& candidate) {
  std::printf("  %-8s  %s", verdict_name(candidate.verdict), candidate.path.c_str());
  if (candidate.plugin && candidate.verdict == Verdict::kAccepted)
    std::printf("  (%s %s)", candidate.plugin->manifest.id.c_str(),
                candidate.plugin->manifest.version.c_str());
  if (!candidate.same_as.empty()) std::printf("\n            as %s", candidate.same_as.c_str());
  std::puts("");
  for (const Problem& problem : candidate.problems) {
    std::istringstream lines(problem.to_string());
    for (std::string line; std::getline(lines, line);)
      std::printf("            %s\n", line.c_str());
  }
}

}  // namespace

int diagnose_plugins(const plugin::Catalog& catalog, bool json) {
  bool healthy = true;
  for (const Candidate& candidate : catalog.candidates())
    healthy = healthy && candidate.verdict != Verdict::kRefused;
  if (json) {
    Array candidates;
    for (const Candidate& candidate : catalog.candidates())
      candidates.push_back(candidate_to_value(candidate));
    Table document;
    document.set("healthy", healthy);
    document.set("machine", machine_facts());
    document.set("candidates", std::move(candidates));
    std::puts(dump_json(Value(std::move(document)), 1).c_str());
  } else {
    std::puts("Machine");
    std::vector<std::vector<std::string>> rows;
    for (const auto& [name, fact] : machine_facts())
      rows.push_back({name, fact.is_string() ? fact.as_string() : dump_json(fact)});
    print_columns({}, rows, "  ");
    std::puts("\nPlugin files");
    for (const Candidate& candidate : catalog.candidates()) print_candidate(candidate);
    if (catalog.candidates().empty()) std::puts("  none was found");
  }
  return healthy ? 0 : exit_code(ErrorCode::kBadPlugin);
}

}  // namespace espalier::app
