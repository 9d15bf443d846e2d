#include "engine/run/task.h"

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier {
namespace {

constexpr const char* kSequenceSuffix = "ForSequenceClassification";
constexpr const char* kTokenSuffix = "ForTokenClassification";

std::string first_architecture(const Value& config) {
  const Value* list = config.find("architectures");
  if (list == nullptr || !list->is_array() || list->as_array().empty()) return {};
  const Value& name = list->as_array().front();
  return name.is_string() ? name.as_string() : std::string();
}

}  // namespace

std::string task_name(Task task) {
  switch (task) {
    case Task::kSequenceClassification: return "sequence_classification";
    case Task::kTokenClassification: return "token_classification";
    case Task::kEmbedding: return "embedding";
    case Task::kCausalLm: break;
  }
  return "causal_lm";
}

Task task_of(const std::string& requested, const Value& config) {
  for (const Task task : {Task::kCausalLm, Task::kSequenceClassification,
                          Task::kTokenClassification, Task::kEmbedding}) {
    if (requested == task_name(task)) return task;
  }
  const std::string architecture = first_architecture(config);
  if (architecture.ends_with(kSequenceSuffix)) return Task::kSequenceClassification;
  if (architecture.ends_with(kTokenSuffix)) return Task::kTokenClassification;
  return Task::kCausalLm;
}

std::int64_t label_count(const Value& config) {
  std::int64_t count = 2;
  if (const Value* labels = config.find("id2label"); labels != nullptr && labels->is_table())
    count = static_cast<std::int64_t>(labels->as_table().size());
  if (const Value* given = config.find("num_labels"); given != nullptr && !given->is_null()) {
    if (!given->is_int())
      throw_bad_input("num_labels is no whole number", std::string(type_phrase(given->type())),
                      "1 or more", "config.json: num_labels");
    count = given->as_int();
  }
  if (count < 1) {
    throw_bad_input("a classifier needs labels", std::to_string(count), "1 or more",
                    "config.json: num_labels", "set model.config.num_labels in the recipe");
  }
  return count;
}

Value config_for_task(Value config, Task task, std::int64_t num_labels) {
  if (task == Task::kCausalLm) return config;
  const std::string old = first_architecture(config);
  std::string stem = old.substr(0, std::min(old.find("For"), old.find("LMHead")));
  if (stem.ends_with("Model")) stem.resize(stem.size() - 5);
  const char* suffix = task == Task::kSequenceClassification ? kSequenceSuffix
                       : task == Task::kTokenClassification  ? kTokenSuffix
                                                             : "Model";
  Table& table = config.as_table();
  if (!stem.empty()) table.set("architectures", Array{Value(stem + suffix)});
  table.erase("num_labels");
  if (task == Task::kEmbedding) return config;
  const Value* named = table.find("id2label");
  if (named != nullptr && named->is_table() &&
      static_cast<std::int64_t>(named->as_table().size()) == num_labels)
    return config;
  Table names;
  Table ids;
  for (std::int64_t i = 0; i < num_labels; ++i) {
    const std::string label = "LABEL_" + std::to_string(i);
    names.set(std::to_string(i), label);
    ids.set(label, i);
  }
  table.set("id2label", std::move(names));
  table.set("label2id", std::move(ids));
  return config;
}

}  // namespace espalier
