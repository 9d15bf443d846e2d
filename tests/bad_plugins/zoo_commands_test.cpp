// What the commands make of the zoo: listing and diagnosing survive all of it, and run none of it;
// validating costs a child process.
#include <gtest/gtest.h>

#include "zoo_folder.h"

namespace espalier::plugin {
namespace {

using testing::run_espalier;

const Value* check_of(const Value& report, const std::string& id) {
  for (const Value& check : report.find("checks")->as_array()) {
    if (check.find("id")->as_string() == id) return &check;
  }
  return nullptr;
}

class ZooCommands : public BadPlugins {
 protected:
  Value validate(const std::string& file, const std::vector<std::string>& further = {}) {
    std::vector<std::string> words = {"plugins", "validate", file, "--json", "--level", "1"};
    words.insert(words.end(), further.begin(), further.end());
    const auto result = run_espalier(words);
    EXPECT_EQ(result.exit_code, 1) << result.out << result.err;
    return parse_json(result.out);
  }
};

TEST_F(ZooCommands, SurviveAFolderWithAllOfThem) {
  std::vector<std::string> members;
  for (const auto& entry :
       fs::directory_iterator(testing::environment("ESPALIER_TEST_BUILD") + "/bad_plugins")) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".so") continue;
    plugin(name, sound_manifest("zoo." + name), name);
    members.push_back(name);
  }
  ASSERT_GE(members.size(), 14U);
  PluginManifest old = sound_manifest("zoo.old");
  old.abi_major = 0;
  plugin("no_symbol", old, "old");
  PluginManifest circle = sound_manifest("zoo.circle");
  circle.requirements = {"zoo.circle", "zoo.nothing >= 7"};
  plugin("no_symbol", circle, "circle");
  plugin("no_symbol", "{", "no_json");
  plugin("no_symbol", sound_manifest("zoo.twice"), "twice_1");
  plugin("null_descriptor", sound_manifest("zoo.twice"), "twice_2");
  folder_.write("text.espalier.so", "#!/bin/sh");
  folder_.write("empty.espalier.so", "");
  fs::create_directory(folder_.file("folder.espalier.so"));
  fs::create_symlink("/nowhere", folder_.file("link.espalier.so"));

  const std::vector<std::string> here = {"--json", "--plugin-path", folder_.path()};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.end(), here.begin(), here.end());
    return run_espalier(words);
  };
  const auto list = with({"plugins", "list"});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_GE(parse_json(list.out).find("refused")->as_int(), 8);
  const auto doctor = with({"plugins", "doctor"});
  EXPECT_EQ(doctor.exit_code, 3) << doctor.err;
  for (const char* file :
       {"old", "no_json", "twice_1", "twice_2", "text", "empty", "folder", "link"})
    EXPECT_NE(doctor.out.find("/" + std::string(file) + ".espalier.so"), std::string::npos) << file;
  for (const std::string& name : members)
    EXPECT_EQ(with({"plugins", "inspect", "zoo." + name}).exit_code, 0) << name;
  EXPECT_EQ(with({"plugins", "why", "zoo.old"}).exit_code, 3);
}

TEST_F(ZooCommands, ACrashWhileValidatingCostsAChild) {
  const Value report = validate(plugin("aborts_in_constructor", sound_manifest()));
  const Value* loads = check_of(report, "load.loads");
  ASSERT_NE(loads, nullptr);
  EXPECT_EQ(loads->find("outcome")->as_string(), "fail");
  EXPECT_NE(dump_json(*loads).find("crashed"), std::string::npos) << dump_json(*loads);
}

TEST_F(ZooCommands, AConstructorThatNeverEndsIsStopped) {
  const Value report = validate(plugin("slow_constructor", sound_manifest()), {"--timeout", "1"});
  const std::string text = dump_json(*check_of(report, "load.loads"));
  EXPECT_NE(text.find("did not end within 1 s"), std::string::npos) << text;
}

TEST_F(ZooCommands, ADestructorThatExitsDecidesNothing) {
  PluginManifest manifest = sound_manifest();
  const std::string file = plugin("exits_in_destructor", manifest);
  const auto result =
      run_espalier({"plugins", "validate", file, "--level", "1", "--only", "load.loads"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

TEST_F(ZooCommands, AFileThatIsNoPluginIsReportedAsACheck) {
  const Value report = validate(folder_.write("bad.espalier.so", "not a library"));
  EXPECT_EQ(check_of(report, "load.manifest")->find("outcome")->as_string(), "fail");
}

TEST_F(ZooCommands, APluginThatIsInstalledTooCanBeValidated) {
  zoo("zoo_losses", "installed");
  const testing::TemporaryFolder elsewhere;
  const std::string newer = elsewhere.file("newer.espalier.so");
  fs::copy_file(folder_.file("installed.espalier.so"), newer);
  ASSERT_EQ(testing::run_process({"/usr/bin/strip", newer}).exit_code, 0);
  const auto result =
      run_espalier({"plugins", "validate", newer, "--level", "1", "--plugin-path", folder_.path()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

TEST_F(ZooCommands, ALockFileShutsOutWhatItDoesNotHave) {
  zoo("zoo_losses");
  const std::string lock = folder_.file("plugins.lock");
  const std::vector<std::string> here = {"--plugin-path", folder_.path()};
  ASSERT_EQ(run_espalier({"plugins", "lock", "--output", lock, here[0], here[1]}).exit_code, 0);
  EXPECT_EQ(run_espalier({"plugins", "inspect", "zoo.losses", "--locked", lock, here[0], here[1]})
                .exit_code,
            0);
  zoo("zoo_training", "other");
  const auto unknown =
      run_espalier({"plugins", "inspect", "zoo.training", "--locked", lock, here[0], here[1]});
  EXPECT_EQ(unknown.exit_code, 3);
  EXPECT_NE(unknown.err.find("is not in the lock file"), std::string::npos) << unknown.err;
  folder_.write("good.espalier.so", read_file(folder_.file("good.espalier.so")) + "x");
  const auto changed =
      run_espalier({"plugins", "inspect", "zoo.losses", "--locked", lock, here[0], here[1]});
  EXPECT_EQ(changed.exit_code, 3);
  EXPECT_NE(changed.err.find("is not the file that was locked"), std::string::npos) << changed.err;
}

}  // namespace
}  // namespace espalier::plugin
