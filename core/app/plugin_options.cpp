#include "app/plugin_options.h"

namespace espalier::app {

void add_plugin_options(Options& options, plugin::CatalogOptions& target) {
  options.separated("plugins", target.files, ',', "FILES",
                    "plugin files to use besides those found, separated by commas");
  options.separated("plugin-path", target.folders, ':', "FOLDERS",
                    "folders to search for plugins, separated by colons, before those of "
                    "ESPALIER_PLUGIN_PATH");
  options.value("locked", target.lock_file,
                "use only plugins that this lock file has, as the files that it has "
                "(espalier plugins lock writes one)");
}

}  // namespace espalier::app
