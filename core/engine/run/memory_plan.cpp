#include "engine/run/memory_plan.h"

#include "engine/run/machine.h"

namespace espalier {
namespace {

// Mapped libraries that are touched, allocator and thread pool: measured at start of a run with a
// tiny model.
constexpr std::int64_t kProgramBytes = 230'000'000;

/// Values that a pre-norm decoder layer with grouped-query attention and a gated MLP keeps for its
/// backward pass: of each token q, k, v and the output of attention; of each row of hidden states
/// both norms' inputs, the projections' inputs, gate, up and their product, and where tokens share
/// rows the output of attention once more.
std::int64_t activations(const ModelShape& shape, std::int64_t tokens, std::int64_t rows) {
  const std::int64_t query = shape.num_attention_heads * shape.head_dim;
  const std::int64_t key_value = shape.num_key_value_heads * shape.head_dim;
  const std::int64_t attention = 2 * query + 2 * key_value;
  const std::int64_t row = 4 * shape.hidden_size + 3 * shape.intermediate_size;
  return shape.num_layers * (tokens * attention + rows * (row + (rows < tokens ? query : 0))) +
         4 * shape.hidden_size * tokens;
}

}  // namespace

MemoryPlan plan_memory(const MemoryPlanInput& input) {
  MemoryPlan plan;
  plan.parameters = input.parameter_bytes;
  plan.gradients = input.trainable_bytes;
  plan.optimizer = input.optimizer_bytes;
  plan.activations = activations(input.shape, input.tokens, input.rows) * input.compute_bytes;
  // Logits, their float32 copy where the compute dtype is narrower, and the gradient of the same
  // size.
  const std::int64_t logit_copies = input.compute_bytes == 4 ? 2 : 3;
  plan.logits = input.label_tokens * input.shape.vocab_size * 4 * logit_copies;
  plan.program = kProgramBytes;
  plan.late_copies = 2 * input.tied_bytes;
  const std::int64_t head = input.shape.vocab_size * input.shape.hidden_size * 4;
  plan.early_gradients = input.accumulates ? plan.gradients : std::min(plan.gradients, head);
  return plan;
}

std::string MemoryPlan::to_string() const {
  return "parameters " + bytes_text(parameters) + ", gradients " + bytes_text(gradients) +
         ", optimizer " + bytes_text(optimizer) + ", activations " + bytes_text(activations) +
         ", logits " + bytes_text(logits) + ", program " + bytes_text(program) + ", total " +
         bytes_text(total());
}

Value MemoryPlan::to_value() const {
  Table table;
  table.set("parameters", parameters);
  table.set("gradients", gradients);
  table.set("optimizer", optimizer);
  table.set("activations", activations);
  table.set("logits", logits);
  table.set("program", program);
  table.set("total", total());
  return table;
}

}  // namespace espalier
