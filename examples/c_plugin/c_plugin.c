/* A plugin of the stable tier: a loss and a kernel pack in C. It links nothing of Espalier. */
#include "c_plugin.h"

static const EspalierCKernel* const kernels[] = {&silu_gate};

static const EspalierCKernelPack pack = {
    .struct_size = sizeof(EspalierCKernelPack),
    .name = "c_kernels",
    .doc = "SiLU gating in C",
    .device_type = ESPALIER_C_CPU,
    .num_kernels = 1,
    .kernels = kernels,
};

static int32_t register_components(const EspalierCRegistrar* registrar, char* message,
                                   size_t size) {
  (void)message;
  (void)size;
  int32_t code = registrar->license(registrar->host, "Apache-2.0");
  if (code == ESPALIER_C_OK) code = registrar->add_loss(registrar->host, &poly_loss);
  if (code == ESPALIER_C_OK) code = registrar->add_kernel_pack(registrar->host, &pack);
  return code;
}

ESPALIER_C_PLUGIN("example.c_plugin", "1.0.0", register_components)
