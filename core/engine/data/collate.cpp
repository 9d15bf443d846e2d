#include "engine/data/collate.h"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>

#include "espalier/base/error.h"
#include "espalier/sdk/batch.h"

namespace espalier {
namespace {

std::int64_t length_of(const Row& row) {
  std::int64_t length = 0;
  for (const Sample& sample : row) length += static_cast<std::int64_t>(sample.input_ids.size());
  return length;
}

/// Boundaries of the documents of a row: 0, ..., its length.
std::vector<std::int64_t> boundaries_of(const Row& row) {
  std::vector<std::int64_t> boundaries;
  std::int64_t begin = 0;
  for (const Sample& sample : row) {
    boundaries.push_back(begin);
    for (const std::int64_t start : sample.document_starts) {
      if (start > 0) boundaries.push_back(begin + start);
    }
    begin += static_cast<std::int64_t>(sample.input_ids.size());
  }
  boundaries.push_back(begin);
  return boundaries;
}

void copy_row(const Row& row, std::vector<std::int64_t> Sample::*list, std::int64_t fallback,
              std::int64_t* out) {
  for (const Sample& sample : row) {
    const std::vector<std::int64_t>& values = sample.*list;
    out = values.empty() ? std::fill_n(out, sample.input_ids.size(), fallback)
                         : std::copy(values.begin(), values.end(), out);
  }
}

/// Positions that samples bring, and those inside each document for the other samples.
void copy_positions(const Row& row, std::int64_t* out) {
  for (const Sample& sample : row) {
    if (!sample.position_ids.empty()) {
      out = std::copy(sample.position_ids.begin(), sample.position_ids.end(), out);
      continue;
    }
    std::int64_t position = 0;
    auto start = sample.document_starts.begin();
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(sample.input_ids.size()); ++i) {
      const bool begins = start != sample.document_starts.end() && *start == i;
      if (begins) ++start;
      position = begins ? 0 : position;
      *out++ = position++;
    }
  }
}

/// Labels aligned with the tokens that predict them; none is predicted across the start of a
/// document or from padding.
std::vector<std::int64_t> shifted_labels_of(const Sample& sample) {
  if (sample.labels_shifted || sample.labels.empty()) return sample.labels;
  std::vector<std::int64_t> shifted(sample.labels.begin() + 1, sample.labels.end());
  shifted.push_back(kIgnoredLabel);
  for (const std::int64_t start : sample.document_starts) {
    if (start > 0) shifted[static_cast<std::size_t>(start - 1)] = kIgnoredLabel;
  }
  for (std::size_t i = 1; i < sample.attention_mask.size(); ++i) {
    if (sample.attention_mask[i] == 0 || sample.attention_mask[i - 1] == 0)
      shifted[i - 1] = kIgnoredLabel;
  }
  for (std::size_t i = 1; i < sample.position_ids.size(); ++i) {
    if (sample.position_ids[i] == 0 && sample.document_starts.empty())
      shifted[i - 1] = kIgnoredLabel;
  }
  return shifted;
}

void copy_labels(const Row& row, bool shifted, std::int64_t* out) {
  for (const Sample& sample : row) {
    const std::vector<std::int64_t> labels = shifted ? shifted_labels_of(sample) : sample.labels;
    out = std::copy(labels.begin(), labels.end(), out);
  }
}

at::Tensor cu_seqlens_of(std::span<const Row> rows) {
  std::vector<std::vector<std::int64_t>> boundaries;
  std::size_t longest = 0;
  for (const Row& row : rows)
    longest = std::max(longest, boundaries.emplace_back(boundaries_of(row)).size());
  at::Tensor tensor = at::zeros(
      {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(longest)}, at::kLong);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    boundaries[r].resize(longest, boundaries[r].back());
    std::copy(boundaries[r].begin(), boundaries[r].end(),
              tensor.data_ptr<std::int64_t>() + r * longest);
  }
  return tensor;
}

/// Positions begin anew in each document: its length is what a model limits.
std::int64_t longest_document(const Sample& sample) {
  std::int64_t longest = 0;
  std::int64_t begin = 0;
  for (const std::int64_t start : sample.document_starts) {
    longest = std::max(longest, start - begin);
    begin = start;
  }
  return std::max(longest, static_cast<std::int64_t>(sample.input_ids.size()) - begin);
}

}  // namespace

