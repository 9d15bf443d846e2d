// espalier plugins validate: every promise of the contract tried on one plugin, each in a process
// of its own.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "app/compute.h"
#include "app/options.h"
#include "app/plugin_options.h"
#include "app/plugins.h"
#include "app/validate_report.h"
#include "app/validation_sample.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/sdk/plugin.h"
#include "plugin/contract_checks.h"
#include "plugin/dependencies.h"

namespace espalier::app {
namespace {

namespace fs = std::filesystem;
using plugin::Candidate;

struct Flags {
  std::string file;
  std::int64_t level = 3;
  std::int64_t seed = 0;
  std::int64_t timeout = 120;
  std::string samples;
  std::string only;
  std::string junit;
  bool json = false;
  bool list = false;
};

/// What runs a check once its component has a config and a folder.
using Runner = std::function<void(const Value& config, const std::string& folder,
                                  conformance::Report& report)>;

class Validator {
 public:
  Validator(const Flags& flags, const plugin::Catalog& catalog, const Candidate& candidate)
      : flags_(flags), catalog_(catalog), candidate_(candidate) {
    validation_.file = candidate.path;
    validation_.plugin =
        candidate.id.empty() ? fs::path(candidate.path).filename().string() : candidate.id;
    validation_.level = flags.level;
    validation_.seed = flags.seed;
  }

  Validation run() {
    for (const plugin::ContractCheck& check : plugin::contract_checks()) {
      if (check.each_component || !wanted(check.id, check.level)) continue;
      // The manifest comes first; without one there is nothing to load.
      if (check.id != "load.manifest" && !usable() && check.id != "load.exports" &&
          check.id != "load.symbols") {
        continue;
      }
      add({std::string(check.id), {}, check.level, std::string(check.text), {}},
          [&](conformance::Report& report) {
            check.run({candidate_.path, &catalog_, {}, {}}, report);
          });
    }
    if (usable()) check_components();
    return std::move(validation_);
  }

 private:
  bool usable() const {
    return candidate_.plugin != nullptr && candidate_.verdict == plugin::Verdict::kAccepted;
  }

  bool wanted(std::string_view id, int level) const {
    return level <= flags_.level && (flags_.only.empty() || id.starts_with(flags_.only));
  }

  void add(ValidatedCheck check, const std::function<void(conformance::Report&)>& work) {
    check.result = run_isolated(work, std::chrono::seconds(flags_.timeout));
    if (!flags_.json) print_check(check);
    validation_.checks.push_back(std::move(check));
  }

  void check_components() {
    const ValidationSamples samples(flags_.samples, *candidate_.plugin);
    for (const ComponentDescriptor& component : candidate_.plugin->manifest.components) {
      const plugin::ComponentRef ref{candidate_.plugin, &component};
      const Value entry = samples.entry(component.name);
      const Array of_interface = interface_checks(component.interface);
      for (const plugin::ContractCheck& check : plugin::contract_checks()) {
        if (!check.each_component || !wanted(check.id, check.level)) continue;
        add_component(ref, entry, std::string(check.id), check.level, std::string(check.text),
                      [&](const Value& config, const std::string&, conformance::Report& report) {
                        check.run({candidate_.path, &catalog_, ref, config}, report);
                      });
      }
      for (const Value& check : of_interface) {
        const std::string id = check.find("id")->as_string();
        const int level = static_cast<int>(check.find("level")->as_int());
        if (!wanted(id, level)) continue;
        add_component(
            ref, entry, id, level, check.find("text")->as_string(),
            [&](const Value& config, const std::string& folder, conformance::Report& report) {
              report = run_in_engine(ref, config, entry, folder, id);
            });
      }
    }
  }

  void add_component(const plugin::ComponentRef& ref, const Value& entry, const std::string& id,
                     int level, const std::string& text, const Runner& runner) {
    const SampleFolder folder(entry);
    add({id, ref.component->name, level, text, {}}, [&](conformance::Report& report) {
      Value config;
      try {
        config = folder.config(entry, *ref.component);
      } catch (const Error& error) {
        if (entry.find("config") != nullptr) throw;
        return report.skip("conformance.json gives no config: " + error.problems().front().what);
      }
      if (candidate_.plugin->manifest.tier == kStablePluginTier &&
          (flags_.level < 2 || !has_engine()))
        return report.skip("components in C are made by the engine: --level 2");
      runner(config, folder.path(), report);
    });
  }

