// The text library behind JSONL, without the program:
//   text_driver tokenize|detokenize FOLDER 0|1 < lines     as `espalier tokenize`; the flag is about special tokens
//   text_driver template - 0 < lines                        {"template", "messages", ...} to {"text"} or {"error"}
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "text/chat_template_loader.h"
#include "text/tokenize_lines.h"
#include "text/tokenizer_loader.h"

namespace {

using espalier::Table;
using espalier::Value;

Value member_or_null(const Value& value, const char* key) {
  const Value* member = value.find(key);
  return member == nullptr ? Value() : *member;
}

Table table_or_empty(const Value& value, const char* key) {
  const Value* member = value.find(key);
  return member == nullptr ? Table() : member->as_table();
}

std::string render_line(const std::string& line) {
  const Value request = espalier::parse_json(line);
  Table out;
  try {
    const auto compiled = espalier::text::compile_chat_template(
        request.find("template")->as_string(), table_or_empty(request, "special_tokens"));
    const Value prompt = member_or_null(request, "add_generation_prompt");
    const espalier::RenderedChat rendered =
        compiled->render(member_or_null(request, "messages"), member_or_null(request, "tools"),
                         prompt.is_bool() && prompt.as_bool(), table_or_empty(request, "variables"));
    out.set("text", rendered.text);
    espalier::Array spans;
    for (const auto& [begin, end] : rendered.assistant_spans)
      spans.emplace_back(espalier::Array{Value(begin), Value(end)});
    out.set("assistant_spans", std::move(spans));
  } catch (const espalier::Error& error) {
    out.set("error", error.problems()[0].what);
    out.set("error_type", error.problems()[0].found);
  }
  return espalier::dump_json(out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: text_driver tokenize|detokenize|template FOLDER 0|1\n", stderr);
    return 2;
  }
  try {
    std::ios::sync_with_stdio(false);
    std::string line;
    if (std::strcmp(argv[1], "template") == 0) {
      while (std::getline(std::cin, line)) std::cout << render_line(line) << std::endl;
      return 0;
    }
    const auto tokenizer = espalier::text::load_tokenizer(argv[2]);
    const bool flag = std::strcmp(argv[3], "1") == 0;
    const bool decode = std::strcmp(argv[1], "detokenize") == 0;
    while (std::getline(std::cin, line)) {
      std::cout << (decode ? espalier::text::detokenize_line(*tokenizer, line, flag, "stdin")
                           : espalier::text::tokenize_line(*tokenizer, line, flag, "stdin"))
                << '\n';
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
}
