#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/manifest.h"
#include "espalier/sdk/plugin.h"
#include "plugin/catalog.h"
#include "plugin/dependencies.h"
#include "plugin/fingerprint.h"
#include "plugin/plugin_host.h"
#include "support/process.h"
#include "support/temporary_folder.h"

namespace espalier::plugin {

namespace fs = std::filesystem;

inline const char* const kSource = ESPALIER_TEST_SOURCE;

/// What a plugin without tensors says of itself when all is well.
inline PluginManifest sound_manifest(const std::string& id = "bad.plugin") {
  PluginManifest manifest;
  manifest.id = id;
  manifest.version = "1.0.0";
  manifest.tier = kPluginTier;
  manifest.abi_major = kPluginAbiMajor;
  manifest.abi_minor = kPluginAbiMinor;
  manifest.fingerprint = host_fingerprint();
  // The test libraries hold no tensors.
  for (const char* key : {";torch=", ";cuda="}) {
    const std::size_t start = manifest.fingerprint.find(key);
    if (start == std::string::npos) continue;
    const std::size_t end = manifest.fingerprint.find(';', start + 1);
    manifest.fingerprint.erase(start, end == std::string::npos ? end : end - start);
  }
  return manifest;
}

inline ComponentDescriptor loss_component(const std::string& name, const std::string& doc) {
  ComponentDescriptor component;
  component.interface = "Loss";
  component.name = name;
  component.doc = doc;
  return component;
}

/// A folder with files of the zoo, each with the manifest that its case needs.
class BadPlugins : public ::testing::Test {
 protected:
  /// A copy of test library `library` that says `manifest` of itself.
  std::string plugin(const std::string& library, const std::string& manifest,
                     const std::string& name = "bad") {
    std::string path = folder_.file(name + ".espalier.so");
    const std::string json = folder_.write("manifest.json", manifest);
    const auto result = testing::run_process(
        {"/usr/bin/objcopy", "--add-section", std::string(kManifestSection) + "=" + json,
         testing::environment("ESPALIER_TEST_BUILD") + "/bad_plugins/" + library + ".so", path});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    fs::remove(json);
    return path;
  }
  std::string plugin(const std::string& library, const PluginManifest& manifest,
                     const std::string& name = "bad") {
    return plugin(library, dump_json(manifest_to_value(manifest)), name);
  }
  std::string zoo(const std::string& name, const std::string& as = "good") {
    std::string path = folder_.file(as + ".espalier.so");
    fs::copy_file(testing::environment("ESPALIER_TEST_BUILD") + "/zoo/" + name + ".espalier.so",
                  path);
    return path;
  }

  Catalog catalog() const {
    return Catalog::scan(
        {.folders = {folder_.path()}, .environment = false, .installation = false});
  }
  Catalog catalog_of_file(const std::string& file) const {
    return Catalog::scan({.files = {file}, .environment = false, .installation = false});
  }

  /// What the first refused candidate was refused for.
  std::string refusal() const {
    const Catalog found = catalog();
    for (const Candidate& candidate : found.candidates()) {
      if (candidate.verdict == Verdict::kRefused) return Error(candidate.problems).what();
    }
    return "nothing was refused";
  }

  template <class Action>
  static std::string error_of(const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
      return error.what();
    }
    return "no error";
  }

  std::string load_error(const std::string& id = "bad.plugin") {
    PluginHost host;
    std::string text = error_of([&] { host.load(load_order(catalog(), {catalog().plugin(id)})); });
    EXPECT_TRUE(host.loaded().empty());
    return text;
  }

  std::string order_error(const std::string& id) const {
    const Catalog found = catalog();
    return error_of([&] { load_order(found, {found.plugin(id)}); });
  }

  void expect_golden(const std::string& name, std::string text) const {
    const auto replace = [&](const std::string& what, const std::string& by) {
      for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
        text.replace(at, what.size(), by);
    };
    replace(folder_.path(), "FOLDER");
    const std::string fingerprint = sound_manifest().fingerprint;
    const std::size_t hash = fingerprint.find("sdk_abi=") + 8;
    replace(fingerprint.substr(hash, 16), "HASH");
    text += "\n";
    const std::string path = std::string(kSource) + "/golden/" + name + ".txt";
    if (!testing::environment("ESPALIER_UPDATE_GOLDEN").empty()) write_file_atomically(path, text);
    EXPECT_EQ(text, read_file(path));
  }

  testing::TemporaryFolder folder_;
};

}  // namespace espalier::plugin
