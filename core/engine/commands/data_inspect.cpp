#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "engine/commands/engine_command.h"
#include "engine/data/data_report.h"
#include "engine/run/run_data.h"
#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

/// The longest document that the model takes, by its config.json; 0: it does not say.
std::int64_t max_positions(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder) / "config.json";
  if (!std::filesystem::exists(path)) return 0;
  const Value config = read_json_file(path.string());
  for (const char* key : {"max_position_embeddings", "n_positions"}) {
    const Value* value = config.find(key);
    if (value != nullptr && value->is_int()) return value->as_int();
  }
  return 0;
}

std::shared_ptr<const Dataset> chosen_dataset(const RunData& data, const std::string& section) {
  if (section == "dataset") return data.training;
  for (const ValidationSet& set : data.validation) {
    if (section == "validation_dataset" + (set.name.empty() ? "" : "_" + set.name))
      return set.dataset;
  }
  throw_bad_input("the recipe has no section [" + section + "] of data", section,
                  "dataset, or a validation_dataset of the recipe", "--section");
}

}  // namespace

int run_data_inspect(const EngineCall& call) {
  const RunSettings settings(call.option("recipe"));
  const RunData data = open_data(call, settings, call.flag("json"));
  const LoaderOptions options =
      loader_options(settings, data.tokenizer.get(), max_positions(call.text("model")));
  DataReport report = report_on(chosen_dataset(data, call.text("section")), options,
                                data.tokenizer.get(), call.option("samples").as_int());
  report.section = call.text("section");
  if (const std::string page = call.text("html"); !page.empty())
    write_file_atomically(page, report_page(report));
  const std::string text = call.flag("json") ? dump_json(report.to_value()) + "\n"
                                             : report_text(report, call.flag("colour"));
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace espalier
