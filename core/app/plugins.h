#pragma once

#include <string>

#include "plugin/catalog.h"

namespace espalier::app {

/// `espalier plugins list`: what can be used. Exit code 0.
int list_plugins(const plugin::Catalog& catalog, bool json);

/// `espalier plugins inspect NAME`: a plugin, or one component, with its configuration. Exit code
/// 0; an unknown name is an Error.
int inspect_plugin(const plugin::Catalog& catalog, const std::string& name, bool json);

/// `espalier plugins inspect` without a name: everything. Exit code 0.
int inspect_all(const plugin::Catalog& catalog, bool json);

/// `espalier plugins inspect [NAME] --markdown`: the settings of components as tables; of all
/// where `name` is empty. Exit code 0; an unknown name is an Error.
int print_markdown(const plugin::Catalog& catalog, const std::string& name);

/// `espalier plugins why NAME`: what a plugin or component name means here, and why. Exit code 0
/// when it can be used, 3 when it was refused; an unknown name is an Error.
int explain_plugin(const plugin::Catalog& catalog, const std::string& name, bool json);

/// `espalier plugins doctor`: the verdict on every file that was looked at, and facts of this
/// machine. Exit code 0, or 3 when a file was refused.
int diagnose_plugins(const plugin::Catalog& catalog, bool json);

/// `espalier plugins new`; `arguments` without the action.
int new_plugin(const std::vector<std::string>& arguments);

/// `espalier plugins validate`; `arguments` without the action.
int validate_plugin(const std::vector<std::string>& arguments);

}  // namespace espalier::app
