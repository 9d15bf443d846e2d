// A kernel pack is held against the reference of each op: forward and backward, over odd sizes,
// empty input, memory that is not contiguous, and the dtypes that the pack takes.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>
#include <set>

#include "espalier/conformance/compare.h"
#include "espalier/conformance/interfaces.h"
#include "espalier/ops/op.h"
#include "espalier/sdk/batch.h"

namespace espalier::conformance {
namespace {

using ops::OpAttributes;
using ops::OpImplementation;
using ops::Tensors;

/// One call of an op. `differentiable` inputs are checked backwards too.
struct Case {
  std::string name;
  Tensors inputs;
  OpAttributes attributes;
  std::vector<bool> differentiable;
  bool overwrites = false;  ///< the attributes allow that the first input is written over
};

/// Float inputs in another dtype; angles stay float32, as models give them.
at::Tensor in(const at::Tensor& tensor, at::ScalarType dtype) { return tensor.to(dtype); }

using Rows = std::pair<std::int64_t, std::int64_t>;

void add_row_cases(const std::string& op, at::ScalarType dtype, std::uint64_t seed,
                   std::vector<Case>& cases) {
  for (const auto& [rows, columns] :
       {Rows(1, 1), Rows(3, 7), Rows(17, 65), Rows(5, 257), Rows(0, 8)}) {
    // The gradient of a norm over one value is a difference of equals: rounding and nothing else.
    if (op == "rms_norm" && columns == 1) continue;
    const std::string name = "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
    const at::Tensor x = in(random_tensor({rows, columns}, seed, 1), dtype);
    const at::Tensor other = in(random_tensor({rows, columns}, seed, 2), dtype);
    // Every second column of a wider tensor.
    const at::Tensor strided = in(random_tensor({rows, 2 * columns}, seed, 3), dtype)
                                   .unflatten(1, {columns, 2})
                                   .select(2, 1);
    if (op == "rms_norm") {
      const at::Tensor weight = in(random_tensor({columns}, seed, 4), dtype);
      for (const double offset : {0.0, 1.0})
        cases.push_back({name, {x, weight}, {{1e-5, offset}, {}}, {true, true}});
      cases.push_back({name + " strided", {strided, weight}, {{1e-5, 0.0}, {}}, {true, true}});
    } else if (op == "gated_activation") {
      for (std::int64_t kind = 0; kind < 6; ++kind)
        cases.push_back(
            {name + " activation " + std::to_string(kind), {x, other}, {{}, {kind}}, {true, true}});
      cases.push_back({name + " strided", {strided, other}, {{}, {0}}, {true, true}});
    } else if (op == "cross_entropy") {
      at::Tensor labels = random_integers({rows}, columns, seed, 5);
      if (rows > 1) labels[0].fill_(kIgnoredLabel);
      for (const auto& numbers :
           {std::array<double, 4>{}, std::array<double, 4>{0.1, 1e-3, 0.0, 0.0},
            std::array<double, 4>{0.0, 0.0, 5.0, 0.0}})
        cases.push_back({name, {x * 3, labels}, {numbers, {}}, {true, false}});
      cases.push_back({name + " strided", {strided, labels}, {}, {true, false}});
      cases.push_back({name + " written over", {x * 3, labels}, {{}, {1}}, {true, false}, true});
    }
  }
}

using Turned = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

void add_rotary_cases(at::ScalarType dtype, std::uint64_t seed, std::vector<Case>& cases) {
  for (const auto& [tokens, heads, width, half] :
       {Turned(5, 3, 8, 4), Turned(7, 1, 10, 3), Turned(0, 2, 8, 4), Turned(9, 2, 64, 32)}) {
    const at::Tensor angles = random_tensor({tokens, half}, seed, 1) * 3;
    for (const std::int64_t interleaved : {0, 1}) {
      const at::Tensor x = in(random_tensor({tokens, heads, width}, seed, 2), dtype);
      const std::string name = shape_text(x.sizes()) + (interleaved != 0 ? " interleaved" : "");
      cases.push_back(
          {name, {x, angles.cos(), angles.sin()}, {{}, {interleaved}}, {true, false, false}});
      // q and k as parts of one fused projection.
      const at::Tensor fused = in(random_tensor({tokens, 3 * heads * width}, seed, 3), dtype)
                                   .narrow(1, heads * width, heads * width)
                                   .unflatten(1, {heads, width});
      cases.push_back({name + " strided",
                       {fused, angles.cos(), angles.sin()},
                       {{}, {interleaved}},
                       {true, false, false}});
    }
  }
}

void add_grouped_cases(at::ScalarType dtype, std::uint64_t seed, std::vector<Case>& cases) {
  const at::Tensor x = in(random_tensor({11, 6}, seed, 1), dtype);
  const at::Tensor weight = in(random_tensor({4, 5, 6}, seed, 2), dtype);
  const at::Tensor bias = in(random_tensor({4, 5}, seed, 3), dtype);
  const at::Tensor offsets = at::tensor(std::vector<std::int64_t>{0, 3, 3, 10, 11}, at::kLong);
  cases.push_back({"4 groups", {x, weight, bias, offsets}, {}, {true, true, true, false}});
  cases.push_back({"no bias", {x, weight, {}, offsets}, {}, {true, true, false, false}});
}

/// Weights in the dtype of x, in float32 and in int8 with factors.
void add_decode_cases(at::ScalarType dtype, std::uint64_t seed, std::vector<Case>& cases) {
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
  for (const auto& [rows, columns, out] : {Shape(1, 64, 5), Shape(3, 7, 1), Shape(5, 33, 18),
                                           Shape(8, 130, 65), Shape(0, 8, 4), Shape(11, 16, 3)}) {
    const std::string name = std::to_string(rows) + " rows, [" + std::to_string(out) + ", " +
                             std::to_string(columns) + "]";
    const at::Tensor x = in(random_tensor({rows, columns}, seed, 1), dtype);
    const at::Tensor weight = random_tensor({out, columns}, seed, 2);
    const at::Tensor bias = in(random_tensor({out}, seed, 3), dtype);
    const at::Tensor codes = (weight * 40).clamp(-127, 127).to(at::kChar);
    const at::Tensor scale = random_tensor({out}, seed, 4).abs() / 64;
    cases.push_back({name, {x, in(weight, dtype), {}, {}}, {}, {true, true, false, false}});
    cases.push_back(
        {name + ", bias", {x, in(weight, dtype), bias, {}}, {}, {true, true, true, false}});
    cases.push_back({name + ", float32 weight",
                     {x, in(weight, dtype).to(at::kFloat), {}, {}},
                     {},
                     {true, false, false, false}});
    cases.push_back(
        {name + ", int8 weight", {x, codes, bias, scale}, {}, {true, false, true, true}});
  }
}

/// Documents of one token, of less and more than a vector, of several blocks; heads that share
/// keys; q, k and v as parts of one projection.
void add_attention_cases(at::ScalarType dtype, std::uint64_t seed, std::vector<Case>& cases) {
  const auto starts = [](const std::vector<std::int64_t>& places) {
    return at::tensor(places, at::kLong);
  };
  for (const auto& [heads, kv_heads, width] :
       {std::tuple(1, 1, 8), std::tuple(6, 2, 20), std::tuple(4, 4, 64)}) {
    const std::int64_t tokens = 1 + 5 + 33 + 70;
    const at::Tensor fused =
        in(random_tensor({tokens, heads + 2 * kv_heads, width}, seed, 1), dtype);
    const at::Tensor q = fused.narrow(1, 0, heads);
    const at::Tensor k = fused.narrow(1, heads, kv_heads);
    const at::Tensor v = fused.narrow(1, heads + kv_heads, kv_heads);
    const std::string name = std::to_string(heads) + " heads of " + std::to_string(width) + ", " +
                             std::to_string(kv_heads) + " of keys";
    for (const std::int64_t window : {0, 3, 40})
      cases.push_back({name + ", window " + std::to_string(window),
                       {q, k, v, starts({0, 1, 6, 39, tokens})},
                       {{0.3}, {window}},
                       {true, true, true, false}});
    cases.push_back({name + ", one document",
                     {q.contiguous(), k.contiguous(), v.contiguous(), starts({0, tokens})},
                     {{0.3}, {0}},
                     {true, true, true, false}});
  }
}

/// Ranks of less and more than a register holds; inputs that lie in wider tensors; an output that
/// is written over.
void add_low_rank_cases(at::ScalarType dtype, std::uint64_t seed, std::vector<Case>& cases) {
  using Shape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
  for (const auto& [rows, columns, out, rank] :
       {Shape(1, 64, 5, 8), Shape(5, 33, 18, 3), Shape(17, 130, 65, 16), Shape(0, 8, 4, 2),
        Shape(70, 96, 208, 8)}) {
    const std::string name = std::to_string(rows) + " rows, [" + std::to_string(out) + ", " +
                             std::to_string(columns) + "] of rank " + std::to_string(rank);
    const std::int64_t apart = columns + 3;
    const at::Tensor output = in(random_tensor({rows, out}, seed, 1), dtype);
    const at::Tensor x = in(random_tensor({rows, columns}, seed, 2), dtype);
    const at::Tensor wider = in(random_tensor({rows, apart}, seed, 3), dtype).narrow(1, 2, columns);
    const at::Tensor a = in(random_tensor({rank, columns}, seed, 4), dtype);
    const at::Tensor b = in(random_tensor({out, rank}, seed, 5), dtype);
    const std::vector<bool> all(4, true);
    cases.push_back({name, {output, x, a, b}, {{0.5}, {0}}, all});
    cases.push_back({name + " strided", {output, wider, a, b}, {{2.0}, {0}}, all});
    cases.push_back({name + " written over", {output, x, a, b}, {{0.5}, {1}}, all, true});
  }
}

/// A first tile and a later one, whose maximum may lie in what was seen before.
void add_softmax_cases(at::ScalarType dtype, std::uint64_t seed, std::vector<Case>& cases) {
  for (const auto& [rows, columns] :
       {Rows(1, 1), Rows(3, 7), Rows(17, 65), Rows(5, 257), Rows(0, 8)}) {
    const std::string name = "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
    const at::Tensor logits = in(random_tensor({rows, columns}, seed, 1) * 3, dtype);
    const at::Tensor wider =
        in(random_tensor({rows, columns + 3}, seed, 2), dtype).narrow(1, 2, columns);
    const at::Tensor maximum = random_tensor({rows}, seed, 3) * 9;
    const at::Tensor sum = random_tensor({rows}, seed, 4).abs() + 1;
    const at::Tensor none = at::full({rows}, -std::numeric_limits<float>::infinity());
    const std::vector<bool> never(3, false);
    cases.push_back({name, {logits, maximum, sum}, {{}, {0}}, never});
    cases.push_back({name + " the first", {logits, none, at::zeros({rows})}, {{}, {0}}, never});
    cases.push_back({name + " strided", {wider, maximum, sum}, {{}, {0}}, never});
    cases.push_back({name + " written over", {logits, maximum, sum}, {{}, {1}}, never, true});
  }
}

std::vector<Case> cases_of(const std::string& op, at::ScalarType dtype, std::uint64_t seed) {
  std::vector<Case> cases;
  if (op == "rotary") {
    add_rotary_cases(dtype, seed, cases);
  } else if (op == "document_attention") {
    add_attention_cases(dtype, seed, cases);
  } else if (op == "grouped_linear") {
    add_grouped_cases(dtype, seed, cases);
  } else if (op == "decode_linear") {
    add_decode_cases(dtype, seed, cases);
  } else if (op == "low_rank_update") {
    add_low_rank_cases(dtype, seed, cases);
  } else if (op == "softmax_tile") {
    add_softmax_cases(dtype, seed, cases);
  } else {
    add_row_cases(op, dtype, seed, cases);
  }
  return cases;
}

const OpImplementation* reference_of(const std::string& op) {
  const auto& all = ops::OpTable::instance().implementations();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const OpImplementation& implementation) {
        return implementation.op == op && implementation.name == "reference";
      });
  return found == all.end() ? nullptr : &*found;
}

