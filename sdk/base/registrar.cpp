#include "espalier/base/registrar.h"

namespace espalier {

ComponentBuilder Registrar::add_descriptor(ComponentDescriptor component) {
  components_.push_back(std::make_unique<ComponentDescriptor>(std::move(component)));
  return ComponentBuilder(*components_.back());
}

}  // namespace espalier
