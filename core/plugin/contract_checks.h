#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/check_report.h"
#include "plugin/catalog.h"

namespace espalier::plugin {

/// What the checks of the plugin contract examine: one component, or the file as a whole.
struct ContractSubject {
  std::string path;
  const Catalog* catalog = nullptr;  ///< has the file among its candidates
  ComponentRef component;            ///< empty for checks of the file
  Value config;                      ///< of the component: checked, with defaults
};

/// A promise of the plugin contract whatever the interface. Checks run in a process of their own.
struct ContractCheck {
  std::string_view id;
  int level = 1;
  bool each_component = false;
  std::string_view text;
  void (*run)(const ContractSubject& subject, conformance::Report& report);
};

/// Level 1: the file loads, and says what it is. Level 2: components are made and destroyed well.
std::vector<ContractCheck> contract_checks();

}  // namespace espalier::plugin
