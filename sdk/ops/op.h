#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"

namespace espalier::ops {

using Tensors = std::vector<at::Tensor>;

/// Scalar arguments of an op, by position; each op documents its own.
struct OpAttributes {
  std::array<double, 4> numbers{};
  std::array<std::int64_t, 4> integers{};
};

/// What an implementation keeps between forward and backward.
struct Saved {
  Tensors tensors;
};

/// One implementation of a named op: forward and backward declared together, with what they save.
/// All tensors of a call are on one device. Backward returns one gradient per input, undefined
/// where `needs_grad` is false. Inputs are borrowed and stay as they are. Forward runs on the
/// thread of the caller, backward on that of autograd, so the functions keep nothing but what is in
/// `Saved`.
struct OpImplementation {
  std::string op;    ///< "rms_norm"
  std::string name;  ///< "reference", "avx512", ...
  int priority = 0;  ///< the highest that supports a call is taken; the reference has 0
  std::function<bool(const Tensors& inputs, const OpAttributes&)> supports;  ///< empty: always
  std::function<Tensors(const Tensors& inputs, const OpAttributes&, Saved&)> forward;
  std::function<Tensors(const Saved&, const OpAttributes&, const Tensors& grad_outputs,
                        const std::vector<bool>& needs_grad)>
      backward;
};

/// The table of all known implementations. Filled while plugins load, before any model runs;
/// read-only afterwards.
class ESPALIER_API OpTable {
 public:
  static OpTable& instance();

  /// While plugins load, by one thread.
  void add(OpImplementation implementation);
  /// Of those that support the call the one of the highest priority. Lives as long as the table.
  const OpImplementation& select(std::string_view op, const Tensors& inputs,
                                 const OpAttributes& attributes) const;
  const std::vector<OpImplementation>& implementations() const { return implementations_; }

 private:
  OpTable();
  std::vector<OpImplementation> implementations_;
};

/// Runs an op through the table, recorded for autograd where an input needs a gradient.
ESPALIER_API Tensors call(std::string_view op, Tensors inputs, const OpAttributes& attributes);

}  // namespace espalier::ops

namespace espalier {

/// A set of op implementations for one kind of machine. Asked once while plugins load, by one
/// thread; what it returns outlives it.
class ESPALIER_API KernelPack {
 public:
  static constexpr InterfaceId kInterface{"KernelPack", 1};

  KernelPack() = default;
  KernelPack(const KernelPack&) = delete;
  KernelPack& operator=(const KernelPack&) = delete;
  virtual ~KernelPack();

  /// Empty when the machine can run this pack, otherwise the reason why not.
  virtual std::string unavailable() const = 0;
  virtual std::vector<ops::OpImplementation> implementations() const = 0;
};

}  // namespace espalier
