// What a trainer relies on in a model: equal numbers however the same tokens are laid out, and the
// derivative of what it computes.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "espalier/base/checkpoint_reader.h"
#include "espalier/base/safetensors_writer.h"
#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/conformance/model_cases.h"
#include "espalier/io/parameter_io.h"
#include "espalier/io/tensor_io.h"
#include "espalier/nn/kv_cache.h"

namespace espalier::conformance {
namespace {

constexpr double kRounding = 2e-5;
constexpr std::int64_t kLength = 9;

void check_repeatable(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const ModelInput input{{{"input_ids", model_ids(subject, 2, kLength)}}};
    const auto model = one.with_values(subject);
    const at::Tensor first = model_logits(*model, input);
    if (!first.isfinite().all().item<bool>())
      return report.fail(one.name + ": logits are not finite");
    expect_close(report, one.name + ": a second pass gives other bits", model_logits(*model, input),
                 first, 0, "keep no state between passes");
    expect_close(report, one.name + ": a second model with the same weights gives other bits",
                 model_logits(*one.with_values(subject), input), first, 0);
  });
}

void check_padding(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const auto model = one.with_values(subject);
    const at::Tensor ids = model_ids(subject, 1, kLength);
    const at::Tensor expected = model_logits(*model, {{{"input_ids", ids}}});
    const at::Tensor padding = at::zeros({1, 3}, at::kLong);
    for (const bool left : {false, true}) {
      const auto join = [&](const at::Tensor& middle, const at::Tensor& side) {
        return left ? at::cat({side, middle}, 1) : at::cat({middle, side}, 1);
      };
      const ModelInput input{{{"input_ids", join(ids, padding)},
                              {"attention_mask", join(at::ones_like(ids), padding)}}};
      expect_close(report,
                   one.name + ": padding on the " + (left ? "left" : "right") +
                       " changes the logits of real tokens",
                   model_logits(*model, input), expected, kRounding,
                   "compute on the flat tokens of make_layout(input), which has no padding");
    }
  });
}

void check_packing(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const auto model = one.with_values(subject);
    const at::Tensor ids = model_ids(subject, 1, kLength);
    const std::vector<std::int64_t> edges = {0, 4, 5, kLength};
    std::vector<at::Tensor> alone;
    for (std::size_t d = 0; d + 1 < edges.size(); ++d)
      alone.push_back(model_logits(
          *model, {{{"input_ids", ids.narrow(1, edges[d], edges[d + 1] - edges[d])}}}));
    const ModelInput packed{{{"input_ids", ids}, {"cu_seqlens", at::tensor(edges, at::kLong)}}};
    expect_close(report, one.name + ": documents packed into one row see each other",
                 model_logits(*model, packed), at::cat(alone), kRounding,
                 "attention, convolutions and states run inside the documents of the layout");
  });
}

/// What a training pass over documents computes: logits, and the gradient of a mixture of them by
/// all weights at once, since those of some are nothing but rounding (a key's bias).
std::pair<at::Tensor, at::Tensor> pass_over(Model& model, const ModelInput& input,
                                            std::uint64_t seed) {
  const at::Tensor logits = model_logits(model, input);
  logits.mul(random_tensor(logits.sizes(), seed, 79)).sum().backward();
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : model.parts().parameters) {
    if (!parameter->trainable() || parameter->spec().buffer) continue;
    gradients.push_back(parameter->value().grad().flatten());
  }
  return {logits, at::cat(gradients)};
}

