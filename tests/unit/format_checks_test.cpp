// The conformance kit's checks of formats, without LibTorch and the program around them, so that
// sanitizers see them, the plugins for formats and those that break a promise.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/conformance/interfaces.h"
#include "plugin/plugin_host.h"
#include "temporary_folder.h"

namespace espalier::conformance {
namespace {

namespace fs = std::filesystem;

std::span<const Check> checks_for(const std::string& interface) {
  return interface == "TokenizerFormat" ? tokenizer_checks() : checkpoint_checks();
}

/// The component's entry in conformance.json beside the plugin.
Value sample_of(const std::string& plugin, const std::string& component) {
  const std::string path =
      plugin.substr(0, plugin.size() - std::string_view(".espalier.so").size()) +
      ".conformance.json";
  if (!fs::exists(path)) return Table();
  const Value components = *read_json_file(path).find("components");
  const Value* entry = components.find(component);
  if (entry == nullptr) entry = components.find("*");
  return entry == nullptr ? Value(Table()) : *entry;
}

std::string content_of(const Value& file) {
  if (file.is_string()) return file.as_string();
  const Value* hex = file.find("hex");
  if (hex == nullptr) return dump_json(file);
  std::string bytes;
  for (std::size_t i = 0; i < hex->as_string().size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex->as_string().substr(i, 2), nullptr, 16));
  return bytes;
}

/// What a check says of a component, in a folder of its own.
Report report_of(const Check& check, const plugin::PluginHost& host,
                 const plugin::ComponentRef& ref) {
  const testing::TemporaryFolder folder;
  Subject subject;
  subject.component = ref.qualified_name();
  subject.sample = sample_of(ref.plugin->path, ref.component->name);
  if (const Value* files = subject.sample.find("files")) {
    for (const auto& [name, file] : files->as_table())
      testing::write_fresh(folder / name, content_of(file));
  }
  subject.serves = ref.component->serves;
  subject.properties = ref.component->properties;
  subject.folder = folder.path();
  subject.create_object = [&] {
    return host.create_object({ref.component->interface, ref.component->interface_version}, ref,
                              Value(Table()));
  };
  Report report;
  try {
    check.run(subject, report);
  } catch (const std::exception& error) {
    report.fail("the check ended in an exception", error.what());
  }
  return report;
}

/// Calls `look` with the report of every check on every component of a plugin that `wanted` takes.
template <class Wanted, class Look>
void for_each_report(const std::string& file, const Wanted& wanted, const Look& look) {
  plugin::CatalogOptions options;
  options.files = {file};
  options.environment = false;
  options.installation = false;
  const plugin::Catalog catalog = plugin::Catalog::scan(options);
  catalog.require_named();
  plugin::PluginHost host;
  host.load(catalog.plugins());
  for (const plugin::ComponentRef& ref : catalog.components()) {
    std::size_t seen = 0;
    for (const Check& check : checks_for(ref.component->interface)) {
      if (!wanted(ref, check)) continue;
      look(ref, check, report_of(check, host, ref));
      ++seen;
    }
    EXPECT_GT(seen, 0U) << ref.qualified_name();
  }
}

class SoundFormat : public ::testing::TestWithParam<const char*> {};

TEST_P(SoundFormat, PassesEveryCheck) {
  const auto all = [](const plugin::ComponentRef&, const Check&) { return true; };
  for_each_report(
      GetParam(), all,
      [](const plugin::ComponentRef& ref, const Check& check, const Report& report) {
        EXPECT_TRUE(report.outcome() == Outcome::kPass || report.outcome() == Outcome::kSkip)
            << ref.qualified_name() << ", " << check.id << ": "
            << report.remarks().front().to_string();
      });
}

INSTANTIATE_TEST_SUITE_P(Plugins, SoundFormat, ::testing::Values(BYT5_PLUGIN, NPZ_PLUGIN));

class WrongFormat : public ::testing::TestWithParam<const char*> {};

TEST_P(WrongFormat, IsFoundByTheCheckThatIsThereForIt) {
  const auto violated = [](const plugin::ComponentRef& ref, const Check& check) {
    return *ref.component->properties.find("violates") == Value(check.id);
  };
  for_each_report(
      GetParam(), violated,
      [](const plugin::ComponentRef& ref, const Check& check, const Report& report) {
        EXPECT_TRUE(report.outcome() == Outcome::kFail || report.outcome() == Outcome::kWarn)
            << ref.qualified_name() << ", " << check.id;
      });
}

INSTANTIATE_TEST_SUITE_P(Plugins, WrongFormat,
                         ::testing::Values(WRONG_TOKENIZERS_PLUGIN, WRONG_CHECKPOINTS_PLUGIN));

}  // namespace
}  // namespace espalier::conformance
