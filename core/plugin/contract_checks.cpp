#include "plugin/contract_checks.h"

#include <malloc.h>

#include <chrono>
#include <thread>

#include "espalier/base/file.h"
#include "espalier/base/suggest.h"
#include "plugin/dependencies.h"
#include "plugin/elf_reader.h"
#include "plugin/plugin_host.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();  // GCC ships no header for it
#endif

namespace espalier::plugin {
namespace {

using conformance::Report;

const Candidate* candidate_of(const ContractSubject& subject) {
  for (const Candidate& candidate : subject.catalog->candidates()) {
    if (candidate.path == subject.path) return &candidate;
  }
  return nullptr;
}

void check_manifest(const ContractSubject& subject, Report& report) {
  const Candidate* candidate = candidate_of(subject);
  if (candidate != nullptr) {
    for (const Problem& problem : candidate->problems)
      report.fail(problem.what, problem.found, problem.expected, problem.hint);
  }
  if (report.outcome() == conformance::Outcome::kFail) return;
  const auto start = std::chrono::steady_clock::now();
  read_plugin_file(subject.path);
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
  constexpr double kLimit = 100;
  if (spent.count() > kLimit)
    report.warn(
        "reading the manifest took " + std::to_string(static_cast<int>(spent.count())) + " ms",
        "a host reads it within 100 ms; is the library on a slow disk?");
}

void check_exports(const ContractSubject& subject, Report& report) {
  const MappedFile file(subject.path);
  std::vector<std::string> exported = ElfReader(file.bytes(), subject.path).exported_symbols();
  std::erase(exported, std::string(kPluginEntryName));
  if (!exported.empty())
    report.fail("the library exports more than its entry", join_names(exported),
                std::string(kPluginEntryName) + " alone",
                "build with espalier_add_plugin(), which hides everything else: a symbol of two "
                "plugins could be taken for one");
}

void check_symbols(const ContractSubject& subject, Report& report) {
  const MappedFile file(subject.path);
  const ElfReader reader(file.bytes(), subject.path);
  if (const auto unique = reader.unique_symbols(); !unique.empty())
    report.fail("the library has process-wide unique symbols", join_names(unique), "none",
                "build with espalier_add_plugin(), which passes -fno-gnu-unique");
  for (const std::string& symbol : reader.imported_symbols()) {
    if (symbol.find("TorchLibraryInit") != std::string::npos)
      report.fail("the library registers operators with LibTorch when it is loaded",
                  "TORCH_LIBRARY", "a KernelPack",
                  "registration happens in the function given to ESPALIER_PLUGIN alone");
    if (symbol == "__cxa_thread_atexit" || symbol == "__cxa_thread_atexit_impl")
      report.warn("the library has a thread_local with a destructor",
                  "threads may end when the object's module is no longer usable; keep such state "
                  "in the component");
  }
}

PluginHost& loaded_host(const ContractSubject& subject) {
  static auto* const kHost = new PluginHost;  // nothing is unloaded
  const Candidate* candidate = candidate_of(subject);
  if (candidate == nullptr || !candidate->plugin || candidate->verdict != Verdict::kAccepted)
    throw_bad_input("the plugin can't be loaded", {}, {}, subject.path,
                    "see what load.manifest reports");
  kHost->load(load_order(*subject.catalog, {candidate->plugin}));
  return *kHost;
}

void check_loads(const ContractSubject& subject, Report& report) {
  PluginHost& host = loaded_host(subject);
  if (host.loaded().empty()) report.fail("the plugin was not loaded");
  host.shutdown();
  host.shutdown();  // nothing is left to be told
}

void check_documented(const ContractSubject& subject, Report& report) {
  const PluginManifest& manifest = candidate_of(subject)->plugin->manifest;
  if (manifest.components.empty())
    report.fail("the plugin registers no component", "none", "at least one",
                "call registrar.add<Interface, Type>(name, text) in the function given to "
                "ESPALIER_PLUGIN");
  for (const ComponentDescriptor& component : manifest.components) {
    if (component.doc.empty())
      report.fail("component '" + component.name + "' has no text", {}, "one sentence",
                  "the second argument of registrar.add");
    for (const FieldSpec& field : component.schema.fields) {
      if (field.doc.empty())
        report.fail("setting '" + field.name + "' of '" + component.name + "' has no text", {},
                    "what it does", "the third argument of .field(...)");
    }
  }
}

/// A value of another type than the field's.
Value wrong_value(const FieldSpec& field) {
  if (field.type == FieldType::kString || field.type == FieldType::kComponent || field.single)
    return Value(12.5);
  return Value("a text");
}

std::shared_ptr<void> make(const PluginHost& host, const ComponentRef& ref, const Value& config) {
  return host.create_object({ref.component->interface, ref.component->interface_version}, ref,
                            config);
}

void check_config(const ContractSubject& subject, Report& report) {
  const PluginHost& host = loaded_host(subject);
  for (const FieldSpec& field : subject.component.component->schema.fields) {
    if (field.type == FieldType::kAny || field.type == FieldType::kBool) continue;
    Value config = subject.config;
    config.as_table().set(field.name, wrong_value(field));
    try {
      make(host, subject.component, config);
      report.fail("a wrong value for '" + field.name + "' is taken", "no error",
                  "an Error that names the field",
                  "let the Config's schema parse it; it checks types and ranges");
    } catch (const Error& error) {
      if (std::string(error.what()).find(field.name) == std::string::npos)
        report.fail("the error for a wrong '" + field.name + "' does not name it",
                    error.problems().front().what, "a message with '" + field.name + "'");
    }
  }
}

constexpr int kTimes = 1000;

std::size_t allocated_bytes() {
#if defined(__SANITIZE_ADDRESS__)
  return __sanitizer_get_current_allocated_bytes();  // its allocator is not that of the C library
#else
  return ::mallinfo2().uordblks;
#endif
}

void check_lifetime(const ContractSubject& subject, Report& report) {
  const PluginHost& host = loaded_host(subject);
  for (int i = 0; i < kTimes / 10; ++i) make(host, subject.component, subject.config);
  const std::size_t before = allocated_bytes();
  for (int i = 0; i < kTimes; ++i) make(host, subject.component, subject.config);
  const std::size_t after = allocated_bytes();
  constexpr std::size_t kBytesEach = 16;  // what a leak of the smallest object takes
  if (after > before + kTimes * kBytesEach)
    report.fail("memory grows with every instance that is made and destroyed",
                std::to_string((after - before) / kTimes) + " bytes each", "0 bytes",
                "look for a member that nobody deletes, or a list that instances add themselves "
                "to; valgrind or -fsanitize=address name the place");
}

void check_two_threads(const ContractSubject& subject, Report& report) {
  const PluginHost& host = loaded_host(subject);
  std::string wrong[2];
  std::vector<std::thread> threads;
  for (std::string& text : wrong) {
    threads.emplace_back([&] {
      try {
        for (int i = 0; i < kTimes / 10; ++i) make(host, subject.component, subject.config);
      } catch (const std::exception& error) {
        text = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : wrong) {
    if (!text.empty())
      report.fail("making the component in two threads at once fails", text, {},
                  "let instances share nothing that changes");
  }
}

void check_shutdown(const ContractSubject& subject, Report& report) {
  PluginHost& host = loaded_host(subject);
  const std::shared_ptr<void> kept = make(host, subject.component, subject.config);
  host.shutdown();
  if (!kept) report.fail("no component was made");
  // `kept` is destroyed after the plugin was told to shut down.
}

}  // namespace

std::vector<ContractCheck> contract_checks() {
  return {
      {"load.manifest", 1, false, "the manifest is read without running code", check_manifest},
      {"load.exports", 1, false, "one symbol is exported", check_exports},
      {"load.symbols", 1, false, "nothing is registered or pinned by loading", check_symbols},
      {"load.loads", 1, false, "the library loads, registers what its manifest says, shuts down",
       check_loads},
      {"load.documented", 1, false, "components and settings are explained", check_documented},
      {"load.config", 1, true, "a wrong setting is an error that names it", check_config},
      {"contract.lifetime", 2, true, "1,000 instances leave no memory behind", check_lifetime},
      {"contract.threads", 2, true, "two threads make instances at once", check_two_threads},
      {"contract.shutdown", 2, true, "an instance may outlive the plugin's shutdown",
       check_shutdown},
  };
}

}  // namespace espalier::plugin