void check_shared_prefixes(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::Tensor start = model_ids(subject, 1, 5);
    const at::Tensor rest = model_ids(subject, 3, 4);
    const ModelInput input{
        {{"input_ids", at::cat({start, rest.narrow(0, 0, 1), start, rest.narrow(0, 1, 1),
                                start.narrow(1, 0, 3), rest.narrow(0, 2, 1)},
                               1)},
         {"cu_seqlens", at::tensor({0, 9, 18, 25}, at::kLong)}}};
    std::vector<std::pair<at::Tensor, at::Tensor>> passes;
    for (const bool share : {false, true}) {
      const auto model = one.with_values(subject);
      model->set_training(true);
      model->set_share_prefixes(share);
      passes.push_back(pass_over(*model, input, subject.seed));
    }
    const std::string hint =
        "attention sees all tokens of BatchContext::layout, all else rows; a model that can't "
        "share "
        "ignores set_share_prefixes";
    expect_close(report, one.name + ": logits change where documents share what they begin with",
                 passes[1].first, passes[0].first, kRounding, hint);
    expect_close(report, one.name + ": gradients change where documents share what they begin with",
                 passes[1].second, passes[0].second, kRounding, hint);
  });
}

void check_causal(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const auto model = one.with_values(subject);
    const at::Tensor ids = model_ids(subject, 1, kLength);
    at::Tensor other = ids.clone();
    other.narrow(1, kLength - 1, 1).add_(1).remainder_(kModelVocabulary);
    const at::Tensor first = model_logits(*model, {{{"input_ids", ids}}});
    const at::Tensor second = model_logits(*model, {{{"input_ids", other}}});
    expect_close(report, one.name + ": a token changes the logits of those before it",
                 second.narrow(0, 0, kLength - 1), first.narrow(0, 0, kLength - 1), kRounding,
                 "a decoder looks back only");
    if (second[kLength - 1].equal(first[kLength - 1]))
      report.fail(one.name + ": a token does not change its own logits");
  });
}

void check_cache(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const auto model = one.with_values(subject);
    const auto cache = model->make_cache();
    if (!cache) return;  // a declared limit
    const at::Tensor ids = model_ids(subject, 1, kLength);
    std::vector<at::Tensor> steps;
    for (const auto& [start, length] :
         {std::pair<std::int64_t, std::int64_t>{0, 5}, {5, 1}, {6, 1}, {7, kLength - 7}})
      steps.push_back(
          model_logits(*model, {{{"input_ids", ids.narrow(1, start, length)}}, cache.get()}));
    expect_close(report, one.name + ": a text read piece by piece with a cache ends elsewhere",
                 at::cat(steps), model_logits(*model, {{{"input_ids", ids}}}), kRounding,
                 "positions and masks count what the cache holds");
  });
}

void check_gradient(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.with_values(subject);
    std::vector<std::shared_ptr<Parameter>> trained;
    std::vector<at::Tensor> point;
    for (const auto& parameter : model->parts().parameters) {
      if (!parameter->trainable() || parameter->spec().buffer) continue;
      trained.push_back(parameter);
      point.push_back(parameter->value().detach());
    }
    const ModelInput input{{{"input_ids", model_ids(subject, 1, 6)}}};
    at::Tensor direction;  // a fixed mixture of all logits
    const auto value = [&](const std::vector<at::Tensor>& weights) {
      for (std::size_t i = 0; i < trained.size(); ++i) trained[i]->set_view(weights[i]);
      const at::Tensor logits = model_logits(*model, input);
      for (const auto& parameter : trained) parameter->set_view({});
      if (!direction.defined()) direction = random_tensor(logits.sizes(), subject.seed, 77);
      return logits.mul(direction).sum();
    };
    expect_gradient(report, one.name + ": the gradient of the logits", point, value, subject.seed,
                    1e-4, 3e-2);
    const at::Tensor sum = value(point);  // leaves `direction` as it was
    if (!sum.isfinite().item<bool>()) report.fail(one.name + ": logits are not finite");
  });
}

