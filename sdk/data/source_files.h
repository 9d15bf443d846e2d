#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/base/api.h"

namespace espalier {

/// The files that `paths` mean, in the order of `paths`, each name's files in alphabetical order:
/// - a file is itself;
/// - a name with `*`, `?` or `[...]` is every file that fits;
/// - a folder is every file below it whose name ends in one of `endings`, before `.gz` or `.zst`;
///   hidden ones are left out. Where names tell splits apart, only those of `split` are taken, by
///   Hugging Face's words: train or training; validation, valid, val or dev; test, testing or eval.
/// A split other than train needs a folder with such names. Throws Error(kBadInput) where a name
/// means no file or `paths` is empty, with all such names.
ESPALIER_API std::vector<std::string> find_data_files(const std::vector<std::string>& paths,
                                                      std::string_view split,
                                                      const std::vector<std::string>& endings);

/// `path` without .gz, .gzip, .zst or .zstd, in lower case: what its name says about its content.
ESPALIER_API std::string content_name(std::string_view path);

}  // namespace espalier
