// espalier completion: scripts for shells. They ask this program for the words, so that options
// and recipe keys are those of the build and of the plugins that are there.
#include <algorithm>
#include <cstdio>
#include <map>

#include "app/command.h"
#include "app/options.h"
#include "config/json_schema.h"

namespace espalier::app {
namespace {

constexpr const char* kBash = R"SH(_espalier() {
  local IFS=$'\n' current="${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(compgen -W "$(espalier completion words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)" -- "$current"))
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _espalier espalier
)SH";

constexpr const char* kZsh = R"SH(#compdef espalier
_espalier() {
  local -a lines
  lines=(${(f)"$(espalier completion words "${(@)words[2,CURRENT]}" 2>/dev/null | sed 's/:/\\:/g; s/\t/:/')"})
  _describe 'espalier' lines -S '' || _files
}
compdef _espalier espalier
)SH";

constexpr const char* kFish =
    R"SH(complete -c espalier -a '(espalier completion words (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
)SH";

/// Words that may stand at the place of the last word of `words`, each with its meaning after a
/// tab.
void print_words(const std::vector<std::string>& words) {
  if (words.size() < 2) {
    for (const Command& command : commands())
      std::printf("%s\t%s\n", std::string(command.name).c_str(),
                  std::string(command.summary).c_str());
    return;
  }
  const auto command =
      std::find_if(commands().begin(), commands().end(),
                   [&](const Command& candidate) { return candidate.name == words[0]; });
  if (command == commands().end()) return;
  std::vector<std::string> arguments = {kListOptions};
  // Actions with options of their own, such as `plugins validate`, look at their first word.
  if (words.size() > 2 && !words[1].starts_with("-")) arguments.insert(arguments.begin(), words[1]);
  try {
    command->run(arguments);
  } catch (const HelpRequested&) {
  }
  if (!words.back().starts_with("--") || words.back().find('.') == std::string::npos) return;
  for (const std::string& key : config::recipe_keys(plugin::Catalog::scan({})))
    std::printf("--%s=\t\n", key.c_str());
}

}  // namespace

int run_completion(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == "words") {
    print_words({arguments.begin() + 1, arguments.end()});
    return 0;
  }
  static const std::map<std::string, const char*> kScripts = {
      {"bash", kBash}, {"zsh", kZsh}, {"fish", kFish}};
  std::string shell;
  Options options(
      "completion bash|zsh|fish",
      "Prints a script that completes commands, options and recipe keys. For bash: eval "
      "\"$(espalier completion bash)\" in ~/.bashrc. For zsh: the output as _espalier in a "
      "folder of $fpath. For fish: the output in ~/.config/fish/completions/espalier.fish.");
  options.positional("SHELL", shell, {"bash", "zsh", "fish"}, "which shell");
  options.parse(arguments);
  std::fputs(kScripts.at(shell), stdout);
  return 0;
}

}  // namespace espalier::app