void check_every_weight(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const auto model = one.with_values(subject);
    const at::Tensor logits =
        model_logits(*model, {{{"input_ids", model_ids(subject, 2, kLength)}}});
    logits.mul(random_tensor(logits.sizes(), subject.seed, 78)).sum().backward();
    std::string without;
    for (const auto& parameter : model->parts().parameters) {
      if (!parameter->trainable() || parameter->spec().buffer) continue;
      if (!parameter->value().grad().defined())
        without += (without.empty() ? "" : ", ") + parameter->name();
    }
    if (!without.empty())
      report.fail(one.name + ": parameters get no gradient", without,
                  "a gradient for each, zeros where a token passed by (an idle expert)",
                  "use parameter->computed() in forward, or leave the parameter out");
  });
}

void check_state(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const auto model = one.with_values(subject);
    const ModelParts& parts = model->parts();
    std::map<std::string, at::Tensor> tensors;
    std::map<std::string, const DiskMapping*> mappings;
    for (const DiskMapping& mapping : parts.mappings) mappings[mapping.parameter] = &mapping;
    for (const auto& parameter : parts.parameters) {
      for (auto& [name, tensor] :
           to_disk_layout(*mappings.at(parameter->name()), parameter->value()))
        tensors[name] = tensor.contiguous();
    }
    write_tensors(subject.folder + "/model.safetensors", tensors);
    const CheckpointReader checkpoint(subject.folder);
    for (const auto& parameter : parts.parameters)
      expect_close(report, one.name + ": '" + parameter->name() + "' changes on its way to disk",
                   load_parameter(checkpoint, parameter->spec(), *mappings.at(parameter->name()),
                                  at::kFloat),
                   parameter->value(), 0, "its DiskMapping is not invertible");
  });
}

void check_low_precision(const Subject& subject, Report& report) {
  for_each_case(subject, report, [&](const ModelCase& one, Report& report) {
    const at::NoGradGuard no_grad;
    const auto model = one.with_values(subject);
    const ModelInput input{{{"input_ids", model_ids(subject, 2, kLength)}}};
    const at::Tensor expected = model_logits(*model, input);
    model->set_compute_dtype(at::kBFloat16);
    const at::Tensor low = model_logits(*model, input);
    if (!low.isfinite().all().item<bool>())
      return report.fail(one.name + ": logits computed in bfloat16 are not finite");
    if (low.equal(expected))
      report.fail(one.name + ": set_compute_dtype(bfloat16) changes nothing", {},
                  "activations in bfloat16");
  });
}

}  // namespace

std::span<const Check> model_checks() {
  static constexpr Check kChecks[] = {
      {"model.accepts", 3, "the family takes its own configs", check_model_accepts},
      {"model.bad_config", 3, "a wrong value in config.json is an error that names the key",
       check_model_bad_config},
      {"model.capabilities", 3, "it can do what it claims, and claims what it can do",
       check_model_capabilities},
      {"model.meta", 3, "build takes no memory", check_model_meta},
      {"model.names", 3, "parameters and shape agree with what they declare", check_model_names},
      {"model.mappings", 3, "every parameter has its place on disk, whole and once",
       check_model_mappings},
      {"model.blocks", 3, "blocks hold all parameters and run through the runner",
       check_model_blocks},
      {"model.linears", 3, "linears and groups are those of the model", check_model_linears},
      {"model.state_dict", 3, "weights survive the way to disk and back", check_state},
      {"model.repeatable", 3, "equal weights and tokens give equal bits", check_repeatable},
      {"model.padding", 3, "padding changes nothing", check_padding},
      {"model.packing", 3, "packed documents do not see each other", check_packing},
      {"model.shared_prefixes", 3, "beginnings that documents share may be computed once",
       check_shared_prefixes},
      {"model.causal", 3, "no token sees those after it", check_causal},
      {"model.cache", 3, "reading piece by piece equals reading at once", check_cache},
      {"model.gradient", 3, "the gradient is the derivative of the logits", check_gradient},
      {"model.every_weight", 3, "every trainable weight gets a gradient", check_every_weight},
      {"model.low_precision", 3, "bfloat16 activations work", check_low_precision},
  };
  return kChecks;
}

}  // namespace espalier::conformance
