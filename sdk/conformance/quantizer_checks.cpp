// What a model relies on in a Quantizer: the weight is nearly what it was, in less memory, and lets
// gradients through to what comes before.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/nn/quantizer.h"

namespace espalier::conformance {
namespace {

constexpr std::int64_t kOut = 96;
constexpr std::int64_t kIn = 160;
constexpr double kLoss = 0.2;       // of the largest: what four bits lose
constexpr double kRounding = 1e-4;  // products in another order

/// A linear with a weight that a quantizer holds.
struct Held {
  ModelParts parts;
  std::vector<std::shared_ptr<Parameter>> block;
  std::unique_ptr<nn::Linear> linear;
  at::Tensor weight;
  bool held = false;

  explicit Held(const Subject& subject) : weight(random_tensor({kOut, kIn}, subject.seed, 1)) {
    const nn::LinearSpec spec{{{{"mlp", kOut, 1}}}, {{{"embed", kIn, 1}}}, /*bias=*/true};
    linear = std::make_unique<nn::Linear>(nn::ModuleScope(parts, block, "model.layer.proj"), spec);
    linear->bias()->set_value(random_tensor({kOut}, subject.seed, 2));
    auto storage = subject.create<Quantizer>()->hold(*linear, weight);
    held = storage != nullptr;
    if (held) linear->set_storage(std::move(storage));
  }
};

std::string type_and_shape(const at::Tensor& value) {
  return std::string(at::toString(value.scalar_type())) + " " + c10::str(value.sizes()) + " on " +
         value.device().str();
}

bool skips(const Held& held, Report& report) {
  if (!held.held) report.skip("the quantizer leaves a linear of this size as it is");
  return !held.held;
}

void check_weight(const Subject& subject, Report& report) {
  const Held held(subject);
  if (skips(held, report)) return;
  const nn::WeightStorage& storage = held.linear->storage();
  const at::Tensor dense = storage.dense(at::kFloat);
  expect_close(report, "dense() is far from the weight", dense, held.weight, kLoss);
  const at::Tensor ids = at::arange(0, kOut, 7, at::TensorOptions().dtype(at::kLong));
  expect_close(report, "rows() differs from rows of dense()", storage.rows(ids, at::kFloat),
               dense.index_select(0, ids), 1e-6);
}

void check_product(const Subject& subject, Report& report) {
  const Held held(subject);
  if (skips(held, report)) return;
  const at::Tensor dense = held.linear->storage().dense(at::kFloat);
  const at::Tensor bias = held.linear->bias()->value().detach();
  for (const std::int64_t rows : {0, 1, 5}) {
    const at::Tensor input = leaf(random_tensor({rows, kIn}, subject.seed, 3));
    const at::Tensor output = held.linear->forward(input);
    expect_close(report, "the product differs from that with dense()", output,
                 at::linear(input.detach(), dense, bias), kRounding);
    if (rows == 0) continue;
    const at::Tensor other = leaf(input.detach());
    const at::Tensor factor = random_tensor(output.sizes(), subject.seed, 4);
    expect_close(report, "the gradient of the input differs from that with dense()",
                 gradients((output * factor).sum(), {input}).front(),
                 gradients((at::linear(other, dense, bias) * factor).sum(), {other}).front(),
                 kRounding);
  }
}

void check_memory(const Subject& subject, Report& report) {
  const Held held(subject);
  if (skips(held, report)) return;
  const nn::WeightStorage& storage = held.linear->storage();
  const auto dense = static_cast<std::int64_t>(held.weight.nbytes());
  if (storage.bytes() >= dense)
    report.fail("the weight takes no less memory", std::to_string(storage.bytes()) + " bytes",
                "less than " + std::to_string(dense));
  std::int64_t components = 0;
  for (const auto& component : storage.components()) {
    components += static_cast<std::int64_t>(component->value().nbytes());
    if (component->trainable())
      report.fail("a component of the weight is trainable", component->name(), "frozen ones",
                  "set_trainable(false) before set_value");
  }
  if (components != storage.bytes())
    report.fail("components() do not add up to bytes()", std::to_string(components),
                std::to_string(storage.bytes()));
}

void check_without_values(const Subject& subject, Report& report) {
  const Held held(subject);
  if (skips(held, report)) return;
  const auto quantizer = subject.create<Quantizer>();
  if (!quantizer->holds_without_values()) return report.skip("weights have to have values");
  const Held other(subject);  // a linear of the same shape
  const auto storage =
      quantizer->hold(*other.linear, at::empty_like(held.weight, at::TensorOptions(at::kMeta)));
  const auto expected = held.linear->storage().components();
  const auto components =
      storage == nullptr ? std::vector<std::shared_ptr<Parameter>>() : storage->components();
  if (components.size() != expected.size())
    return report.fail("without values it has another number of components",
                       std::to_string(components.size()), std::to_string(expected.size()));
  for (std::size_t i = 0; i < components.size(); ++i) {
    const at::Tensor value = components[i]->value();
    const at::Tensor with = expected[i]->value();
    if (value.is_meta() && value.sizes() == with.sizes() && value.dtype() == with.dtype()) continue;
    report.fail("without values component '" + components[i]->name() + "' is another",
                type_and_shape(value), type_and_shape(with.to(at::kMeta)),
                "make what depends on the weight with operators that work on any device");
  }
}

}  // namespace

std::span<const Check> quantizer_checks() {
  static constexpr Check kChecks[] = {
      {"quantizer.weight", 3, "the weight is nearly what it was", check_weight},
      {"quantizer.product", 3, "products and gradients are those of the weight it holds",
       check_product},
      {"quantizer.memory", 3, "it takes less memory, and says how much", check_memory},
      {"quantizer.without_values", 3, "it holds a weight without values alike if it says so",
       check_without_values},
  };
  return kChecks;
}

}  // namespace espalier::conformance
