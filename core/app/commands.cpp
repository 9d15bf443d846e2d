#include "app/command.h"

namespace espalier::app {

int run_adapter(const std::vector<std::string>& arguments);
int run_chat(const std::vector<std::string>& arguments);
int run_completion(const std::vector<std::string>& arguments);
int run_convert(const std::vector<std::string>& arguments);
int run_data(const std::vector<std::string>& arguments);
int run_estimate(const std::vector<std::string>& arguments);
int run_export(const std::vector<std::string>& arguments);
int run_generate(const std::vector<std::string>& arguments);
int run_import(const std::vector<std::string>& arguments);
int run_kernels(const std::vector<std::string>& arguments);
int run_models(const std::vector<std::string>& arguments);
int run_parity(const std::vector<std::string>& arguments);
int run_plugins(const std::vector<std::string>& arguments);
int run_recipe(const std::vector<std::string>& arguments);
int run_report(const std::vector<std::string>& arguments);
int run_score(const std::vector<std::string>& arguments);
int run_template(const std::vector<std::string>& arguments);
int run_tokenize(const std::vector<std::string>& arguments);
int run_train(const std::vector<std::string>& arguments);
int run_watch(const std::vector<std::string>& arguments);

std::span<const Command> commands() {
  static constexpr Command kCommands[] = {
      {"train", "train a model as a recipe says", run_train},
      {"watch", "curves of a run in the terminal, while it trains", run_watch},
      {"report", "a page about runs: curves, differences, samples", run_report},
      {"generate", "continue a text or answer a chat", run_generate},
      {"chat", "a conversation with a model", run_chat},
      {"score", "loss, logits and gradients of one batch", run_score},
      {"parity", "compare a model with a reference dump", run_parity},
      {"models", "list models, inspect a model's folder", run_models},
      {"tokenize", "text to token ids and back", run_tokenize},
      {"template", "render a chat with a model's template", run_template},
      {"adapter", "merge, unmerge, extract and inspect adapters", run_adapter},
      {"estimate", "what a rank of many would hold and send", run_estimate},
      {"export", "make a model folder or GGUF file of a checkpoint", run_export},
      {"import", "turn a GGUF file into a model folder", run_import},
      {"kernels", "list, check and time kernel packs", run_kernels},
      {"convert", "write a model folder in another type or shards", run_convert},
      {"data", "look at the data of a recipe", run_data},
      {"recipe", "write, check and compare recipes, schema for editors", run_recipe},
      {"plugins", "list, inspect, explain, validate and make plugins", run_plugins},
      {"completion", "completion of commands in bash, zsh and fish", run_completion},
  };
  return kCommands;
}

}  // namespace espalier::app
