#include "answer_scores.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>

#include "espalier/base/error.h"

namespace espalier {
namespace {

/// Number of the document that each flat token is in, [tokens] int64.
at::Tensor document_of_token(const TokenLayout& layout) {
  at::Tensor documents = at::empty({layout.tokens()}, at::kLong);
  auto* data = documents.data_ptr<std::int64_t>();
  for (std::size_t d = 0; d + 1 < layout.document_starts.size(); ++d) {
    std::fill(data + layout.document_starts[d], data + layout.document_starts[d + 1],
              static_cast<std::int64_t>(d));
  }
  return documents;
}

/// Every second one from `first` on.
at::Tensor every_second(const at::Tensor& values, std::int64_t first) {
  return values.reshape({-1, 2}).select(1, first);
}

}  // namespace

std::int64_t count_pairs(const Batch& batch) {
  const std::int64_t documents = make_layout({batch.tensors}).documents();
  if (batch.get("cu_seqlens").defined() && documents % 2 == 0) return documents / 2;
  throw_bad_input("the batch is not made of pairs of answers",
                  std::to_string(documents) + " conversations",
                  "a chosen and a rejected conversation in each sample", "[dataset]",
                  "use a dataset of preferences; where conversations are long, set its max_length");
}

DocumentScores score_documents(Model& model, const Batch& batch) {
  const ModelOutput output = model.forward({batch.tensors});
  const at::Tensor all = predicted_labels(output.layout, batch.get("labels"), batch.labels_shifted);
  const at::Tensor rows = all.ne(kIgnoredLabel).nonzero().squeeze(-1);
  const at::Tensor labels = all.index_select(0, rows);
  const auto scope = model.head().scope();
  const at::Tensor logits =
      model.head().project(output.hidden.index_select(0, rows)).to(at::kFloat);
  const at::Tensor scores =
      logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - at::logsumexp(logits, {-1});  // [rows]
  const at::Tensor documents = document_of_token(output.layout).index_select(0, rows);
  const at::Tensor zeros = at::zeros({output.layout.documents()}, scores.options());
  const at::Tensor sums = zeros.index_add(0, documents, scores);
  const at::Tensor tokens = zeros.index_add(0, documents, at::ones_like(scores.detach()));
  return {sums, tokens};
}

AnswerScores score_answers(Model& model, const Batch& batch) {
  const DocumentScores scores = score_documents(model, batch);
  return {every_second(scores.sums, 0), every_second(scores.sums, 1),
          every_second(scores.tokens, 0), every_second(scores.tokens, 1)};
}

}  // namespace espalier
