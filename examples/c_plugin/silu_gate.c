/* y = silu(gate) * up in one pass, float32 on the CPU; op "gated_activation"
 * (espalier/ops/gated_activation.h). */
#include <math.h>

#include "c_plugin.h"

enum { kSilu = 0 };

static float* values(const EspalierCTensor* tensor) {
  return tensor->data == NULL ? NULL : (float*)((char*)tensor->data + tensor->byte_offset);
}

static int64_t elements(const EspalierCTensor* tensor) {
  int64_t count = 1;
  for (int32_t d = 0; d < tensor->ndim; ++d) count *= tensor->shape[d];
  return count;
}

static int32_t supports(const EspalierCCall* call) {
  for (size_t i = 0; i < 2; ++i) {
    const EspalierCDataType type = call->inputs[i].dtype;
    if (type.code != ESPALIER_C_FLOAT || type.bits != 32) return 0;
  }
  return call->integers[0] == kSilu;
}

static int32_t describe(const EspalierCCall* call, EspalierCShape* shapes) {
  const EspalierCTensor* gate = &call->inputs[0];
  shapes[0].ndim = gate->ndim;
  shapes[0].dtype = gate->dtype;
  for (int32_t d = 0; d < gate->ndim; ++d) shapes[0].sizes[d] = gate->shape[d];
  return ESPALIER_C_OK;
}

static int32_t forward(const EspalierCCall* call) {
  const float* g = values(&call->inputs[0]);
  const float* u = values(&call->inputs[1]);
  float* y = values(&call->outputs[0]);
  const int64_t count = elements(&call->inputs[0]);
  for (int64_t i = 0; i < count; ++i) y[i] = g[i] / (1 + expf(-g[i])) * u[i];
  return ESPALIER_C_OK;
}

/* inputs: gate, up, dy; outputs: dgate, dup */
static int32_t backward(const EspalierCCall* call) {
  const float* g = values(&call->inputs[0]);
  const float* u = values(&call->inputs[1]);
  const float* dy = values(&call->inputs[2]);
  float* dg = values(&call->outputs[0]);
  float* du = values(&call->outputs[1]);
  const int64_t count = elements(&call->inputs[0]);
  for (int64_t i = 0; i < count; ++i) {
    const float s = 1 / (1 + expf(-g[i]));
    if (dg != NULL) dg[i] = dy[i] * u[i] * s * (1 + g[i] * (1 - s));
    if (du != NULL) du[i] = dy[i] * g[i] * s;
  }
  return ESPALIER_C_OK;
}

const EspalierCKernel silu_gate = {
    .struct_size = sizeof(EspalierCKernel),
    .op = "gated_activation",
    .name = "c",
    .priority = 5,
    .num_outputs = 1,
    .num_saved = 0,
    .supports = supports,
    .describe = describe,
    .forward = forward,
    .backward = backward,
};
