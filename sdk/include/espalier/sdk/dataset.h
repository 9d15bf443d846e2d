#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/sdk/tokenizer.h"

namespace espalier {

/// One example. `labels` is as long as `input_ids`, -100 where nothing is to be learnt.
struct Sample {
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> labels;
  std::vector<std::int64_t> attention_mask;  ///< empty: all ones
  std::vector<std::int64_t> position_ids;    ///< empty: from the documents
  std::vector<std::int64_t>
      document_starts;  ///< places where a document begins; empty: one document
  /// False: labels[t] is the token at t. True: it is what the token at t has to predict, so that
  /// the last token of a text is a label and never an input.
  bool labels_shifted = false;
  /// Further numbers of the example ("desirable"); the same names in all samples of a dataset. A
  /// batch has each as a tensor [samples] float32 of that name.
  std::vector<std::pair<std::string, double>> numbers = {};
};

class Dataset;

/// What a dataset may use while it reads.
struct DatasetContext {
  std::shared_ptr<const Tokenizer> tokenizer;         ///< nullptr when the model folder has none
  std::shared_ptr<const ChatTemplate> chat_template;  ///< nullptr when the model folder has none
  std::string model_folder;                           ///< for messages
  std::uint64_t seed = 0;
  std::int64_t max_length =
      0;  ///< samples are cut to this many tokens; 0: the model's own limit is not known
  /// Makes and opens a dataset that this one's config names at `path` below it ("datasets[1]").
  std::function<std::shared_ptr<const Dataset>(const std::string& path)> open_part;
  std::string cache_folder;  ///< for files of tokens that a dataset wants to find again; "": none
  std::function<void(const std::string& line)> note;  ///< tells the user something; may be empty
};

/// A list of samples (map style), or a stream that never ends.
class ESPALIER_API Dataset {
 public:
  static constexpr InterfaceId kInterface{"Dataset", 2};
  static constexpr std::int64_t kEndless = std::numeric_limits<std::int64_t>::max();

  Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;
  virtual ~Dataset();

  /// Reads and checks the data; called once, before anything else. Throws Error(kBadInput) with
  /// file and line.
  virtual void open(const DatasetContext& context) = 0;
  /// kEndless for a stream, whose samples are asked for in rising order, give or take some threads.
  virtual std::int64_t size() const = 0;
  /// Sample `index` of [0, size). May be called from several threads at once; equal for equal
  /// arguments.
  virtual Sample get(std::int64_t index) const = 0;
  /// True when the order is part of the data: it is then never shuffled.
  virtual bool keeps_order() const { return false; }
  /// What the samples are made from besides config, tokenizer and template, when they are costly to
  /// make: their tokens may then be kept in a file for as long as these files stay what they are.
  /// Empty: not worth it.
  virtual std::vector<std::string> files() const { return {}; }
};

/// A micro-batch: named tensors as ModelInput takes them, and `labels` [batch, seq]; see
/// predicted_labels in batch.h.
struct Batch {
  std::unordered_map<std::string, at::Tensor> tensors;
  std::int64_t num_tokens = 0;        ///< without padding
  std::int64_t num_label_tokens = 0;  ///< positions that are predicted and count
  bool labels_shifted = false;        ///< labels are aligned with the positions that predict them
  std::vector<std::int64_t> samples;  ///< global sample numbers, for messages
  /// Stands in where this rank has fewer micro-batches than others: it is computed, so that all
  /// ranks take part in the same collectives, and counts nothing.
  bool filler = false;

  at::Tensor get(const std::string& name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() ? at::Tensor() : found->second;
  }
};

}  // namespace espalier