double limit_of(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return 2.0 / 128;
  return dtype == at::kHalf ? 2.0 / 1024 : 2e-5;
}

struct Results {
  Tensors outputs;
  Tensors gradients;
};

Results run(const OpImplementation& implementation, const Case& one, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  ops::Saved saved;
  Results results;
  Tensors inputs = one.inputs;
  if (one.overwrites) inputs[0] = inputs[0].clone();
  results.outputs = implementation.forward(inputs, one.attributes, saved);
  Tensors grads;
  for (std::size_t i = 0; i < results.outputs.size(); ++i)
    grads.push_back(
        random_tensor(results.outputs[i].sizes(), seed, 50 + i).to(results.outputs[i].options()));
  results.gradients = implementation.backward(saved, one.attributes, grads, one.differentiable);
  return results;
}

/// One implementation over all cases of one dtype; returns how many it took.
int compare(const OpImplementation& implementation, const OpImplementation& reference,
            at::ScalarType dtype, const at::Device& device, std::uint64_t seed, Report& report) {
  int taken = 0;
  for (Case& one : cases_of(implementation.op, dtype, seed)) {
    for (at::Tensor& input : one.inputs) {
      // Offsets of groups and documents stay where the host reads them.
      const bool offsets =
          input.defined() && !input.is_floating_point() &&
          (implementation.op == "grouped_linear" || implementation.op == "document_attention");
      if (input.defined() && !offsets) input = input.to(device);
    }
    if (implementation.supports && !implementation.supports(one.inputs, one.attributes)) continue;
    ++taken;
    const Results expected = run(reference, one, seed);
    Tensors before;
    for (const at::Tensor& input : one.inputs)
      before.push_back(input.defined() ? input.clone() : input);
    const Results actual = run(implementation, one, seed);
    const std::string name = implementation.op + " '" + implementation.name + "' on " + one.name +
                             " of " + at::toString(dtype);
    const double limit = limit_of(dtype);
    for (std::size_t i = 0; i < expected.outputs.size(); ++i)
      expect_close(report, name + ": output " + std::to_string(i),
                   i < actual.outputs.size() ? actual.outputs[i] : at::Tensor(),
                   expected.outputs[i], limit);
    for (std::size_t i = 0; i < one.differentiable.size(); ++i) {
      if (!one.differentiable[i]) continue;
      expect_close(report, name + ": gradient of input " + std::to_string(i),
                   i < actual.gradients.size() ? actual.gradients[i] : at::Tensor(),
                   expected.gradients[i], limit);
    }
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (before[i].defined() && !at::equal(before[i], one.inputs[i]))
        report.fail(name + ": input " + std::to_string(i) + " was written to", "other values",
                    "inputs as they were", "make a tensor for the result");
    }
    if (report.outcome() == Outcome::kFail) return taken;  // the first says enough
  }
  return taken;
}

