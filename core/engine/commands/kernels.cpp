// espalier kernels: which implementations of the ops there are, and how fast they are here.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>

#include "engine/commands/engine_command.h"
#include "engine/run/machine.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/base/suggest.h"
#include "espalier/io/tensor_io.h"
#include "espalier/ops/op.h"

namespace espalier {
namespace {

using ops::OpAttributes;
using ops::OpImplementation;
using ops::Tensors;

constexpr double kMeasured = 0.2;  // seconds that each measurement goes on for, at least

/// A call of an op with what it reads and writes, in bytes, forwards and backwards.
struct Workload {
  Tensors inputs;
  OpAttributes attributes;
  double forward_bytes;
  double backward_bytes;
};

struct Sizes {
  std::int64_t rows;
  std::int64_t columns;
  at::ScalarType dtype;
};

at::Tensor random(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::randn(shape, at::TensorOptions().dtype(at::kFloat)).to(dtype);
}

/// Rows are tokens, columns the width that the op sees: of the hidden state, the MLP, all heads.
std::optional<Workload> workload_of(const std::string& op, const Sizes& sizes) {
  constexpr std::int64_t kHead = 64;
  constexpr std::int64_t kVocabulary = 49152;
  constexpr std::int64_t kDocument = 64;
  const auto [rows, columns, dtype] = sizes;
  const double one =
      static_cast<double>(rows * columns) * static_cast<double>(c10::elementSize(dtype));
  if (op == "rms_norm")
    return Workload{{random({rows, columns}, dtype), at::ones({columns}).to(dtype)},
                    {{1e-5}, {}},
                    2 * one,
                    3 * one};
  if (op == "gated_activation")
    return Workload{
        {random({rows, columns}, dtype), random({rows, columns}, dtype)}, {}, 3 * one, 5 * one};
  if (op == "decode_linear") {
    const double weights =
        static_cast<double>(columns * columns) * static_cast<double>(c10::elementSize(dtype));
    return Workload{{random({1, columns}, dtype), random({columns, columns}, dtype), {}, {}},
                    {},
                    weights,
                    2 * weights};
  }
  if (op == "low_rank_update") {
    constexpr std::int64_t kRank = 8;
    return Workload{{random({rows, columns}, dtype), random({rows, columns}, dtype),
                     random({kRank, columns}, dtype), random({columns, kRank}, dtype)},
                    {{2.0}, {1}},
                    3 * one,
                    4 * one};
  }
  if (op == "softmax_tile")
    return Workload{{random({rows, columns}, dtype), random({rows}, at::kFloat), at::ones({rows})},
                    {{}, {0}},
                    2 * one,
                    0};
  const std::int64_t heads = std::max<std::int64_t>(1, columns / kHead);
  const at::Tensor q = random({rows, heads, kHead}, dtype);
  if (op == "rotary") {
    const at::Tensor angles = random({rows, kHead / 2}, at::kFloat);
    return Workload{{q, angles.cos(), angles.sin()}, {}, 2 * one, 2 * one};
  }
  if (op == "cross_entropy") {
    const double logits = one / static_cast<double>(columns) * kVocabulary;
    return Workload{
        {random({rows, kVocabulary}, dtype), at::randint(kVocabulary, {rows}, at::kLong)},
        {},
        logits,
        2 * logits};
  }
  if (op == "document_attention") {
    std::vector<std::int64_t> starts;
    for (std::int64_t start = 0; start < rows; start += kDocument) starts.push_back(start);
    starts.push_back(rows);
    return Workload{{q, random({rows, heads, kHead}, dtype), random({rows, heads, kHead}, dtype),
                     at::tensor(starts, at::kLong)},
                    {{0.125}, {0}},
                    4 * one,
                    8 * one};
  }
  return std::nullopt;
}

/// Shortest time of a call, in seconds.
template <class Function>
double seconds_of(const Function& function) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  double total = 0;
  while (total < kMeasured) {
    const auto start = Clock::now();
    function();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

/// Bytes read and written in a second by a copy that no cache holds.
double copy_rate() {
  const at::Tensor from = at::ones({std::int64_t{1} << 26});
  at::Tensor to = at::empty_like(from);
  return 2.0 * static_cast<double>(from.nbytes()) / seconds_of([&] { to.copy_(from); });
}

struct Timing {
  double forward;
  double backward;
};

Timing time_of(const OpImplementation& implementation, const Workload& work) {
  ops::Saved saved;
  const Tensors outputs = implementation.forward(work.inputs, work.attributes, saved);
  Tensors grads;
  for (const at::Tensor& output : outputs) grads.push_back(at::ones_like(output));
  std::vector<bool> needs;
  for (const at::Tensor& input : work.inputs)
    needs.push_back(input.defined() && input.is_floating_point());
  return {seconds_of([&] {
            ops::Saved unused;
            implementation.forward(work.inputs, work.attributes, unused);
          }),
          seconds_of([&] { implementation.backward(saved, work.attributes, grads, needs); })};
}

/// Throws where --op names none.
void require_op(const std::string& name) {
  if (name.empty()) return;
  std::vector<std::string> ops;
  for (const OpImplementation& one : ops::OpTable::instance().implementations()) {
    if (one.priority == 0) ops.push_back(one.op);  // each has one reference
  }
  if (std::find(ops.begin(), ops.end(), name) == ops.end())
    throw_bad_input("there is no such op", name, "one of " + join_names(ops), "--op",
                    did_you_mean(name, ops));
}

int bench(const EngineCall& call) {
  require_op(call.text("op"));
  const Sizes sizes{call.option("rows").as_int(), call.option("columns").as_int(),
                    scalar_type_from_name(call.text("dtype"))};
  const std::string only = call.text("op");
  const double rate = copy_rate();
  const bool json = call.flag("json");
  if (!json) {
    std::printf("%lld rows of %lld in %s, %d threads; a copy moves %.1f GB/s\n",
                static_cast<long long>(sizes.rows), static_cast<long long>(sizes.columns),
                scalar_type_name(sizes.dtype).c_str(), at::get_num_threads(), rate / 1e9);
    std::printf("%-20s %-12s %12s %9s %13s %9s\n", "op", "kernel", "forward", "of copy", "backward",
                "of copy");
  }
  Array lines;
  for (const OpImplementation& one : ops::OpTable::instance().implementations()) {
    if (!only.empty() && one.op != only) continue;
    const std::optional<Workload> work = workload_of(one.op, sizes);
    if (!work || (one.supports && !one.supports(work->inputs, work->attributes))) continue;
    const Timing time = time_of(one, *work);
    const double forward_share = work->forward_bytes / time.forward / rate;
    const double backward_share = work->backward_bytes / time.backward / rate;
    if (!json) {
      std::printf("%-20s %-12s %9.3f ms %7.0f %% %10.3f ms %7.0f %%\n", one.op.c_str(),
                  one.name.c_str(), time.forward * 1e3, forward_share * 100, time.backward * 1e3,
                  backward_share * 100);
      continue;
    }
    Table line;
    line.set("op", one.op);
    line.set("kernel", one.name);
    line.set("forward_seconds", time.forward);
    line.set("backward_seconds", time.backward);
    line.set("forward_share_of_copy", forward_share);
    line.set("backward_share_of_copy", backward_share);
    lines.emplace_back(std::move(line));
  }
  if (json) std::puts(dump_json(Value(std::move(lines)), 1).c_str());
  return 0;
}

int list(const EngineCall& call) {
  Array lines;
  for (const auto& [key, chosen] : call.request.components) {
    const auto pack = call.create<KernelPack>(key);
    const std::string reason = pack->unavailable();
    Array implementations;
    for (const OpImplementation& one : pack->implementations())
      implementations.emplace_back(one.op + " (" + one.name + ")");
    Table line;
    line.set("pack", chosen.component.qualified_name());
    line.set("doc", chosen.component.component->doc);
    line.set("runs_here", reason.empty() ? Value(true) : Value(reason));
    line.set("implementations", std::move(implementations));
    lines.emplace_back(std::move(line));
  }
  if (call.flag("json")) {
    std::puts(dump_json(Value(std::move(lines)), 1).c_str());
    return 0;
  }
  for (const Value& line : lines) {
    const Value& here = *line.find("runs_here");
    std::printf(
        "%s: %s\n  %s\n", line.find("pack")->as_string().c_str(),
        line.find("doc")->as_string().c_str(),
        here.is_bool() ? "runs on this machine" : ("can't run: " + here.as_string()).c_str());
    for (const Value& name : line.find("implementations")->as_array())
      std::printf("    %s\n", name.as_string().c_str());
  }
  return 0;
}

}  // namespace

int run_kernels(const EngineCall& call) {
  return call.text("action") == "list" ? list(call) : bench(call);
}

}  // namespace espalier
