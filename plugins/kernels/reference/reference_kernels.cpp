// The reference of every op as a kernel pack: naming it keeps all other packs out.
#include "espalier/ops/reference.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

constexpr int kPriority = 1;  // above the table's own

class ReferenceKernels final : public KernelPack {
 public:
  std::string unavailable() const override { return {}; }
  std::vector<ops::OpImplementation> implementations() const override {
    std::vector<ops::OpImplementation> all = ops::reference_implementations();
    // Models use LibTorch's own attention where no pack has the op.
    std::erase_if(all, [](const auto& one) { return one.op == "document_attention"; });
    for (ops::OpImplementation& one : all) {
      one.name = "libtorch";
      one.priority = kPriority;
    }
    return all;
  }
};

void register_components(Registrar& registrar) {
  registrar.add<KernelPack, ReferenceKernels>(
      "reference", "LibTorch's own operations for everything: [kernels] type = \"reference\"");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.reference_kernels", "0.1.0", espalier::register_components)
