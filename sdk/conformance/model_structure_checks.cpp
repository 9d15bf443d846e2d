// What strategies, adapters and loaders rely on in a model: that the data it publishes of itself is
// complete and true.
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <set>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/model_cases.h"
#include "espalier/io/parameter_io.h"
#include "espalier/nn/linear.h"

namespace espalier::conformance {
namespace {

/// A box of `tensor`, addressed by where it starts and how far it reaches.
at::Tensor box_of(at::Tensor tensor, const std::vector<std::int64_t>& offset,
                  const std::vector<std::int64_t>& extent) {
  for (std::size_t d = 0; d < extent.size(); ++d)
    tensor = tensor.narrow(static_cast<std::int64_t>(d), offset.empty() ? 0 : offset[d], extent[d]);
  return tensor;
}

void check_tiling(const ParameterSpec& spec, const DiskMapping& mapping, const std::string& name,
                  Report& report) {
  const at::Tensor count = at::zeros(spec.shape(), at::kInt);
  for (const DiskTensor& part : mapping.parts) {
    for (std::size_t d = 0; d < part.extent.size(); ++d) {
      const std::int64_t start = part.offset.empty() ? 0 : part.offset[d];
      if (start < 0 || start + part.extent[d] > spec.shape()[d])
        return report.fail(
            name + ": the part '" + part.name + "' of '" + spec.name + "' reaches outside of it",
            std::to_string(start + part.extent[d]),
            std::to_string(spec.shape()[d]) + " along dimension " + std::to_string(d));
    }
    box_of(count, part.offset, part.extent).add_(1);
  }
  if (count.numel() > 0 && (count.min().item<int>() != 1 || count.max().item<int>() != 1))
    report.fail(name + ": the tensors on disk do not tile parameter '" + spec.name + "'",
                count.min().item<int>() == 0 ? "values that no tensor gives"
                                             : "values that two tensors give",
                "every value once", "see DiskTensor: offset and extent of each part");
}

/// A runner that writes down which blocks it ran.
class RecordingRunner final : public BlockRunner {
 public:
  BlockState run(Block& block, BlockState state, const BatchContext& context) override {
    ran.push_back(&block);
    return BlockRunner::run(block, std::move(state), context);
  }
  std::vector<Block*> ran;
};

std::vector<Block*> blocks_of(Model& model) {
  std::vector<Block*> blocks;
  for (const Tower& tower : model.towers()) {
    if (tower.prologue != nullptr) blocks.push_back(tower.prologue);
    blocks.insert(blocks.end(), tower.blocks.begin(), tower.blocks.end());
    if (tower.epilogue != nullptr) blocks.push_back(tower.epilogue);
  }
  return blocks;
}

}  // namespace

void check_model_accepts(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const std::string reason = subject.create<ModelProvider>()->accepts(one.config);
    if (!reason.empty())
      report.fail(one.name + ": the provider refuses its own config", reason,
                  "\"\" from accepts()");
  });
}

void check_model_meta(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.build(subject);
    if (model->parts().parameters.empty())
      return report.fail(one.name + ": the model has no parameters");
    for (const auto& parameter : model->parts().parameters) {
      if (parameter->value().is_meta()) continue;
      return report.fail(one.name + ": build() gives parameter '" + parameter->name() + "' memory",
                         "a value", "the meta device",
                         "a Parameter starts on meta; the engine gives it its value");
    }
  });
}

void check_model_names(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.build(subject);
    std::set<std::string> names;
    for (const auto& parameter : model->parts().parameters) {
      if (!names.insert(parameter->name()).second)
        report.fail(one.name + ": two parameters have one name", parameter->name());
      if (parameter->value().sizes() != at::IntArrayRef(parameter->spec().shape()))
        report.fail(
            one.name + ": parameter '" + parameter->name() + "' has another shape than its spec",
            shape_text(parameter->value().sizes()), shape_text(parameter->spec().shape()));
    }
    const ModelShape shape = model->shape();
    if (model->head().vocab_size() != shape.vocab_size)
      report.fail(one.name + ": shape().vocab_size and the head disagree",
                  std::to_string(shape.vocab_size), std::to_string(model->head().vocab_size()));
    if (shape.hidden_size <= 0 || shape.num_layers <= 0)
      report.fail(one.name + ": shape() lacks hidden_size or num_layers",
                  std::to_string(shape.hidden_size) + " and " + std::to_string(shape.num_layers));
  });
}