void check_numbers(const Subject& subject, Report& report) {
  const auto pack = subject.create<KernelPack>();
  if (const std::string reason = pack->unavailable(); !reason.empty())
    return report.skip("this machine can't run the pack: " + reason);
  const Value* place = subject.sample.find("device");
  const at::Device device(place == nullptr ? "cpu" : place->as_string());
  for (const OpImplementation& implementation : pack->implementations()) {
    const OpImplementation* reference = reference_of(implementation.op);
    if (reference == nullptr) {
      report.fail("there is no op '" + implementation.op + "'", implementation.name,
                  "an op of sdk/ops", "espalier plugins inspect shows what a pack implements");
      continue;
    }
    if (cases_of(implementation.op, at::kFloat, subject.seed).empty()) {
      report.warn("the kit has no cases for op '" + implementation.op + "'",
                  "compare it with its reference in a test of your own");
      continue;
    }
    int taken = 0;
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      taken += compare(implementation, *reference, dtype, device, subject.seed, report);
    if (taken == 0)
      report.warn(
          "'" + implementation.name + "' takes none of the cases of '" + implementation.op + "'",
          "supports() refuses all of them: is it too strict?");
  }
}

void check_declared(const Subject& subject, Report& report) {
  const auto pack = subject.create<KernelPack>();
  std::set<std::pair<std::string, std::string>> names;
  for (const OpImplementation& implementation : pack->implementations()) {
    if (implementation.name.empty() || implementation.name == "reference")
      report.fail("an implementation of '" + implementation.op + "' has no name of its own",
                  "'" + implementation.name + "'", "a name such as 'avx512'");
    if (!names.emplace(implementation.op, implementation.name).second)
      report.fail("op '" + implementation.op + "' has two implementations of one name",
                  implementation.name);
    if (!implementation.forward || !implementation.backward)
      report.fail("'" + implementation.name + "' of '" + implementation.op +
                      "' lacks a forward or a backward",
                  {}, "both");
    if (implementation.priority <= 0)
      report.warn("'" + implementation.name + "' of '" + implementation.op +
                      "' is never chosen: its priority is not above the reference's 0",
                  "give it a priority such as 10");
  }
  if (names.empty() && pack->unavailable().empty())
    report.fail("the pack implements nothing", "no implementation", "at least one");
}

}  // namespace

std::span<const Check> kernel_checks() {
  static constexpr Check kChecks[] = {
      {"kernel_pack.declared", 3, "implementations have names, both passes and a priority",
       check_declared},
      {"kernel_pack.numbers", 3, "every implementation agrees with the op's reference",
       check_numbers},
  };
  return kChecks;
}

}  // namespace espalier::conformance
