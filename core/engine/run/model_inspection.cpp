#include "engine/run/model_inspection.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "engine/run/checkpoint_match.h"
#include "espalier/base/error.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/expert_linear.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/task_head.h"

namespace espalier {
namespace {

bool has_axis(const Parameter& parameter, std::initializer_list<const char*> axes) {
  for (const Dimension& dimension : parameter.spec().dimensions) {
    for (const AxisSegment& segment : dimension.segments) {
      if (std::find(axes.begin(), axes.end(), segment.axis) != axes.end()) return true;
    }
  }
  return false;
}

/// Sorts the parameters of a model into its parts.
class Parts {
 public:
  explicit Parts(Model& model) : model_(model) {
    for (const nn::Embedding* embedding : model.parts().embeddings)
      embeddings_.insert(embedding->weight().get());
    for (const nn::ExpertLinear* linear : model.parts().expert_linears)
      for (const auto& parameter : {linear->weight(), linear->bias()})
        experts_.insert(parameter.get());
    const nn::Linear& head = model.head().linear();
    for (const auto& parameter : {head.weight(), head.bias()}) head_.insert(parameter.get());
  }

  const char* part_of(const Parameter& parameter) const {
    if (embeddings_.contains(&parameter)) return "embedding";
    if (head_.contains(&parameter)) return "head";
    if (experts_.contains(&parameter)) return "experts";
    if (has_axis(parameter, {"experts"})) return "router";
    if (has_axis(parameter, {"state", "time_step", "groups"})) return "state";
    if (has_axis(parameter, {"heads", "kv_heads", "latent"})) return "attention";
    if (has_axis(parameter, {"mlp"})) return "mlp";
    return parameter.spec().dimensions.size() == 1 ? "norm" : "other";
  }

  bool tied() const {
    return std::any_of(head_.begin(), head_.end(), [&](const Parameter* parameter) {
      return parameter != nullptr && embeddings_.contains(parameter);
    });
  }

  std::vector<PartSize> sizes() const {
    std::map<std::string, PartSize> found;
    for (const auto& parameter : model_.parts().parameters) {
      PartSize& size = found[part_of(*parameter)];
      size.parameters += parameter->value().numel();
      ++size.tensors;
    }
    static constexpr std::array kOrder = {"embedding", "attention", "state", "mlp", "router",
                                          "experts",   "norm",      "other", "head"};
    std::vector<PartSize> sizes;
    for (const char* name : kOrder) {
      if (!found.contains(name)) continue;
      sizes.push_back(found[name]);
      sizes.back().part = name;
    }
    return sizes;
  }

 private:
  Model& model_;
  std::set<const Parameter*> embeddings_;
  std::set<const Parameter*> experts_;
  std::set<const Parameter*> head_;
};

void inspect_weights(const std::string& folder, const ModelFiles& files, Model& model,
                     ModelInspection& result) {
  const std::unique_ptr<CheckpointReader> opened = open_checkpoint(folder, files);
  const CheckpointReader& checkpoint = *opened;
  std::map<std::string, std::int64_t> elements;
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo& info = checkpoint.at(name);
    elements[std::string(dtype_config_name(info.dtype))] += info.element_count();
    result.stored_bytes += static_cast<std::int64_t>(info.size_bytes());
  }
  result.dtypes.assign(elements.begin(), elements.end());
  std::sort(result.dtypes.begin(), result.dtypes.end(),
            [](const auto& one, const auto& other) { return one.second > other.second; });
  match_names(model.parts(), checkpoint);
  check_checkpoint(model.parts(), checkpoint);
}

}  // namespace

ModelInspection inspect_model(const ModelProvider& provider, const std::string& folder,
                              const ModelFiles& files) {
  const Value config = read_model_config(folder);
  if (const std::string reason = provider.accepts(config); !reason.empty()) {
    throw Error(Problem{ErrorCode::kUnsupported,
                        "the plugin can't build this model: " + reason,
                        {},
                        {},
                        folder + "/config.json",
                        {}});
  }
  ModelInspection result;
  result.task = task_of("auto", config);
  std::shared_ptr<Model> model = provider.build(config);
  result.has_cache = model->make_cache() != nullptr;
  if (result.task != Task::kCausalLm)
    model = nn::with_task_head(std::move(model), result.task, "score", label_count(config), 0.02);
  const Parts parts(*model);
  result.shape = model->shape();
  result.tied = parts.tied();
  result.parts = parts.sizes();
  for (const PartSize& size : result.parts) result.parameters += size.parameters;
  const nn::Linear* head = &model->head().linear();
  for (const nn::Linear* linear : model->parts().linears) {
    if (linear == head) continue;
    for (const Dimension& dimension : linear->weight()->spec().dimensions)
      result.linear_width += dimension.size();
  }
  try {
    inspect_weights(folder, files, *model, result);
  } catch (const Error& error) {
    for (const Problem& problem : error.problems()) result.problems.push_back(problem.to_string());
  }
  if (const Value* quantised = config.find("quantization_config");
      quantised != nullptr && !quantised->is_null())
    result.problems.emplace_back("the checkpoint is quantised (quantization_config)");
  return result;
}

}  // namespace espalier
