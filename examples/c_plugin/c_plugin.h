#ifndef C_PLUGIN_H
#define C_PLUGIN_H

#include "espalier/sdk/stable_c.h"

extern const EspalierCLoss poly_loss;
extern const EspalierCKernel silu_gate;

#endif
