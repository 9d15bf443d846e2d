#pragma once

#include <string>
#include <string_view>

#include "text/conversion/folder_config.h"

namespace espalier::text {

// Each gives the text of a tokenizer.json that makes the ids which transformers makes of the same
// files. `where` names the file in errors.

/// `tokenizer.model` of SentencePiece.
std::string convert_sentencepiece(std::string_view bytes, const std::string& where,
                                  const FolderConfig& config);

/// `tekken.json` of Mistral.
std::string convert_tekken(const std::string& path, const FolderConfig& config);

/// Lines of base64 and rank, as tiktoken has them.
std::string convert_tiktoken(std::string_view text, const std::string& where,
                             const FolderConfig& config);

/// `vocab.json` and `merges.txt` of GPT-2 and its relatives.
std::string convert_vocabulary_and_merges(const std::string& vocabulary, const std::string& merges,
                                          const FolderConfig& config);

/// `vocab.txt` of BERT and its relatives.
std::string convert_word_list(const std::string& path, const FolderConfig& config);

}  // namespace espalier::text
