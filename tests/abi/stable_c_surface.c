/* Everything that crosses the boundary of the stable tier, so that its layout is in one library. */
#include "espalier/sdk/stable_c.h"

__attribute__((visibility("default"))) int32_t espalier_c_surface(
    const struct EspalierPluginDescriptor* descriptor, const EspalierCRegistrar* registrar,
    const EspalierCLoss* loss, const EspalierCKernelPack* pack, const EspalierCConfig* config,
    const EspalierCField* field, const EspalierCShape* shape, const EspalierCCall* call) {
  return descriptor != NULL && registrar != NULL && loss != NULL && pack != NULL && config != NULL &&
         field != NULL && shape != NULL && call != NULL;
}
