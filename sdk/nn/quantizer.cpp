#include "espalier/nn/quantizer.h"

namespace espalier {

Quantizer::~Quantizer() = default;

}  // namespace espalier
