#include "espalier/nn/task_head.h"

#include <algorithm>
#include <utility>

#include "espalier/base/error.h"
#include "espalier/nn/decoder_spec.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/kv_cache.h"
#include "espalier/nn/linear.h"

namespace espalier::nn {
namespace {

[[noreturn]] void refuse_scores() {
  throw Error(Problem{ErrorCode::kUnsupported, "an embedding model has no head that gives scores",
                      "task = embedding", "a model with a head", "model.task",
                      "use an objective over hidden states, or another task"});
}

class TaskHead final : public Head {
 public:
  TaskHead(Model& decoder, std::unique_ptr<Linear> linear, std::int64_t outputs)
      : decoder_(decoder), linear_(std::move(linear)), outputs_(outputs) {}

  std::int64_t vocab_size() const override { return outputs_; }
  std::shared_ptr<void> scope() override { return runner_->head_scope(parameters_); }
  at::Tensor project(const at::Tensor& hidden_rows) override {
    if (linear_ == nullptr) refuse_scores();
    return linear_->forward(hidden_rows);
  }
  Linear& linear() override { return linear_ == nullptr ? decoder_.head().linear() : *linear_; }
  void set_runner(std::shared_ptr<BlockRunner> runner) { runner_ = std::move(runner); }
  void set_parameters(std::vector<std::shared_ptr<Parameter>> parameters) {
    parameters_ = std::move(parameters);
  }

 private:
  Model& decoder_;
  std::unique_ptr<Linear> linear_;
  std::int64_t outputs_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  std::shared_ptr<BlockRunner> runner_ = std::make_shared<BlockRunner>();
};

/// A decoder whose head was exchanged; its parts are the decoder's, edited.
class TaskModel final : public Model {
 public:
  TaskModel(std::shared_ptr<Model> decoder, std::unique_ptr<TaskHead> head)
      : decoder_(std::move(decoder)), head_(std::move(head)) {}

  ModelOutput forward(const ModelInput& input) override { return decoder_->forward(input); }
  Head& head() override { return *head_; }
  ModelParts& parts() override { return decoder_->parts(); }
  std::vector<Tower> towers() override { return decoder_->towers(); }
  ModelShape shape() const override { return decoder_->shape(); }
  void set_block_runner(std::shared_ptr<BlockRunner> runner) override {
    head_->set_runner(runner);
    decoder_->set_block_runner(std::move(runner));
  }
  void set_compute_dtype(at::ScalarType dtype) override { decoder_->set_compute_dtype(dtype); }
  void set_device(at::Device device) override {
    Model::set_device(device);
    decoder_->set_device(device);
  }
  std::unique_ptr<KvCache> make_cache() override { return decoder_->make_cache(); }
  void set_training(bool training) override { decoder_->set_training(training); }
  void set_share_prefixes(bool share) override { decoder_->set_share_prefixes(share); }
  std::int64_t rows(const ModelInput& input) const override { return decoder_->rows(input); }

 private:
  std::shared_ptr<Model> decoder_;
  std::unique_ptr<TaskHead> head_;
};

void remove_parameter(ModelParts& parts, const std::shared_ptr<Parameter>& parameter) {
  const auto found = std::find(parts.parameters.begin(), parts.parameters.end(), parameter);
  if (found == parts.parameters.end()) return;
  for (const DiskTensor& part :
       parts.mappings[static_cast<std::size_t>(found - parts.parameters.begin())].parts)
    parts.ignored_on_disk.push_back(part.name);
  parts.mappings.erase(parts.mappings.begin() + (found - parts.parameters.begin()));
  parts.parameters.erase(found);
}

/// Takes the decoder's head out of its parts; where it shares the weight of an embedding, that
/// stays.
void remove_head(Model& decoder) {
  ModelParts& parts = decoder.parts();
  Linear& head = decoder.head().linear();
  std::erase(parts.linears, &head);
  const bool tied =
      std::any_of(parts.embeddings.begin(), parts.embeddings.end(),
                  [&](const Embedding* embedding) { return embedding->weight() == head.weight(); });
  if (!tied) remove_parameter(parts, head.weight());
  if (head.bias() != nullptr) remove_parameter(parts, head.bias());
}

}  // namespace

std::shared_ptr<Model> with_task_head(std::shared_ptr<Model> decoder, Task task,
                                      const std::string& name, std::int64_t num_labels,
                                      double initializer_range) {
  if (task == Task::kCausalLm) return decoder;
  const Dimension width = decoder->head().linear().weight()->spec().dimensions.back();
  remove_head(*decoder);
  std::unique_ptr<Linear> linear;
  std::vector<std::shared_ptr<Parameter>> parameters;
  if (task != Task::kEmbedding) {
    LinearSpec spec{dimension("labels", num_labels), width};
    spec.bias = task == Task::kTokenClassification;
    spec.initial_standard_deviation = initializer_range;
    linear = std::make_unique<Linear>(ModuleScope(decoder->parts(), parameters, name), spec);
  }
  const std::int64_t outputs = linear == nullptr ? 0 : num_labels;
  auto head = std::make_unique<TaskHead>(*decoder, std::move(linear), outputs);
  head->set_parameters(std::move(parameters));
  return std::make_shared<TaskModel>(std::move(decoder), std::move(head));
}

}  // namespace espalier::nn