void check_and_cut(Sample& sample, std::int64_t number, std::int64_t max_length) {
  const std::size_t length = sample.input_ids.size();
  const auto fits = [&](const std::vector<std::int64_t>& list) {
    return list.empty() || list.size() == length;
  };
  if (sample.labels.size() != length || !fits(sample.attention_mask) ||
      !fits(sample.position_ids)) {
    throw Error(Problem{
        ErrorCode::kBadPlugin,
        "a dataset made a sample whose lists differ in length",
        std::to_string(length) + " input_ids, " + std::to_string(sample.labels.size()) + " labels",
        "one label for each token",
        "sample " + std::to_string(number),
        {}});
  }
  if (max_length <= 0 || longest_document(sample) <= max_length) return;
  for (auto* list :
       {&sample.input_ids, &sample.labels, &sample.attention_mask, &sample.position_ids}) {
    if (!list->empty()) list->resize(static_cast<std::size_t>(max_length));
  }
  std::erase_if(sample.document_starts, [&](std::int64_t start) { return start >= max_length; });
}

namespace {

/// The further numbers of samples, [samples] each.
void add_numbers(std::span<const Row> rows, Batch& batch) {
  std::map<std::string, std::vector<float>> lists;
  std::size_t samples = 0;
  for (const Row& row : rows) {
    for (const Sample& sample : row) {
      ++samples;
      for (const auto& [name, value] : sample.numbers)
        lists[name].push_back(static_cast<float>(value));
    }
  }
  for (const auto& [name, list] : lists) {
    if (list.size() == samples && !batch.tensors.contains(name)) {
      batch.tensors.emplace(name, at::tensor(list, at::kFloat));
      continue;
    }
    throw Error(Problem{
        ErrorCode::kBadPlugin,
        "a dataset made samples with different numbers",
        "'" + name + "' in " + std::to_string(list.size()) + " of " + std::to_string(samples),
        "each name in all samples, and none of a batch's own tensors",
        {},
        {}});
  }
}

Batch collate_rows(std::span<const Row> rows, const CollateOptions& options) {
  Batch batch;
  std::int64_t width = 1;
  bool several_documents = false;
  bool own_positions = false;
  bool masked = false;
  for (const Row& row : rows) {
    width = std::max(width, length_of(row));
    several_documents = several_documents || row.size() > 1;
    for (const RowSample& sample : row) {
      if (sample.index >= 0) batch.samples.push_back(sample.index);
      several_documents = several_documents || !sample.document_starts.empty();
      own_positions = own_positions || !sample.position_ids.empty();
      masked = masked || !sample.attention_mask.empty();
      batch.labels_shifted = batch.labels_shifted || sample.labels_shifted;
    }
  }
  const std::int64_t multiple = std::max<std::int64_t>(1, options.pad_seq_len_divisible);
  width = (width + multiple - 1) / multiple * multiple;
  const auto count = static_cast<std::int64_t>(rows.size());
  at::Tensor ids = at::full({count, width}, options.pad_id, at::kLong);
  at::Tensor labels = at::full({count, width}, kIgnoredLabel, at::kLong);
  at::Tensor mask = at::zeros({count, width}, at::kLong);
  at::Tensor positions = at::zeros({count, width}, at::kLong);
  for (std::int64_t r = 0; r < count; ++r) {
    const Row& row = rows[static_cast<std::size_t>(r)];
    const std::int64_t offset = r * width;
    copy_row(row, &Sample::input_ids, options.pad_id, ids.data_ptr<std::int64_t>() + offset);
    copy_labels(row, batch.labels_shifted, labels.data_ptr<std::int64_t>() + offset);
    copy_row(row, &Sample::attention_mask, 1, mask.data_ptr<std::int64_t>() + offset);
    if (own_positions) copy_positions(row, positions.data_ptr<std::int64_t>() + offset);
    masked = masked || length_of(row) < width;
  }
  batch.tensors = {{"input_ids", ids}, {"labels", labels}};
  if (masked) batch.tensors.emplace("attention_mask", mask);
  if (own_positions) batch.tensors.emplace("position_ids", positions);
  if (several_documents) batch.tensors.emplace("cu_seqlens", cu_seqlens_of(rows));
  add_numbers(rows, batch);
  const TokenLayout layout = make_layout({batch.tensors});
  batch.num_tokens = layout.tokens();
  batch.num_label_tokens = predicted_labels(layout, labels, batch.labels_shifted)
                               .ne(kIgnoredLabel)
                               .sum()
                               .item<std::int64_t>();
  return batch;
}

}  // namespace

Batch collate(std::span<const Row> rows, const CollateOptions& options) {
  if (!options.padding_free || rows.size() < 2) return collate_rows(rows, options);
  Row joined;
  for (const Row& row : rows) joined.insert(joined.end(), row.begin(), row.end());
  return collate_rows(std::span(&joined, 1), options);
}

}  // namespace espalier
