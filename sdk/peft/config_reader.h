#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/value.h"
#include "espalier/peft/module_selection.h"

namespace espalier::peft {

/// Reads keys of adapter_config.json; null counts as absent. Every method throws Error(kBadInput)
/// for a value of another type. Config and path outlive it, and what `find` and `table` return is
/// part of the config. Any number of threads.
class ESPALIER_API PeftReader {
 public:
  PeftReader(const Value& config, const std::string& path) : config_(config), path_(path) {}

  const Value* find(const char* key) const;
  bool flag(const char* key) const;
  double number(const char* key, double fallback) const;
  std::string text(const char* key, const std::string& fallback) const;
  /// A list of texts, or one text where `single` allows it.
  std::vector<std::string> texts(const char* key, bool single = false) const;
  std::vector<std::int64_t> numbers(const char* key) const;
  const Table& table(const char* key) const;
  void require(bool condition, const char* key, const char* expected) const;
  /// Throws Error(kBadInput) unless `peft_type` is `kind`.
  void require_kind(const char* kind) const;
  /// Throws Error(kUnsupported) where one of `keys` is set to something: options of PEFT that
  /// change the arithmetic, or add tensors, in ways that are not built.
  void refuse(std::initializer_list<const char*> keys) const;

 private:
  const Value& config_;
  const std::string& path_;
};

/// The modules that target_modules, exclude_modules, layers_to_transform and layers_pattern name.
ESPALIER_API Selection selection_from(const PeftReader& read);
/// Writes these keys: as they were given where they mean the same to PEFT, and otherwise the whole
/// names of `modules`, which are those chosen.
ESPALIER_API void set_selection(Table& table, const Selection& selection,
                                const std::vector<std::string>& modules);

/// Null for an empty list, as PEFT writes it.
ESPALIER_API Value list_of(const std::vector<std::string>& texts);
/// A whole number without a fraction.
ESPALIER_API Value number(double value);

}  // namespace espalier::peft