void check_model_mappings(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.build(subject);
    const ModelParts& parts = model->parts();
    std::map<std::string, const DiskMapping*> mappings;
    for (const DiskMapping& mapping : parts.mappings) mappings[mapping.parameter] = &mapping;
    std::set<std::string> disk_names;
    for (const auto& parameter : parts.parameters) {
      const auto found = mappings.find(parameter->name());
      if (found == mappings.end()) {
        report.fail(one.name + ": parameter '" + parameter->name() + "' has no place on disk", {},
                    "an entry of parts().mappings", "identity_mapping(spec) is the usual one");
        continue;
      }
      check_tiling(parameter->spec(), *found->second, one.name, report);
      for (const DiskTensor& part : found->second->parts) {
        if (part.disk_offset.empty() && !disk_names.insert(part.name).second)
          report.fail(one.name + ": two parameters are read from one tensor on disk", part.name, {},
                      "name the tied weight once, or give disk_offset");
      }
    }
  });
}

void check_model_blocks(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.with_values(subject);
    const std::vector<Block*> blocks = blocks_of(*model);
    std::set<const Parameter*> reached;
    for (const Block* block : blocks) {
      for (const auto& parameter : block->parameters()) reached.insert(parameter.get());
    }
    const nn::Linear& head = model->head().linear();
    for (const auto& parameter : {head.weight(), head.bias()}) reached.insert(parameter.get());
    for (const auto& parameter : model->parts().parameters) {
      if (!reached.contains(parameter.get()))
        report.fail(
            one.name + ": no block and not the head holds parameter '" + parameter->name() + "'",
            {}, "a block whose parameters() names it",
            "a strategy gathers what a block names; the rest would be missing");
    }
    const auto runner = std::make_shared<RecordingRunner>();
    model->set_block_runner(runner);
    model->forward({{{"input_ids", model_ids(subject, 1, 4)}}});
    if (runner->ran != blocks)
      report.fail(one.name + ": a forward pass does not run the blocks of towers() in order",
                  std::to_string(runner->ran.size()) + " blocks run",
                  std::to_string(blocks.size()) + " blocks",
                  "forward calls runner->run(block, ...) for every block");
  });
}

void check_model_linears(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.build(subject);
    ModelParts& parts = model->parts();
    std::set<const Parameter*> parameters;
    for (const auto& parameter : parts.parameters) parameters.insert(parameter.get());
    std::set<const nn::Linear*> linears;
    for (nn::Linear* linear : parts.linears) {
      linears.insert(linear);
      if (!parameters.contains(linear->weight().get()))
        report.fail(one.name + ": the weight of linear '" + linear->name() +
                    "' is none of the parameters");
    }
    if (linears.empty())
      report.fail(one.name + ": the model publishes no linears", {}, "parts().linears",
                  "adapters and quantizers act on these");
    for (const LinearGroup& group : parts.linear_groups) {
      for (nn::Linear* linear : group.linears) {
        if (!linears.contains(linear))
          report.fail(one.name + ": group '" + group.name + "' has a linear that is not in linears",
                      linear->name());
      }
    }
  });
}

void check_model_bad_config(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    int refused = 0;
    for (const char* key : {"hidden_size", "num_hidden_layers", "n_embd", "n_layer", "d_model",
                            "num_attention_heads", "vocab_size"}) {
      if (one.config.find(key) == nullptr) continue;
      ModelCase bad = one;
      bad.config.as_table().set(key, "twelve");
      try {
        bad.build(subject);
        report.fail(one.name + ": a text in the place of a number is taken",
                    std::string(key) + " = \"twelve\"", "Error(kBadInput) that names the key",
                    "read config.json with ConfigReader");
      } catch (const Error& error) {
        ++refused;
        if (std::string(error.what()).find(key) == std::string::npos)
          report.fail(one.name + ": the error does not name the key of config.json",
                      error.problems().front().what, key, "read config.json with ConfigReader");
      }
    }
    if (refused == 0 && report.outcome() == Outcome::kPass)
      report.warn(one.name + ": config.json has none of the keys that the kit knows");
  });
}

}  // namespace espalier::conformance
