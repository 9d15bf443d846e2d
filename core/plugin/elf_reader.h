#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::plugin {

/// Reads a shared library as data: nothing of it is mapped for execution, no initialiser runs. The
/// file is not trusted; every offset is checked against its size. Keeps no copy of the bytes.
class ElfReader {
 public:
  /// Throws Error(kBadPlugin) unless `bytes` is a shared library for this machine: another kind of
  /// file, another architecture, or cut short. `path` is for messages.
  ElfReader(std::span<const std::byte> bytes, const std::string& path);

  /// Content of the first section of that name; nothing when there is none. Throws
  /// Error(kBadPlugin) when the section lies outside the file.
  std::optional<std::string_view> section(std::string_view name) const;

  /// Names that the library exports: defined, global or weak or unique, not hidden.
  std::vector<std::string> exported_symbols() const;

  /// Names that it takes from other libraries.
  std::vector<std::string> imported_symbols() const;

  /// Exported names that pin the library in memory and are shared over the whole process
  /// (STB_GNU_UNIQUE).
  std::vector<std::string> unique_symbols() const;

  /// The folders in which it looks for its libraries (DT_RUNPATH or DT_RPATH), as stored.
  std::vector<std::string> run_path() const;

 private:
  struct Section {
    std::string_view name;
    std::uint32_t type = 0;
    std::uint32_t link = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  /// A dynamic symbol, without what nobody asks for.
  struct Symbol {
    std::string_view name;
    unsigned binding = 0;
    bool defined = false;
    bool visible = false;
  };

  std::vector<Symbol> dynamic_symbols() const;
  void check_header() const;
  void read_sections();
  std::string_view content(const Section& section) const;
  std::string_view range(std::uint64_t offset, std::uint64_t size) const;
  [[noreturn]] void refuse_truncated() const;

  std::span<const std::byte> bytes_;
  std::string path_;
  std::vector<Section> sections_;
};

}  // namespace espalier::plugin
