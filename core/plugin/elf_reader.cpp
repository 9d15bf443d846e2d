#include "plugin/elf_reader.h"

#include <elf.h>

#include <bit>
#include <cstring>

#include "espalier/base/error.h"

namespace espalier::plugin {
namespace {

#if defined(__x86_64__)
constexpr std::uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr std::uint16_t kMachine = EM_AARCH64;
#else
#error "Espalier knows the ELF machine numbers of x86-64 and AArch64 only"
#endif

std::string machine_name(std::uint16_t machine) {
  switch (machine) {
    case EM_X86_64: return "x86-64";
    case EM_AARCH64: return "AArch64";
    case EM_386: return "32-bit x86";
    case EM_ARM: return "32-bit ARM";
    case EM_PPC64: return "PowerPC 64";
    case EM_RISCV: return "RISC-V";
    default: return "machine number " + std::to_string(machine);
  }
}

[[noreturn]] void refuse(std::string what, std::string found, std::string expected,
                         const std::string& path, std::string hint) {
  throw Error({ErrorCode::kBadPlugin, std::move(what), std::move(found), std::move(expected), path,
               std::move(hint)});
}

/// The string that starts at `offset` of a string table; empty when it does not end inside.
std::string_view string_at(std::string_view strings, std::uint64_t offset) {
  if (offset >= strings.size()) return {};
  const std::size_t end = strings.find('\0', offset);
  return end == std::string_view::npos ? std::string_view() : strings.substr(offset, end - offset);
}

/// Record number `index` of a table of `Record`s; the caller has checked that it lies inside.
template <class Record>
Record record_at(std::string_view table, std::size_t index) {
  Record record;
  std::memcpy(&record, table.data() + index * sizeof(Record), sizeof(Record));
  return record;
}

}  // namespace

ElfReader::ElfReader(std::span<const std::byte> bytes, const std::string& path)
    : bytes_(bytes), path_(path) {
  check_header();
  read_sections();
}

void ElfReader::refuse_truncated() const {
  refuse("the plugin file is cut short or damaged", std::to_string(bytes_.size()) + " bytes",
         "a whole ELF file", path_, "copy or build the file again");
}

std::string_view ElfReader::range(std::uint64_t offset, std::uint64_t size) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) refuse_truncated();
  return {reinterpret_cast<const char*>(bytes_.data()) + offset, size};
}

void ElfReader::check_header() const {
  const std::string_view start = range(0, std::min<std::size_t>(bytes_.size(), EI_NIDENT));
  if (!start.starts_with(std::string_view(ELFMAG, SELFMAG)))
    refuse("the file is not a shared library",
           bytes_.empty() ? "an empty file" : "another kind of file", "an ELF file", path_,
           "build the plugin with espalier_add_plugin()");
  if (start.size() < EI_NIDENT) refuse_truncated();
  const bool is_64 = start[EI_CLASS] == ELFCLASS64;
  constexpr char kData = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  if (!is_64 || start[EI_DATA] != kData)
    refuse("the plugin is built for another machine",
           is_64 ? "another byte order" : "a 32-bit library", machine_name(kMachine), path_,
           "build the plugin on this machine, or fetch its build for it");
  const auto header = record_at<Elf64_Ehdr>(range(0, sizeof(Elf64_Ehdr)), 0);
  if (header.e_machine != kMachine)
    refuse("the plugin is built for another machine", machine_name(header.e_machine),
           machine_name(kMachine), path_,
           "build the plugin on this machine, or fetch its build for it");
  if (header.e_type != ET_DYN)
    refuse("the file is not a shared library", "an object file or a program", "a shared library",
           path_, "build the plugin with espalier_add_plugin()");
}

void ElfReader::read_sections() {
  const auto header = record_at<Elf64_Ehdr>(range(0, sizeof(Elf64_Ehdr)), 0);
  if (header.e_shoff == 0 || header.e_shnum == 0) return;
  if (header.e_shentsize != sizeof(Elf64_Shdr)) refuse_truncated();
  const std::string_view table =
      range(header.e_shoff, static_cast<std::uint64_t>(header.e_shnum) * sizeof(Elf64_Shdr));
  if (header.e_shstrndx >= header.e_shnum) refuse_truncated();
  const auto names_header = record_at<Elf64_Shdr>(table, header.e_shstrndx);
  const std::string_view names = range(names_header.sh_offset, names_header.sh_size);
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const auto entry = record_at<Elf64_Shdr>(table, i);
    sections_.push_back({string_at(names, entry.sh_name), entry.sh_type, entry.sh_link,
                         entry.sh_offset, entry.sh_size});
  }
}

std::string_view ElfReader::content(const Section& section) const {
  return section.type == SHT_NOBITS ? std::string_view() : range(section.offset, section.size);
}

std::optional<std::string_view> ElfReader::section(std::string_view name) const {
  for (const Section& section : sections_) {
    if (section.name == name) return content(section);
  }
  return std::nullopt;
}

std::vector<ElfReader::Symbol> ElfReader::dynamic_symbols() const {
  std::vector<Symbol> found;
  for (const Section& section : sections_) {
    if (section.type != SHT_DYNSYM || section.link >= sections_.size()) continue;
    const std::string_view symbols = content(section);
    const std::string_view strings = content(sections_[section.link]);
    for (std::size_t i = 0; i < symbols.size() / sizeof(Elf64_Sym); ++i) {
      const auto symbol = record_at<Elf64_Sym>(symbols, i);
      const unsigned visibility = ELF64_ST_VISIBILITY(symbol.st_other);
      found.push_back(
          {string_at(strings, symbol.st_name), static_cast<unsigned>(ELF64_ST_BIND(symbol.st_info)),
           symbol.st_shndx != SHN_UNDEF, visibility == STV_DEFAULT || visibility == STV_PROTECTED});
    }
  }
  return found;
}

std::vector<std::string> ElfReader::exported_symbols() const {
  std::vector<std::string> names;
  for (const Symbol& symbol : dynamic_symbols()) {
    if (symbol.defined && symbol.visible && symbol.binding != STB_LOCAL)
      names.emplace_back(symbol.name);
  }
  return names;
}

std::vector<std::string> ElfReader::imported_symbols() const {
  std::vector<std::string> names;
  for (const Symbol& symbol : dynamic_symbols()) {
    if (!symbol.defined && !symbol.name.empty()) names.emplace_back(symbol.name);
  }
  return names;
}

std::vector<std::string> ElfReader::unique_symbols() const {
  std::vector<std::string> names;
  for (const Symbol& symbol : dynamic_symbols()) {
    if (symbol.defined && symbol.binding == STB_GNU_UNIQUE) names.emplace_back(symbol.name);
  }
  return names;
}

std::vector<std::string> ElfReader::run_path() const {
  std::vector<std::string> folders;
  for (const Section& section : sections_) {
    if (section.type != SHT_DYNAMIC || section.link >= sections_.size()) continue;
    const std::string_view entries = content(section);
    const std::string_view strings = content(sections_[section.link]);
    for (std::size_t i = 0; i < entries.size() / sizeof(Elf64_Dyn); ++i) {
      const auto entry = record_at<Elf64_Dyn>(entries, i);
      if (entry.d_tag != DT_RUNPATH && entry.d_tag != DT_RPATH) continue;
      std::string_view rest = string_at(strings, entry.d_un.d_val);
      while (!rest.empty()) {
        const std::size_t colon = std::min(rest.find(':'), rest.size());
        folders.emplace_back(rest.substr(0, colon));
        rest.remove_prefix(std::min(colon + 1, rest.size()));
      }
    }
  }
  return folders;
}

}  // namespace espalier::plugin
