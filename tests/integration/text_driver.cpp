// Speaks the JSONL of `espalier tokenize` without the program: text_driver tokenize|detokenize FOLDER FLAG < lines.
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <string>

#include "text/tokenize_lines.h"
#include "text/tokenizer_loader.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: text_driver tokenize|detokenize FOLDER 0|1\n", stderr);
    return 2;
  }
  try {
    std::ios::sync_with_stdio(false);
    const auto tokenizer = espalier::text::load_tokenizer(argv[2]);
    const bool flag = std::strcmp(argv[3], "1") == 0;
    const bool decode = std::strcmp(argv[1], "detokenize") == 0;
    std::string line;
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
