// A plugin file of a stranger, of which nothing is run: refused with an Error, or read.
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "memory_file.h"
#include "plugin/elf_reader.h"
#include "plugin/plugin_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const espalier::fuzz::MemoryFile file(data, size);
  const auto attempt = [](const auto& action) {
    try {
      action();
    } catch (const espalier::Error& error) {
      if (error.code() == espalier::ErrorCode::kInternal) std::abort();
    }
  };
  attempt([&] { espalier::plugin::read_plugin_file(file.path()); });
  attempt([&] {
    const espalier::MappedFile mapped(file.path());
    const espalier::plugin::ElfReader reader(mapped.bytes(), "plugin.so");
    attempt([&] { reader.exported_symbols(); });
    attempt([&] { reader.imported_symbols(); });
    attempt([&] { reader.run_path(); });
  });
  return 0;
}
