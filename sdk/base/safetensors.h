#pragma once

#include <string>

#include "espalier/base/api.h"
#include "espalier/base/tensor_file.h"

namespace espalier {

/// A safetensors file, opened and checked: header length, UTF-8 and JSON, no repeated names, known
/// types, sizes that fit the shapes, and data that is covered without hole, overlap or trailing
/// bytes. Everything that the reference library refuses is an Error(kBadInput) with file and
/// tensor.
class ESPALIER_API SafetensorsFile : public TensorFile {
 public:
  explicit SafetensorsFile(std::string path);

 private:
  void read_header();
  void check_coverage();
};

}  // namespace espalier
