#include "engine/generate/text_runner.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "espalier/base/error.h"

namespace espalier {

TextRunner::TextRunner(Model& model) : model_(model) { model_.set_training(false); }

at::Tensor TextRunner::read(const std::vector<std::vector<std::int64_t>>& pieces) {
  const at::NoGradGuard no_grad;
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> ends = {0};
  for (const std::vector<std::int64_t>& piece : pieces) {
    ids.insert(ids.end(), piece.begin(), piece.end());
    ends.push_back(static_cast<std::int64_t>(ids.size()));
  }
  ModelInput input;
  input.tensors.emplace("input_ids", at::tensor(ids, at::kLong).unsqueeze(0));
  input.tensors.emplace("cu_seqlens", at::tensor(ends, at::kLong));
  input.cache = cache_.get();
  const ModelOutput output = model_.forward(input);
  std::vector<std::int64_t> last(ends.begin() + 1, ends.end());
  for (std::int64_t& row : last) --row;
  const auto scope = model_.head().scope();
  return model_.head()
      .project(
          output.hidden.index_select(0, at::tensor(last, at::kLong).to(output.hidden.device())))
      .cpu();
}

bool TextRunner::continues(const std::vector<std::vector<std::int64_t>>& texts) const {
  return cache_ != nullptr && texts.size() == 1 && texts_.size() == 1 &&
         texts[0].size() > texts_[0].size() &&
         std::equal(texts_[0].begin(), texts_[0].end(), texts[0].begin());
}

at::Tensor TextRunner::start(const std::vector<std::vector<std::int64_t>>& texts) {
  for (const std::vector<std::int64_t>& text : texts) {
    if (text.empty()) {
      throw_bad_input("the prompt has no tokens", {}, "at least one", "the prompt",
                      "this tokenizer adds no token at the start; give some text");
    }
  }
  std::vector<std::vector<std::int64_t>> pieces = texts;
  if (continues(texts)) {
    pieces[0].erase(pieces[0].begin(),
                    pieces[0].begin() + static_cast<std::ptrdiff_t>(texts_[0].size()));
  } else {
    cache_ = model_.make_cache();
  }
  texts_.clear();  // while a pass fails the cache is of no text
  at::Tensor logits = read(pieces);
  texts_ = texts;
  return logits;
}

at::Tensor TextRunner::append(const std::vector<std::int64_t>& ids) {
  ESPALIER_ASSERT(ids.size() == texts_.size(), "a step appends one token to each text");
  std::vector<std::vector<std::int64_t>> pieces;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    texts_[i].push_back(ids[i]);
    pieces.push_back({ids[i]});
  }
  return read(cache_ != nullptr ? pieces : texts_);
}

void TextRunner::select(const std::vector<std::int64_t>& texts) {
  std::vector<std::vector<std::int64_t>> kept;
  kept.reserve(texts.size());
  for (const std::int64_t text : texts) kept.push_back(texts_[static_cast<std::size_t>(text)]);
  texts_ = std::move(kept);
  if (cache_ != nullptr) cache_->reorder(texts);
}

}  // namespace espalier
