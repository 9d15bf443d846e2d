#include "engine/run/parity.h"

#include <cstdio>

#include "engine/commands/engine_command.h"
#include "espalier/base/json.h"
#include "espalier/io/tensor_io.h"

namespace espalier {
namespace {

void print_table(const std::vector<ParityRow>& rows) {
  std::size_t width = 4;
  for (const ParityRow& row : rows) width = std::max(width, row.name.size());
  std::printf("%-*s  %11s  %11s  %11s\n", static_cast<int>(width), "what", "max abs", "relative",
              "limit");
  for (const ParityRow& row : rows) {
    std::printf("%-*s  %11.3e  %11.3e  %11.3e  %s\n", static_cast<int>(width), row.name.c_str(),
                row.maximum_difference, row.relative_difference, row.limit,
                row.holds() ? "ok" : "TOO LARGE");
  }
}

void print_json(const std::vector<ParityRow>& rows, bool holds) {
  Array items;
  for (const ParityRow& row : rows) {
    Table item;
    item.set("name", row.name);
    item.set("max_abs", row.maximum_difference);
    item.set("relative", row.relative_difference);
    item.set("limit", row.limit);
    item.set("ok", row.holds());
    items.emplace_back(std::move(item));
  }
  Table result;
  result.set("ok", holds);
  result.set("rows", std::move(items));
  std::puts(dump_json(result).c_str());
}

}  // namespace

int run_parity(const EngineCall& call) {
  const std::shared_ptr<ModelProvider> provider = call.create<ModelProvider>("model");
  const auto source = [&](const std::string& dtype) {
    ModelLoadOptions options;
    options.dtype = dtype;
    options.compute_dtype = dtype;
    options.device = call.text("device");
    options.files = model_files(call);
    return load_model(*provider, call.text("model"), options, call.adapter("peft"));
  };
  const std::vector<ParityRow> rows =
      compare_with_reference(source, read_tensors(call.text("expected")));
  const bool holds =
      std::all_of(rows.begin(), rows.end(), [](const ParityRow& row) { return row.holds(); });
  if (call.flag("json")) {
    print_json(rows, holds);
  } else {
    print_table(rows);
    std::puts(holds ? "all within tolerance" : "past tolerance");
  }
  return holds ? 0 : 1;
}

}  // namespace espalier
