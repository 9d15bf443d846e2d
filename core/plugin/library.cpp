// The one file that includes Boost.DLL.
#define BOOST_DLL_USE_STD_FS  // NOLINT(readability-identifier-naming): Boost chose the name
#include "plugin/library.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <boost/dll/shared_library.hpp>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>

#include "espalier/base/error.h"

namespace espalier::plugin {
namespace {

/// Boost wraps the loader's message: "boost::dll::shared_library::load() failed (dlerror system
/// message: REASON): Bad file descriptor". Only REASON is true.
std::string loader_reason(std::string text) {
  constexpr std::string_view kLabel = "system message: ";
  if (const std::size_t start = text.find(kLabel); start != std::string::npos)
    text.erase(0, start + kLabel.size());
  if (const std::size_t end = text.rfind("): "); end != std::string::npos) text.erase(end);
  return text;
}

std::string demangled(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 && name ? name.get() : symbol;
}

Problem load_problem(const std::string& path, const std::string& reason) {
  Problem problem{ErrorCode::kBadPlugin, "the library does not load", reason, {}, path, {}};
  constexpr std::string_view kUndefined = "undefined symbol: ";
  constexpr std::string_view kMissing = ": cannot open shared object file";
  if (const std::size_t start = reason.find(kUndefined); start != std::string::npos) {
    std::string symbol = reason.substr(start + kUndefined.size());
    symbol.erase(std::min(symbol.find_first_of(", "), symbol.size()));
    problem.what = "the library uses a symbol that no library defines";
    problem.found = demangled(symbol);
    problem.expected = "every symbol defined by the plugin, the SDK or a library that it links";
    problem.hint = "link the missing library; espalier_add_plugin() finds this when it links";
  } else if (const std::size_t end = reason.find(kMissing); end != std::string::npos) {
    problem.what = "the library needs another library that was not found";
    problem.found = reason.substr(0, end);
    problem.hint = "install it, or add its folder to LD_LIBRARY_PATH; ldd shows what is missing";
  }
  return problem;
}

/// Handles are kept, and this list is never destroyed: nothing is unloaded, not even at exit.
boost::dll::shared_library& keep(boost::dll::shared_library library) {
  static auto* const kOpened = new std::deque<boost::dll::shared_library>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  return kOpened->emplace_back(std::move(library));
}

boost::dll::shared_library& open_for_good(const std::string& path) {
  using Mode = boost::dll::load_mode::type;
  // Boost's defaults are lazy, and it has no name for NODELETE; the value goes through unchanged.
  const auto mode = static_cast<Mode>(RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  ESPALIER_ASSERT(path.starts_with('/'), "a library is opened by its absolute path");
  try {
    return keep(boost::dll::shared_library(path, mode));
  } catch (const std::exception& error) {
    throw Error(load_problem(path, loader_reason(error.what())));
  }
}

}  // namespace

EspalierPluginEntry open_plugin(const std::string& path) {
  boost::dll::shared_library& library = open_for_good(path);
  if (!library.has(kPluginEntryName))
    throw Error({ErrorCode::kBadPlugin, "the plugin has no entry point",
                 "no symbol '" + std::string(kPluginEntryName) + "'",
                 "ESPALIER_PLUGIN(...) in one of its sources", path,
                 "build the plugin with espalier_add_plugin()"});
  return &library.get<const EspalierPluginDescriptor*()>(kPluginEntryName);
}

void* open_library_symbol(const std::string& path, const char* symbol) {
  boost::dll::shared_library& library = open_for_good(path);
  if (!library.has(symbol))
    throw Error({ErrorCode::kInternal,
                 "a part of Espalier does not fit this program",
                 std::string("no symbol '") + symbol + "'",
                 {},
                 path,
                 "build or install Espalier again, all parts together"});
  return reinterpret_cast<void*>(&library.get<char>(symbol));
}

}  // namespace espalier::plugin
