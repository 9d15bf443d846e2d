// espalier models inspect: what a model's folder holds and what can be done with it.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "engine/commands/engine_command.h"
#include "engine/run/model_files.h"
#include "engine/run/model_inspection.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/sdk/capabilities.h"
#include "plugin/capabilities.h"
#include "text/chat_template_loader.h"

namespace espalier {
namespace {

constexpr std::int64_t kLoraRank = 16;       // of the memory that is shown
constexpr std::int64_t kCacheTokens = 1024;  // the same

struct Capability {
  std::string name;
  std::string reason;  ///< why not; empty when it is supported
};

/// A line on the tokenizer of the folder; problems go to `problems`.
std::string tokenizer_line(const EngineCall& call, std::int64_t rows,
                           std::vector<std::string>& problems) {
  const std::string folder = call.text("model");
  try {
    const auto tokenizer = model_tokenizer(call);
    if (tokenizer == nullptr) return "none";
    const std::int64_t size = tokenizer->vocab_size();
    if (rows > 0 && size > rows)
      problems.push_back("the tokenizer has ids up to " + std::to_string(size - 1) +
                         ", and the embedding " + std::to_string(rows) + " rows");
    std::string kind = "of its own format";
    const std::string path = folder + "/tokenizer.json";
    if (std::filesystem::exists(path)) {
      const Value document = read_json_file(path, {.allow_duplicate_keys = true});
      const Value* type = document.find_path("model.type");
      kind = type != nullptr && type->is_string() ? type->as_string() : "BPE";
    }
    return kind + ", " + std::to_string(size) + " tokens";
  } catch (const Error& error) {
    problems.push_back(error.problems().front().to_string());
    return "unusable";
  }
}

std::string template_line(const std::string& folder, std::vector<std::string>& problems) {
  try {
    return text::load_chat_template(folder) == nullptr ? "none" : "yes";
  } catch (const Error& error) {
    problems.push_back(error.problems().front().to_string());
    return "unusable";
  }
}

std::vector<Capability> capabilities_of(const plugin::ComponentRef& provider,
                                        const ModelInspection& model) {
  const std::vector<std::string> claims = plugin::capabilities_of(provider);
  std::vector<Capability> list;
  for (const char* name : capability::kAll) {
    Capability one{name, {}};
    if (std::find(claims.begin(), claims.end(), name) == claims.end())
      one.reason = "the plugin " + provider.qualified_name() + " does not claim it";
    else if (name == std::string(capability::kGenerationCache) && !model.has_cache)
      one.reason = "its rotary scaling depends on the length of the text";
    list.push_back(std::move(one));
  }
  return list;
}

/// Bytes by purpose: all weights with AdamW in float32 states, a LoRA over all linears, inference.
Table memory_of(const ModelInspection& model) {
  const std::int64_t weights = model.stored_bytes > 0 ? model.stored_bytes : model.parameters * 4;
  const std::int64_t element =
      model.parameters > 0 ? std::max<std::int64_t>(1, weights / model.parameters) : 4;
  const std::int64_t adapter = kLoraRank * model.linear_width;
  const std::int64_t cache = 2 * model.shape.num_layers * model.shape.num_key_value_heads *
                             model.shape.head_dim * kCacheTokens * element;
  Table table;
  table.set("train_full", 2 * weights + 8 * model.parameters);
  table.set("train_lora_rank_16", weights + adapter * (4 + 4 + 8));
  table.set("inference", weights);
  table.set("inference_cache_of_1024_tokens", model.has_cache ? cache : 0);
  return table;
}

std::string bytes_text(std::int64_t bytes) {
  char text[32];
  if (bytes >= 1'000'000'000)
    std::snprintf(text, sizeof text, "%.1f GB", static_cast<double>(bytes) / 1e9);
  else if (bytes >= 1'000'000)
    std::snprintf(text, sizeof text, "%.0f MB", static_cast<double>(bytes) / 1e6);
  else
    std::snprintf(text, sizeof text, "%.1f kB", static_cast<double>(bytes) / 1e3);
  return text;
}

Table to_table(const plugin::ComponentRef& provider, const ModelInspection& model,
               const std::vector<Capability>& capabilities, const std::string& tokenizer,
               const std::string& chat_template, const std::vector<std::string>& problems) {
  Table table;
  table.set("family", provider.component->name);
  table.set("provider", provider.qualified_name());
  table.set("task", task_name(model.task));
  table.set("parameters", model.parameters);
  table.set("tied_head", model.tied);
  Table parts;
  for (const PartSize& size : model.parts) parts.set(size.part, size.parameters);
  table.set("parts", std::move(parts));
  Table dtypes;
  for (const auto& [name, count] : model.dtypes) dtypes.set(name, count);
  table.set("dtypes", std::move(dtypes));
  table.set("memory_bytes", memory_of(model));
  table.set("max_positions", model.shape.max_positions);
  table.set("vocab_size", model.shape.vocab_size);
  table.set("tokenizer", tokenizer);
  table.set("chat_template", chat_template);
  Table supported;
  for (const Capability& one : capabilities)
    supported.set(one.name, one.reason.empty() ? Value(true) : Value(one.reason));
  table.set("capabilities", std::move(supported));
  Array list;
  for (const std::string& problem : problems) list.emplace_back(problem);
  table.set("problems", std::move(list));
  return table;
}

void print_capabilities(const std::vector<Capability>& capabilities) {
  for (const Capability& one : capabilities)
    std::printf("  %-24s %s\n", one.name.c_str(),
                one.reason.empty() ? "yes" : ("no: " + one.reason).c_str());
}

void print(const plugin::ComponentRef& provider, const ModelInspection& model,
           const std::string& tokenizer, const std::string& chat_template) {
  std::printf("family      %s (%s)\ntask        %s\n", provider.component->doc.c_str(),
              provider.qualified_name().c_str(), task_name(model.task).c_str());
  std::printf("parameters  %lld%s\n", static_cast<long long>(model.parameters),
              model.tied ? ", the head is the embedding" : "");
  for (const PartSize& size : model.parts)
    std::printf("  %-12s %14lld  %5.1f %%  %lld tensors\n", size.part.c_str(),
                static_cast<long long>(size.parameters),
                100.0 * static_cast<double>(size.parameters) /
                    static_cast<double>(std::max<std::int64_t>(1, model.parameters)),
                static_cast<long long>(size.tensors));
  std::string dtypes;
  for (const auto& [name, count] : model.dtypes)
    dtypes += (dtypes.empty() ? "" : ", ") + name + " (" + std::to_string(count) + ")";
  std::printf("dtypes      %s\n", dtypes.empty() ? "no weights" : dtypes.c_str());
  const Table memory = memory_of(model);
  const auto amount = [&](const char* key) { return bytes_text(memory.find(key)->as_int()); };
  std::printf(
      "memory      train all %s, train LoRA of rank 16 %s, inference %s and %s for 1024 tokens; "
      "activations not counted\n",
      amount("train_full").c_str(), amount("train_lora_rank_16").c_str(),
      amount("inference").c_str(), amount("inference_cache_of_1024_tokens").c_str());
  std::printf("tokenizer   %s\ntemplate    %s\npositions   %lld\n", tokenizer.c_str(),
              chat_template.c_str(), static_cast<long long>(model.shape.max_positions));
}

}  // namespace

int run_models_inspect(const EngineCall& call) {
  const std::string folder = call.text("model");
  const plugin::ComponentRef& provider = call.request.components.at("model").component;
  const ModelInspection model =
      inspect_model(*call.create<ModelProvider>("model"), folder, model_files(call));
  const std::vector<Capability> capabilities = capabilities_of(provider, model);
  std::vector<std::string> problems = model.problems;
  const std::string tokenizer = tokenizer_line(call, model.shape.vocab_size, problems);
  const std::string chat_template = template_line(folder, problems);
  const bool brief = call.flag("capabilities-only");
  if (call.flag("json")) {
    const Table table = to_table(provider, model, capabilities, tokenizer, chat_template, problems);
    std::puts(dump_json(brief ? *table.find("capabilities") : Value(table), 1).c_str());
    return 0;
  }
  if (!brief) print(provider, model, tokenizer, chat_template);
  std::puts(brief ? provider.qualified_name().c_str() : "supported");
  print_capabilities(capabilities);
  if (!brief && !problems.empty()) {
    std::puts("problems");
    for (const std::string& problem : problems) std::printf("  %s\n", problem.c_str());
  }
  return 0;
}

}  // namespace espalier
