/* Poly-1 loss, -log p + epsilon (1 - p). Leng et al. 2022, "PolyLoss". */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "c_plugin.h"

typedef struct PolyLoss {
  double epsilon;
} PolyLoss;

static int32_t create(const EspalierCConfig* config, void** self, char* message, size_t size) {
  PolyLoss* loss = malloc(sizeof *loss);
  if (loss == NULL) {
    snprintf(message, size, "out of memory");
    return ESPALIER_C_FAILED;
  }
  loss->epsilon = config->values[0].number;
  *self = loss;
  return ESPALIER_C_OK;
}

static void destroy(void* self) { free(self); }

/* One row of logits in double. */
static size_t workspace(void* self, int64_t rows, int64_t vocab) {
  (void)self;
  (void)rows;
  return (size_t)vocab * sizeof(double);
}

static float from_bits(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

/* Rounds to the nearest bfloat16, halves to even. */
static uint16_t to_bits(float value) {
  uint32_t wide;
  memcpy(&wide, &value, sizeof wide);
  return (uint16_t)((wide + 0x7FFFU + ((wide >> 16) & 1U)) >> 16);
}

static int32_t compute(void* self, const EspalierCCall* call) {
  const double epsilon = ((const PolyLoss*)self)->epsilon;
  const EspalierCTensor* logits = &call->inputs[0]; /* [rows, vocab] */
  const int64_t* labels =
      (const int64_t*)((char*)call->inputs[1].data + call->inputs[1].byte_offset);
  const int is_bfloat = logits->dtype.code == ESPALIER_C_BFLOAT;
  if (!is_bfloat && logits->dtype.bits != 32) {
    snprintf(call->message, call->message_size, "logits of float16 are not served; use float32");
    return ESPALIER_C_UNSUPPORTED;
  }
  const int64_t rows = logits->shape[0];
  const int64_t vocab = logits->shape[1];
  const char* in = (const char*)logits->data + logits->byte_offset;
  char* gradient = call->outputs[1].data;
  double* row = call->workspace;
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    double largest = -INFINITY;
    for (int64_t v = 0; v < vocab; ++v) {
      const int64_t at = r * vocab + v;
      row[v] = is_bfloat ? from_bits(((const uint16_t*)in)[at]) : ((const float*)in)[at];
      if (row[v] > largest) largest = row[v];
    }
    double total = 0;
    for (int64_t v = 0; v < vocab; ++v) total += exp(row[v] - largest);
    const double log_p = row[labels[r]] - largest - log(total);
    const double p = exp(log_p);
    sum += -log_p + epsilon * (1 - p);
    if (gradient == NULL) continue;
    /* d/dlogit_v = (q_v - [v = label]) (1 + epsilon p), with q the softmax */
    for (int64_t v = 0; v < vocab; ++v) {
      const double q = exp(row[v] - largest) / total;
      const float g = (float)((q - (v == labels[r])) * (1 + epsilon * p));
      const int64_t at = r * vocab + v;
      if (is_bfloat)
        ((uint16_t*)gradient)[at] = to_bits(g);
      else
        ((float*)gradient)[at] = g;
    }
  }
  *(float*)call->outputs[0].data = (float)sum;
  return ESPALIER_C_OK;
}

static const double zero = 0;

static const EspalierCField fields[] = {{
    .struct_size = sizeof(EspalierCField),
    .name = "epsilon",
    .type = "float",
    .doc = "weight of 1 - p beside the cross entropy",
    .default_value = "1.0",
    .minimum = &zero,
}};

const EspalierCLoss poly_loss = {
    .struct_size = sizeof(EspalierCLoss),
    .name = "poly",
    .doc = "cross entropy with a linear term in p",
    .num_fields = 1,
    .fields = fields,
    .create = create,
    .destroy = destroy,
    .workspace = workspace,
    .compute = compute,
};
