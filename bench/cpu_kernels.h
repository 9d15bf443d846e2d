#pragma once

#include "engine/run/component_library.h"
#include "espalier/ops/op.h"

namespace espalier {

/// Puts the kernels for this CPU, where it can run them, into the table of ops.
inline void use_cpu_kernels(ComponentLibrary& library) {
  const auto pack = library.create<KernelPack>("cpu_kernels");
  if (!pack->unavailable().empty()) return;
  for (ops::OpImplementation& one : pack->implementations())
    ops::OpTable::instance().add(std::move(one));
}

}  // namespace espalier
