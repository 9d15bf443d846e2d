#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/base/value.h"

namespace espalier {

/// What a dataset's plugin says of the data that it reads, in its property `recognises`: a list of
/// tables with
/// - `fields`: keys that every record has, or `endings`: of the file's name; `beside`: the ending
/// of
///   a file that lies beside it;
/// - `settings`: of the dataset, where "{path}" stands for the data, "{stem}" for its name without
///   the ending and "{length}" for tokens of a sample; without it, path;
/// - `sections`: further sections of the recipe that such data needs;
/// - `adapter`: true where what is learnt compares the model with itself before training, so that
/// an
///   adapter is trained beside it;
/// - `label`: the field that holds the label of a record, or the list of those of its words.
struct DataPattern {
  std::string component;  ///< key of the candidate that it belongs to
  std::vector<std::string> fields;
  std::vector<std::string> endings;
  std::string beside;
  Value settings;
  Value sections;
  std::string label;
  bool adapter = false;

  static DataPattern from_value(const std::string& component, const Value& value);
  /// "messages", "text and label", ".bin" for messages.
  std::string to_string() const;
};

/// The first records of some data.
struct DataSketch {
  std::string file;  ///< the first
  std::size_t files = 1;
  std::vector<std::string> fields;  ///< of every record that was looked at
  std::string no_records;           ///< why it can't be read as records; empty: it can
};

/// Looks at a file, folder or pattern with * and ?. Throws Error(kBadInput) when it means no file.
DataSketch sketch_data(const std::string& path, const std::vector<DataPattern>& patterns);

/// The pattern that fits and asks for most. Throws Error(kBadInput), with what was found and what
/// is known, when there is none.
const DataPattern& recognise(const DataSketch& sketch, const std::vector<DataPattern>& patterns,
                             const std::string& path);

/// Labels of the records of a file, each once: numbers, or names in alphabetical order.
struct LabelSet {
  std::int64_t count = 0;
  std::vector<std::string> names;  ///< empty: the labels are numbers
};
LabelSet labels_of(const std::string& file, const std::string& field);

}  // namespace espalier
