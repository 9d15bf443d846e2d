// A recipe in YAML: refused with an Error, or a tree of plain data.
#include <string>

#include "config/recipe.h"
#include "config/toml.h"
#include "espalier/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const espalier::config::Recipe recipe =
        espalier::config::parse_recipe(text, "recipe.yaml", {"--optimizer.lr=1e-3"});
    espalier::config::parse_toml(espalier::config::dump_toml(recipe.tree), "again.toml");
  } catch (const espalier::Error& error) {
    if (error.code() == espalier::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
