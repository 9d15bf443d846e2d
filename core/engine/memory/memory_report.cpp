#include "engine/memory/memory_report.h"

#include "engine/memory/caching_allocator.h"

namespace espalier {

Value memory_by_purpose() {
  if (!CachingAllocator::installed()) return {};
  const MemoryUse use = CachingAllocator::instance().use();
  Table table;
  for (std::size_t i = 0; i < kMemoryPurposes; ++i)
    table.set(memory_purpose_name(static_cast<MemoryPurpose>(i)), use.peak[i]);
  table.set("total", use.total_peak);
  table.set("reserved", use.reserved);
  return table;
}

void count_gradients(const std::vector<std::shared_ptr<Parameter>>& parameters) {
  if (!CachingAllocator::installed()) return;
  for (const auto& parameter : parameters) {
    const at::Tensor& gradient = parameter->value().grad();
    if (gradient.defined() && gradient.is_cpu())
      CachingAllocator::instance().retag(gradient.storage().data_ptr(), MemoryPurpose::kGradients);
  }
}

}  // namespace espalier
