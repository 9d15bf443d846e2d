#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/check_report.h"
#include "espalier/base/value.h"

namespace espalier::conformance {

/// One component under examination. Checks ask for as many fresh instances as they need.
struct Subject {
  std::string component;  ///< "vendor.name/component"
  Value config;           ///< checked, with defaults
  /// A new instance, made from `config`. The pointer is of the component's interface.
  std::function<std::shared_ptr<void>()> create_object;
  /// The component's entry in conformance.json: an empty table where there is none.
  Value sample;
  /// The component's property "capabilities"; null where it declares none.
  Value capabilities;
  Table serves;        ///< as the manifest has it
  Table properties;    ///< likewise
  std::string folder;  ///< for files that a check writes; empty at first
  std::uint64_t seed = 0;

  template <class I>
  std::shared_ptr<I> create() const {
    return std::static_pointer_cast<I>(create_object());
  }
};

/// One promise of an interface, as a function that tries it. Ids are stable: "loss.ignore_index".
struct Check {
  std::string_view id;
  int level = 3;          ///< 2: how calls behave; 3: what they compute
  std::string_view text;  ///< the promise, one sentence
  void (*run)(const Subject& subject, Report& report);
};

/// The checks of an interface ("Loss"), in the order of running; none for one that the kit does not
/// know.
ESPALIER_API std::span<const Check> checks_of(std::string_view interface);

/// The interfaces that have checks.
ESPALIER_API std::vector<std::string> checked_interfaces();

}  // namespace espalier::conformance
