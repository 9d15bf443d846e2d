// Every way in which a plugin file can be wrong ends in a message of four parts; the messages are
// in golden/NAME.txt, with FOLDER for the folder of the test. ESPALIER_UPDATE_GOLDEN=1 writes them
// anew.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "plugin/elf_reader.h"
#include "plugin/lock_file.h"
#include "plugins/interfaces.h"
#include "zoo_folder.h"

namespace espalier::plugin {
namespace {

TEST_F(BadPlugins, WithoutAManifest) {
  fs::copy_file(testing::environment("ESPALIER_TEST_BUILD") + "/bad_plugins/no_symbol.so",
                folder_.file("bad.espalier.so"));
  expect_golden("no_manifest", refusal());
}

TEST_F(BadPlugins, WhoseManifestIsNoJson) {
  plugin("no_symbol", "{\"id\": ");
  expect_golden("manifest_not_json", refusal());
}

TEST_F(BadPlugins, WhoseManifestLacksAField) {
  plugin("no_symbol", R"({"id": "bad.plugin", "version": "1.0.0"})");
  expect_golden("manifest_without_field", refusal());
}

TEST_F(BadPlugins, WhoseIdHasNoVendor) {
  plugin("no_symbol", sound_manifest("plugin"));
  expect_golden("id_without_vendor", refusal());
}

TEST_F(BadPlugins, WhoseSchemaIsMalformed) {
  PluginManifest manifest = sound_manifest();
  manifest.components.push_back(loss_component("focal", ""));
  manifest.components[0].schema.fields.push_back({.name = "gamma", .type = FieldType::kFloat});
  std::string text = dump_json(manifest_to_value(manifest));
  text.replace(text.find("\"float\""), 7, "\"colour\"");
  plugin("no_symbol", text);
  expect_golden("malformed_schema", refusal());
}

TEST_F(BadPlugins, WithoutTheEntrySymbol) {
  plugin("no_symbol", sound_manifest());
  expect_golden("no_symbol", load_error());
}

TEST_F(BadPlugins, WithTheWrongMagic) {
  plugin("wrong_magic", sound_manifest());
  expect_golden("wrong_magic", load_error());
}

TEST_F(BadPlugins, ForAnOlderAbi) {
  PluginManifest manifest = sound_manifest();
  manifest.abi_major = 0;
  plugin("no_symbol", manifest);
  expect_golden("older_abi", refusal());
}

TEST_F(BadPlugins, ForANewerAbiWhateverElseItSays) {
  PluginManifest manifest = sound_manifest();
  manifest.abi_major = 2;
  manifest.components.push_back(loss_component("focal", ""));
  manifest.components[0].schema.fields.push_back({.name = "gamma", .type = FieldType::kFloat});
  std::string text = dump_json(manifest_to_value(manifest));
  text.replace(text.find("\"float\""), 7, "\"tensor\"");  // a type that this host does not know
  plugin("no_symbol", text);
  expect_golden("newer_abi", refusal());
}

TEST_F(BadPlugins, OfAnUnknownTier) {
  PluginManifest manifest = sound_manifest();
  manifest.tier = "stable_rust";
  plugin("no_symbol", manifest);
  expect_golden("unknown_tier", refusal());
}

TEST_F(BadPlugins, WithAShortDescriptor) {
  plugin("short_struct", sound_manifest());
  expect_golden("short_struct", load_error());
}

TEST_F(BadPlugins, WithAMisalignedDescriptor) {
  plugin("misaligned", sound_manifest());
  expect_golden("misaligned", load_error());
}

TEST_F(BadPlugins, WithANullDescriptor) {
  plugin("null_descriptor", sound_manifest());
  expect_golden("null_descriptor", load_error());
}

TEST_F(BadPlugins, WithOneOtherFingerprintField) {
  PluginManifest manifest = sound_manifest();
  const std::size_t at = manifest.fingerprint.find("cxx11_abi=1");
  ASSERT_NE(at, std::string::npos);
  manifest.fingerprint.replace(at, 11, "cxx11_abi=0");
  plugin("no_symbol", manifest);
  expect_golden("fingerprint_one", refusal());
}

TEST_F(BadPlugins, WithSeveralOtherFingerprintFields) {
  PluginManifest manifest = sound_manifest();
  manifest.fingerprint =
      "cxxabi=itanium;stdlib=libc++;cxx11_abi=none;glibcxx_debug=1;cxx=202302L;sdk_abi=0000;torch="
      "2.1.0;x=1";
  plugin("no_symbol", manifest);
  const std::string text = refusal();
  for (const char* key :
       {"stdlib=", "cxx11_abi=", "glibcxx_debug=", "cxx=", "sdk_abi=", "torch=", "x="})
    EXPECT_NE(text.find(std::string("found:    ") + key), std::string::npos) << key << "\n" << text;
}

TEST_F(BadPlugins, ThatThrowInRegister) {
  plugin("throws_in_register", sound_manifest());
  expect_golden("throws_in_register", load_error());
}

TEST_F(BadPlugins, ThatThrowAnInt) {
  plugin("throws_an_int", sound_manifest());
  expect_golden("throws_an_int", load_error());
}

TEST_F(BadPlugins, ThatRegisterHalfLeaveNothingBehind) {
  PluginManifest manifest = sound_manifest();
  manifest.components.push_back(loss_component("first", "Comes before the failure."));
  plugin("registers_half", manifest);
  expect_golden("registers_half", load_error());
}

TEST_F(BadPlugins, WithAnUndefinedSymbol) {
  plugin("undefined_symbol", sound_manifest());
  expect_golden("undefined_symbol", load_error());
}

TEST_F(BadPlugins, ThatAbortInAConstructor) {
  plugin("aborts_in_constructor", sound_manifest());
  EXPECT_EXIT(load_error(), ::testing::ExitedWithCode(3),
              "error: the program crashed while loading plugin 'bad.plugin'\n.*where: .*\n.*fix: ");
}

TEST_F(BadPlugins, WhoseManifestLiesOfItsId) {
  plugin("other_id", sound_manifest());
  expect_golden("manifest_lies", load_error());
}

TEST_F(BadPlugins, WhoseManifestPromisesOtherComponents) {
  PluginManifest manifest = sound_manifest();
  manifest.components.push_back(loss_component("focal", ""));
  manifest.components.push_back(loss_component("throws", "Another text."));
  plugin("bad_components", manifest);
  const std::string text = load_error();
  EXPECT_NE(text.find("found:    no Loss 'focal'"), std::string::npos) << text;
  EXPECT_NE(text.find("found:    Loss 'throws' with another declaration"), std::string::npos)
      << text;
  EXPECT_NE(text.find("found:    Loss 'null'"), std::string::npos) << text;
}

TEST_F(BadPlugins, DuplicateIdNamesBothFiles) {
  plugin("no_symbol", sound_manifest(), "one");
  plugin("null_descriptor", sound_manifest(), "two");
  expect_golden("duplicate_id", error_of([&] { catalog().plugin("bad.plugin"); }));
  EXPECT_TRUE(catalog().plugins().empty());
}

TEST_F(BadPlugins, ACopyOfAPluginIsTheSamePlugin) {
  zoo("zoo_losses", "a");
  fs::copy_file(folder_.file("a.espalier.so"), folder_.file("b.espalier.so"));
  fs::create_symlink(folder_.file("a.espalier.so"), folder_.file("c.espalier.so"));
  const Catalog found = catalog();
  ASSERT_EQ(found.candidates().size(), 3U);
  EXPECT_EQ(found.candidates()[1].verdict, Verdict::kSameFile);
  EXPECT_EQ(found.candidates()[1].same_as, folder_.file("a.espalier.so"));
  EXPECT_EQ(found.candidates()[2].verdict, Verdict::kSameFile);
  EXPECT_EQ(found.plugins().size(), 1U);
}

TEST_F(BadPlugins, MissingDependency) {
  PluginManifest manifest = sound_manifest();
  manifest.requirements = {"acme.kernels >= 1.2"};
  plugin("no_symbol", manifest);
  expect_golden("missing_dependency", order_error("bad.plugin"));
}

TEST_F(BadPlugins, VersionRangeUnmet) {
  PluginManifest manifest = sound_manifest();
  manifest.requirements = {"zoo.losses >= 2, < 3"};
  plugin("no_symbol", manifest);
  zoo("zoo_losses");
  expect_golden("version_range", order_error("bad.plugin"));
}

TEST_F(BadPlugins, DependencyCycle) {
  PluginManifest one = sound_manifest("acme.one");
  one.requirements = {"acme.two"};
  PluginManifest two = sound_manifest("acme.two");
  two.requirements = {"acme.one >= 1"};
  plugin("no_symbol", one, "one");
  plugin("no_symbol", two, "two");
  expect_golden("cycle", order_error("acme.one"));
}

TEST_F(BadPlugins, Conflict) {
  PluginManifest manifest = sound_manifest();
  manifest.conflicts = {"zoo.losses < 2"};
  plugin("no_symbol", manifest);
  zoo("zoo_losses");
  const Catalog found = catalog();
  expect_golden("conflict", error_of([&] {
                  load_order(found, {found.plugin("zoo.losses"), found.plugin("bad.plugin")});
                }));
}

TEST_F(BadPlugins, AnyOfSeveralRequirementsWillDo) {
  PluginManifest manifest = sound_manifest();
  manifest.requirements = {"acme.fast >= 2 | zoo.losses >= 1 | zoo.training"};
  plugin("no_symbol", manifest);
  zoo("zoo_losses");
  const Catalog found = catalog();
  const auto order = load_order(found, {found.plugin("bad.plugin")});
  ASSERT_EQ(order.size(), 2U);
  EXPECT_EQ(order[0]->manifest.id, "zoo.losses");
}

TEST_F(BadPlugins, NoneOfSeveralRequirementsIsThere) {
  PluginManifest manifest = sound_manifest();
  manifest.requirements = {"acme.fast >= 2 | zoo.losses >= 3"};
  plugin("no_symbol", manifest);
  zoo("zoo_losses");
  expect_golden("alternatives", order_error("bad.plugin"));
}

TEST_F(BadPlugins, MalformedRequirement) {
  PluginManifest manifest = sound_manifest();
  manifest.requirements = {"zoo.losses about 2"};
  plugin("no_symbol", manifest);
  expect_golden("malformed_requirement", order_error("bad.plugin"));
}

TEST_F(BadPlugins, AStrippedPluginWorks) {
  const std::string path = zoo("zoo_losses");
  ASSERT_EQ(testing::run_process({"/usr/bin/strip", path}).exit_code, 0);
  const Catalog found = catalog();
  PluginHost host;
  host.load(load_order(found, {found.plugin("zoo.losses")}));
  const auto loss = host.create<testing::Loss>(found.component("Loss", "plain"), Table());
  EXPECT_EQ(loss->describe(), "plain");
}

TEST_F(BadPlugins, CutShort) {
  const std::string path = zoo("zoo_losses", "bad");
  fs::resize_file(path, 5000);
  expect_golden("truncated", refusal());
}

TEST_F(BadPlugins, ATextFile) {
  folder_.write("bad.espalier.so", "#!/bin/sh\necho hello\n");
  expect_golden("text_file", refusal());
}

TEST_F(BadPlugins, AnEmptyFile) {
  folder_.write("bad.espalier.so", "");
  expect_golden("empty_file", refusal());
}

TEST_F(BadPlugins, AFolder) {
  fs::create_directory(folder_.file("bad.espalier.so"));
  expect_golden("folder", refusal());
}

TEST_F(BadPlugins, ForAnotherArchitecture) {
  const std::string path = zoo("zoo_losses", "bad");
  std::string content = read_file(path);
  content[offsetof(Elf64_Ehdr, e_machine)] = static_cast<char>(EM_RISCV);
  content[offsetof(Elf64_Ehdr, e_machine) + 1] = 0;
  folder_.write("bad.espalier.so", content);
  const std::string text = refusal();
  EXPECT_NE(text.find("built for another machine"), std::string::npos) << text;
  EXPECT_NE(text.find("found:    RISC-V"), std::string::npos) << text;
}

TEST_F(BadPlugins, InAFolderThatEveryoneMayWrite) {
  zoo("zoo_losses", "bad");
  ASSERT_EQ(::chmod(folder_.path().c_str(), 0777), 0);
  expect_golden("world_writable_folder", refusal());
  ASSERT_EQ(::chmod(folder_.path().c_str(), 0700), 0);
}

TEST_F(BadPlugins, LoadingAnotherInBetweenChangesNothing) {
  zoo("zoo_losses");
  zoo("zoo_training", "training");
  const Catalog found = catalog();
  PluginHost host;
  for (const char* id : {"zoo.losses", "zoo.training", "zoo.losses"}) host.load({found.plugin(id)});
  ASSERT_EQ(host.loaded().size(), 2U);
  EXPECT_EQ(host.create<testing::Loss>(found.component("Loss", "plain"), Table())->describe(),
            "plain");
}

TEST_F(BadPlugins, OfAnotherInterfaceVersion) {
  zoo("zoo_losses");
  const Catalog found = catalog();
  PluginHost host;
  host.load(found.plugins());
  const std::string text =
      error_of([&] { host.create<testing::Optimizer>(found.component("Loss", "plain"), Table()); });
  EXPECT_NE(text.find("found:    Loss version 1"), std::string::npos) << text;
  EXPECT_NE(text.find("expected: Optimizer version 1"), std::string::npos) << text;
}

TEST_F(BadPlugins, LockedAsAnotherFile) {
  const std::string path = zoo("zoo_losses");
  const Catalog found = catalog();
  write_lock_file(folder_.file("plugins.lock"), found.plugins());
  check_lock_file(folder_.file("plugins.lock"), found.plugins());
  folder_.write("good.espalier.so", read_file(path) + "x");
  const std::string text =
      error_of([&] { check_lock_file(folder_.file("plugins.lock"), found.plugins()); });
  EXPECT_NE(text.find("plugin 'zoo.losses' is not the file that was locked"), std::string::npos)
      << text;
}

TEST_F(BadPlugins, WhoseComponentsFailToBeMade) {
  PluginManifest manifest = sound_manifest();
  manifest.components = {loss_component("throws_an_int", "Throws 42."),
                         loss_component("throws", "Throws a std::exception."),
                         loss_component("refuses", "Finds fault with the user's input."),
                         loss_component("null", "Gives nothing.")};
  plugin("bad_components", manifest);
  const Catalog found = catalog();
  PluginHost host;
  host.load(load_order(found, {found.plugin("bad.plugin")}));
  std::string text;
  for (const char* name : {"throws_an_int", "throws", "refuses", "null"}) {
    text += (text.empty() ? "" : "\n") +
            error_of([&] { host.create<testing::Loss>(found.component("Loss", name), Table()); });
  }
  expect_golden("components_fail", text);
}

TEST_F(BadPlugins, ABadFileHidesNoneOfTheOthers) {
  folder_.write("aaa.espalier.so", "garbage");
  zoo("zoo_losses");
  zoo("zoo_training", "training");
  EXPECT_EQ(catalog().plugins().size(), 2U);
  catalog().require_named();  // nobody named the bad file
  EXPECT_THROW(catalog_of_file(folder_.file("aaa.espalier.so")).require_named(), Error);
  EXPECT_THROW(catalog_of_file(folder_.file("none.espalier.so")).require_named(), Error);
}

TEST_F(BadPlugins, DamagedFilesNeverCrashTheReader) {
  const std::string good = read_file(zoo("zoo_losses"));
  std::mt19937 random(7);
  const std::size_t sections = reinterpret_cast<const Elf64_Ehdr*>(good.data())->e_shoff;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = good;
    for (int i = 0; i < 4; ++i) {
      const std::size_t in_header = random() % sizeof(Elf64_Ehdr);
      const std::size_t in_sections = sections + random() % (good.size() - sections);
      damaged[round % 2 == 0 ? in_header : in_sections] = static_cast<char>(random());
    }
    if (round % 3 == 0) damaged.resize(random() % damaged.size());
    try {
      const ElfReader reader(std::as_bytes(std::span(damaged)), "damaged");
      reader.section(kManifestSection);
      reader.exported_symbols();
      reader.run_path();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadPlugin);
    }
  }
}

TEST_F(BadPlugins, AGoodPluginLoadsAndShutsDown) {
  zoo("zoo_losses");
  zoo("zoo_training", "training");
  const Catalog found = catalog();
  PluginHost host;
  const auto order = load_order(found, {found.plugin("zoo.training")});
  ASSERT_EQ(order.size(), 2U);
  EXPECT_EQ(order[0]->manifest.id, "zoo.losses");
  host.load(order);
  host.load(order);  // loaded already
  EXPECT_EQ(host.loaded().size(), 2U);
  Table config;
  config.set("gamma", 3.0);
  const auto loss = host.create<testing::Loss>(found.component("Loss", "zoo.losses/focal"), config);
  EXPECT_EQ(loss->describe(), "focal with gamma 3.000000");
  EXPECT_EQ(found.serving("Dataset", "formats", "jsonl").size(), 1U);
  host.shutdown();
  EXPECT_EQ(loss->describe(), "focal with gamma 3.000000");  // its code stays
}

}  // namespace
}  // namespace espalier::plugin
