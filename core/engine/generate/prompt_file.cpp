#include "engine/generate/prompt_file.h"

#include <sstream>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"

namespace espalier {

Array read_prompt_lines(const std::string& path) {
  std::istringstream content(read_file(path));
  Array lines;
  std::uint32_t number = 0;
  for (std::string line; std::getline(content, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    lines.push_back(parse_json(line, {.file = path + ":" + std::to_string(number)}));
    lines.back().at({path, number, 0});
  }
  if (lines.empty())
    throw_bad_input("there are no prompts in the file", {}, "a JSON object a line", path);
  return lines;
}

}  // namespace espalier
