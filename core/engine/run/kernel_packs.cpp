#include "engine/run/kernel_packs.h"

#include <algorithm>

#include "espalier/base/error.h"
#include "espalier/ops/op.h"

namespace espalier {

void use_kernel_packs(const EngineCall& call) {
  const std::string section = kKernelsSection;
  for (const auto& [key, chosen] : call.request.components) {
    const bool named = key == section;
    if (!named && !key.starts_with(section + ".")) continue;
    const auto pack = call.create<KernelPack>(key);
    if (const std::string reason = pack->unavailable(); !reason.empty()) {
      if (!named) continue;
      throw Error(Problem{ErrorCode::kUnsupported,
                          "the kernel pack can't run on this machine",
                          reason,
                          {},
                          "[kernels]",
                          "leave the section out to use those that can"});
    }
    for (ops::OpImplementation& implementation : pack->implementations())
      ops::OpTable::instance().add(std::move(implementation));
  }
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const ops::OpImplementation& one : ops::OpTable::instance().implementations()) {
    if (one.priority > 0 && std::find(names.begin(), names.end(), one.name) == names.end())
      names.push_back(one.name);
  }
  return names;
}

}  // namespace espalier
