// What a model provider claims to be able to do is tried on every config of its sample, and what it
// does not claim must not be there: a capability that nobody declared is one that nobody finds.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <map>

#include "espalier/conformance/model_cases.h"
#include "espalier/io/initial_value.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/nn/task_head.h"
#include "espalier/sdk/capabilities.h"

namespace espalier::conformance {
namespace {

constexpr std::int64_t kLabels = 3;

/// What stands in the way of the head of a task; empty when it gives what it should.
std::string try_head(const Subject& subject, const ModelCase& one, nn::Task task) {
  const at::NoGradGuard no_grad;
  const std::int64_t labels = task == nn::Task::kEmbedding ? 0 : kLabels;
  const std::shared_ptr<Model> model =
      nn::with_task_head(one.build(subject), task, "score", labels, 0.02);
  for (const auto& parameter : model->parts().parameters)
    parameter->set_value(initial_value(parameter->spec(), at::kFloat, subject.seed));
  const ModelOutput output = model->forward({{{"input_ids", model_ids(subject, 2, 5)}}});
  if (output.hidden.size(0) != 10) return "hidden states are not those of the tokens";
  if (model->head().vocab_size() != labels) return "the head has another size";
  if (task == nn::Task::kEmbedding) return {};
  const auto scope = model->head().scope();
  const at::Tensor scores = model->head().project(output.hidden);
  const bool fits = scores.dim() == 2 && scores.size(0) == 10 && scores.size(1) == kLabels;
  return fits && at::isfinite(scores).all().item<bool>() ? ""
                                                         : "the scores are not [tokens, labels]";
}

using Present = bool (*)(const Subject& subject, const ModelCase& one);

/// Capabilities that are seen in a model's parts.
const std::map<std::string, Present>& seen_capabilities() {
  static const std::map<std::string, Present> kSeen = {
      {capability::kGenerationCache,
       [](const Subject& subject, const ModelCase& one) {
         return one.with_values(subject)->make_cache() != nullptr;
       }},
      {capability::kAdapters,
       [](const Subject& subject, const ModelCase& one) {
         return one.build(subject)->parts().linears.size() > 1;
       }},
      {capability::kAttentionChoice,
       [](const Subject& subject, const ModelCase& one) {
         return !one.build(subject)->parts().attention_cores.empty();
       }},
      {capability::kExperts,
       [](const Subject& subject, const ModelCase& one) {
         return !one.build(subject)->parts().expert_linears.empty();
       }},
  };
  return kSeen;
}

}  // namespace

void check_model_capabilities(const Subject& subject, Report& report) {
  if (!subject.capabilities.is_array())
    return report.skip("it declares no property \"capabilities\"");
  std::vector<std::string> claimed;
  for (const Value& name : subject.capabilities.as_array()) {
    if (!name.is_string()) return report.fail("a capability is no text");
    claimed.push_back(name.as_string());
    const auto known =
        std::find(std::begin(capability::kAll), std::end(capability::kAll), claimed.back());
    if (known == std::end(capability::kAll))
      report.fail("there is no capability '" + claimed.back() + "'",
                  "those there are stand in espalier/sdk/capabilities.h");
  }
  const auto claims = [&](const char* name) {
    return std::find(claimed.begin(), claimed.end(), name) != claimed.end();
  };
  // A config of the sample may lack what the family has; none of them having it is a false claim.
  std::map<std::string, bool> seen;
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    for (const auto& [name, present] : seen_capabilities())
      seen[name] = seen[name] || present(subject, one);
    const std::pair<const char*, nn::Task> heads[] = {
        {capability::kSequenceClassification, nn::Task::kSequenceClassification},
        {capability::kTokenClassification, nn::Task::kTokenClassification},
        {capability::kEmbedding, nn::Task::kEmbedding}};
    for (const auto& [name, task] : heads) {
      if (!claims(name)) continue;
      if (const std::string reason = try_head(subject, one, task); !reason.empty())
        report.fail(one.name + ": claims " + name + ", but " + reason);
    }
  });
  for (const auto& [name, present] : seen) {
    if (present && !claims(name.c_str()))
      report.fail("it can do '" + name + "' and does not say so", {}, {},
                  "add it to property(\"capabilities\", ...), or runs that need it are refused");
    if (!present && claims(name.c_str()))
      report.fail("it claims '" + name + "', and no config of its sample has it", {}, {},
                  "take it out of property(\"capabilities\", ...), or give such a config in "
                  "conformance.json");
  }
}

}  // namespace espalier::conformance
