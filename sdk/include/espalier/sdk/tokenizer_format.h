#pragma once

#include <memory>
#include <string>

#include "espalier/base/api.h"
#include "espalier/base/registrar.h"
#include "espalier/base/value.h"
#include "espalier/sdk/tokenizer.h"

namespace espalier {

/// What a tokenizer is made from.
struct TokenizerFiles {
  std::string folder;  ///< the model folder
  /// Path of the file in it that the manifest entry serves; empty where the format was chosen by
  /// the tokenizer's class or by name, and no such file is there.
  std::string file;
  /// Texts by role ("bos_token" to "<s>", ...), from tokenizer_config.json and then
  /// special_tokens_map.json. A role that neither names is absent.
  Table special_tokens;
};

/// Makes tokenizers of a kind that the host does not know itself. Its manifest entry says which
/// model folders it is for, so that one is found before any code runs:
///
///     .serves("files", {"vocab.words", "*.rwkv"})           // names, with '*' and '?'
///     .serves("magic", {"574f5244"})                        // how such a file begins, in hex
///     .serves("tokenizer_classes", {"ByT5Tokenizer"})       // of tokenizer_config.json
///
/// It is asked where the host's own kinds of files are not in the folder, or where the recipe names
/// it (`model.tokenizer`). No LibTorch is needed: a plugin built with NO_TORCH serves `espalier
/// tokenize` in milliseconds. `open` may be called from several threads at once.
class ESPALIER_API TokenizerFormat {
 public:
  static constexpr InterfaceId kInterface{"TokenizerFormat", 1};

  TokenizerFormat() = default;
  TokenizerFormat(const TokenizerFormat&) = delete;
  TokenizerFormat& operator=(const TokenizerFormat&) = delete;
  virtual ~TokenizerFormat();

  /// Reads the files; the tokenizer needs neither them nor this object afterwards. Never null.
  /// Throws Error(kBadInput) that names the file and what is wrong with it.
  virtual std::shared_ptr<const Tokenizer> open(const TokenizerFiles& files) const = 0;
};

}  // namespace espalier
