#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "app/options.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "formats/gguf_import.h"

namespace espalier::app {
namespace {

std::optional<DType> parse_dtype(const std::string& name) {
  if (name == "auto") return std::nullopt;
  const std::optional<DType> dtype = dtype_from_config_name(name);
  if (!dtype) {
    throw_bad_input("unknown dtype", name, "auto, float32, bfloat16 or float16", "--dtype");
  }
  return dtype;
}

Value report_to_value(const formats::GgufImportReport& report, const std::string& folder) {
  Table table;
  table.set("folder", folder);
  table.set("architecture", report.architecture);
  table.set("dtype", dtype_config_name(report.dtype));
  table.set("parameters", report.parameters);
  table.set("tokenizer", report.has_tokenizer);
  table.set("files", Array(report.files.begin(), report.files.end()));
  Array warnings;
  for (const Problem& warning : report.warnings) {
    Table entry;
    entry.set("what", warning.what);
    if (!warning.found.empty()) entry.set("found", warning.found);
    if (!warning.expected.empty()) entry.set("expected", warning.expected);
    if (!warning.where.empty()) entry.set("where", warning.where);
    if (!warning.hint.empty()) entry.set("hint", warning.hint);
    warnings.push_back(std::move(entry));
  }
  table.set("warnings", std::move(warnings));
  return table;
}

void print_warning(const Problem& warning) {
  std::string text = warning.to_string();
  if (text.starts_with("error")) text.replace(0, 5, "warning");
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace

int run_import(const std::vector<std::string>& arguments) {
  std::string file;
  std::string folder;
  std::string dtype = "auto";
  formats::GgufImportOptions options;
  bool json = false;
  Options("import FILE.gguf DIR [--dtype TYPE] [--overwrite]",
          "Writes the model of a GGUF file as a Hugging Face folder: config, weights, and the "
          "tokenizer where the file has a byte-level one.")
      .positional("FILE.gguf", file, "the model to read")
      .positional("DIR", folder, "the folder to write")
      .value("dtype", dtype,
             "float32, bfloat16, float16, or auto: the narrowest that keeps every value exact")
      .flag("overwrite", options.overwrite, "replace a model that is in DIR")
      .flag("json", json, "print the report as JSON")
      .parse(arguments);
  options.dtype = parse_dtype(dtype);
  const formats::GgufImportReport report = formats::import_gguf(file, folder, options);
  for (const Problem& warning : report.warnings) print_warning(warning);
  if (json) {
    std::puts(dump_json(report_to_value(report, folder)).c_str());
    return 0;
  }
  std::printf("%s, %lld parameters as %s, %s\n", report.architecture.c_str(),
              static_cast<long long>(report.parameters),
              std::string(dtype_config_name(report.dtype)).c_str(),
              report.has_tokenizer ? "with tokenizer" : "without tokenizer");
  for (const std::string& name : report.files)
    std::printf("  %s/%s\n", folder.c_str(), name.c_str());
  return 0;
}

}  // namespace espalier::app