  /// The engine's list of checks; empty without an engine. Asking for it also lets this process,
  /// and the children that it forks, make components in C.
  Array interface_checks(const std::string& interface) const {
    if (flags_.level < 2 || !has_engine()) return {};
    EngineRequest request;
    request.command = "conformance";
    request.options = Table();
    request.options.as_table().set("interface", interface);
    request.answer = std::make_shared<Value>();
    call_engine(request);
    return request.answer->as_array();
  }

  conformance::Report run_in_engine(const plugin::ComponentRef& ref, const Value& config,
                                    const Value& entry, const std::string& folder,
                                    const std::string& id) const {
    EngineRequest request;
    request.command = "conformance";
    Table options;
    options.set("check", id);
    options.set("sample", entry);
    options.set("folder", folder);
    options.set("seed", flags_.seed);
    request.options = std::move(options);
    request.plugins = plugin::load_order(catalog_, {ref.plugin});
    request.components["subject"] = {ref, config};
    request.answer = std::make_shared<Value>();
    call_engine(request);
    return conformance::Report::from_value(*request.answer);
  }

  const Flags& flags_;
  const plugin::Catalog& catalog_;
  const Candidate& candidate_;
  Validation validation_;
};

Flags parse(const std::vector<std::string>& arguments, plugin::CatalogOptions& catalog) {
  Flags flags;
  Options options(
      "plugins validate FILE [--level 1..3]",
      "Tries out every promise of the plugin contract on one plugin, each check in a process of "
      "its own. Level 1: the file loads and says what it is. Level 2: components are made, used "
      "and destroyed well. Level 3: their numbers are right. What components need to be tried "
      "out (settings, small files, model configs) is in NAME.conformance.json beside the plugin; "
      "see docs/conformance.md.");
  options.positional("FILE", flags.file, "the plugin, NAME.espalier.so")
      .value("level", flags.level, "1, 2 or 3 (default 3); each includes those before it")
      .value("seed", flags.seed, "of the random numbers of the checks (default 0)")
      .value("timeout", flags.timeout, "seconds that one check may take (default 120)")
      .value("samples", flags.samples, "a conformance.json elsewhere than beside the plugin")
      .value("only", flags.only, "checks whose id begins with this, such as loss. or load.config")
      .value("junit", flags.junit, "also write a JUnit report to this file")
      .flag("json", flags.json, "print one JSON document");
  add_plugin_options(options, catalog);
  options.parse(arguments);
  if (flags.level < 1 || flags.level > 3)
    throw_bad_input("--level is out of range", std::to_string(flags.level), "1, 2 or 3", "--level");
  if (flags.timeout < 1)
    throw_bad_input("--timeout is out of range", std::to_string(flags.timeout), "1 or more",
                    "--timeout");
  return flags;
}

}  // namespace

int validate_plugin(const std::vector<std::string>& arguments) {
  plugin::CatalogOptions catalog_options;
  const Flags flags = parse(arguments, catalog_options);
  catalog_options.files.insert(catalog_options.files.begin(), flags.file);
  catalog_options.files_replace = true;
  const plugin::Catalog catalog = plugin::Catalog::scan(catalog_options);
  const Candidate& candidate = catalog.candidates().front();
  if (!fs::exists(flags.file)) catalog.require_named();
  if (flags.level > 1) open_engine();  // once, for all the children
  const Validation validation = Validator(flags, catalog, candidate).run();
  if (!flags.only.empty() && validation.checks.empty())
    throw_bad_input("no check has an id that begins like this", flags.only,
                    "an id that espalier plugins validate prints", "--only");
  if (!flags.junit.empty()) write_file_atomically(flags.junit, validation_to_junit(validation));
  if (flags.json)
    std::puts(dump_json(validation_to_value(validation), 1).c_str());
  else
    print_summary(validation);
  return validation.failed() ? exit_code(ErrorCode::kCheckFailed) : 0;
}

}  // namespace espalier::app
