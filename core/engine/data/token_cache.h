#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "espalier/sdk/dataset.h"

namespace espalier {

struct TokenCacheOptions {
  std::string folder;  ///< made when it is not there
  /// What the samples are made from besides the dataset's files: files of tokenizer and template,
  /// and texts such as the dataset's config.
  std::vector<std::string> files;
  std::vector<std::string> texts;
  std::function<void(const std::string& line)> note;  ///< told why a cache is not used
  bool makes_file = true;                             ///< false: another process of this host does
};

/// The same samples out of a file that an earlier run left, mapped into memory. Where there is none
/// that fits, samples are made by `dataset` as before, and a thread writes the file meanwhile: it
/// appears whole or not at all, and when it can't be written a note says so and the run goes on.
/// Of several processes of a host one makes the file.
/// A dataset that names no files is given back as it is. Throws Error(kIo) when a file that
/// samples are made from can't be read.
ESPALIER_API std::shared_ptr<const Dataset> with_token_cache(std::shared_ptr<const Dataset> dataset,
                                                             const TokenCacheOptions& options);

/// A sample as numbers, and back.
ESPALIER_API std::vector<std::int32_t> sample_to_numbers(const Sample& sample);
ESPALIER_API Sample sample_from_numbers(std::span<const std::int32_t> numbers);

}  // namespace espalier
