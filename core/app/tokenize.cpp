#include "app/tokenize.h"

#include <cerrno>
#include <fstream>
#include <iostream>

#include "app/options.h"
#include "app/plugin_options.h"
#include "espalier/base/file.h"
#include "plugin/dependencies.h"
#include "plugin/file_formats.h"
#include "text/special_tokens.h"
#include "text/tokenize_lines.h"
#include "text/tokenizer_loader.h"

namespace espalier::app {
namespace {

struct TokenizeOptions {
  std::string model;
  std::string tokenizer;
  std::string input;
  bool json = false;
  bool decode = false;
  bool no_special_tokens = false;
  bool skip_special_tokens = false;
};

void run_lines(const Tokenizer& tokenizer, const TokenizeOptions& options, std::istream& lines) {
  const auto encode = options.json ? text::tokenize_line : text::tokenize_line_readably;
  const auto decode = options.json ? text::detokenize_line : text::detokenize_line_readably;
  const std::string name = options.input == "-" ? "stdin" : options.input;
  std::string line;
  for (std::size_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = name + ":" + std::to_string(number);
    std::cout << (options.decode ? decode(tokenizer, line, options.skip_special_tokens, where)
                                 : encode(tokenizer, line, !options.no_special_tokens, where))
              << '\n';
  }
  std::cout.flush();
}

/// A plugin's tokenizer where the folder has none that the host reads, or where one is named. The
/// host outlives the tokenizer.
std::shared_ptr<const Tokenizer> tokenizer_of(const TokenizeOptions& options,
                                              const plugin::CatalogOptions& plugins,
                                              plugin::PluginHost& host) {
  if (options.tokenizer.empty() && text::has_tokenizer(options.model))
    return text::load_tokenizer(options.model);
  const plugin::Catalog catalog = plugin::Catalog::scan(plugins);
  catalog.require_named();
  const auto format = plugin::tokenizer_format_for(catalog, options.model, options.tokenizer);
  if (!format) return text::load_tokenizer(options.model);  // says what lacks
  host.load(plugin::load_order(catalog, {format->plugin}));
  return plugin::open_tokenizer(host, *format, Value(Table()), options.model,
                                text::read_special_tokens(options.model));
}

}  // namespace

int run_tokenize(const std::vector<std::string>& arguments) {
  TokenizeOptions options;
  plugin::CatalogOptions plugins;
  Options declared(
      "tokenize --model DIR --input FILE.jsonl",
      "Turns each line {\"text\": ...} into ids, tokens and offsets (in code points), or with "
      "--decode each line {\"ids\": [...]} into text.");
  declared
      .value("model", options.model, "folder with tokenizer.json or another tokenizer file", true)
      .value("tokenizer", options.tokenizer,
             "the component that reads the folder, a TokenizerFormat (default: by its files)")
      .value("input", options.input, "JSON lines; - reads standard input", true)
      .flag("json", options.json, "one JSON object a line")
      .flag("decode", options.decode, "from ids to text")
      .flag("no-special-tokens", options.no_special_tokens, "leave out BOS and the like")
      .flag("skip-special-tokens", options.skip_special_tokens,
            "with --decode: leave special tokens out of the text");
  add_plugin_options(declared, plugins);
  declared.parse(arguments);
  plugin::PluginHost host;
  const auto tokenizer = tokenizer_of(options, plugins, host);
  if (options.input == "-") {
    run_lines(*tokenizer, options, std::cin);
    return 0;
  }
  std::ifstream file(options.input, std::ios::binary);
  if (!file) throw_io("open", options.input, errno);
  run_lines(*tokenizer, options, file);
  return 0;
}

}  // namespace espalier::app
