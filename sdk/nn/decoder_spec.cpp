#include "espalier/nn/decoder_spec.h"

#include <utility>

namespace espalier::nn {

LayerSpec DecoderSpec::layer(std::int64_t index) const {
  if (!layers.empty()) return layers.at(static_cast<std::size_t>(index));
  LayerSpec same;
  if (!rotary.empty()) same.rotary = 0;
  return same;
}

Dimension dimension(const char* axis, std::int64_t size, std::int64_t unit) {
  return {{{axis, size, unit}}};
}

std::unique_ptr<Linear> make_linear(const ModuleScope& scope, const DecoderSpec& spec,
                                    const std::string& name, Dimension out, Dimension in,
                                    bool bias) {
  return std::make_unique<Linear>(
      scope.child(name), LinearSpec{std::move(out), std::move(in), bias, spec.transposed_linears,
                                    spec.initializer_range});
}

}  // namespace espalier::nn
