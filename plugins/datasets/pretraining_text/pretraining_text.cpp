// Text for pre-training: documents, one after the other, cut into samples of equal length.
#include <algorithm>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/data_file.h"
#include "espalier/data/prompt_answer.h"
#include "espalier/data/record_dataset.h"
#include "espalier/data/record_files.h"
#include "espalier/data/sample_length.h"
#include "espalier/data/source_files.h"
#include "espalier/data/split_slice.h"
#include "espalier/data/token_file.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

constexpr std::int64_t kDocumentsAtOnce = 1024;
/// Counts up when documents are tokenised otherwise.
constexpr const char* kFormat = "documents 1";

struct PretrainingTextConfig {
  std::vector<std::string> path;
  std::string split = "train";
  std::optional<std::int64_t> limit_documents;
  std::int64_t seq_length = 0;
  std::string column = "text";
  std::string document = "line";
  bool add_eos = true;
  bool add_bos = false;
  bool reset_attention = false;

  static ConfigSchema<PretrainingTextConfig> schema() {
    return ConfigSchema<PretrainingTextConfig>()
        .field("path", &PretrainingTextConfig::path,
               "file, folder or pattern with * and ?, or a list of them: JSON Lines, JSON, CSV, or "
               "plain text in .txt and .md files")
        .or_single()
        .required()
        .field("split", &PretrainingTextConfig::split, "part of the documents, as in train[:99%]")
        .field("limit_documents", &PretrainingTextConfig::limit_documents,
               "use this many documents")
        .more_than(0)
        .field("seq_length", &PretrainingTextConfig::seq_length, "tokens of a sample")
        .at_least(2)
        .required()
        .field("column", &PretrainingTextConfig::column,
               "key or column of the text in JSON and CSV")
        .field("document", &PretrainingTextConfig::document,
               "what a document is in a plain text file")
        .one_of({"line", "file"})
        .field("add_eos", &PretrainingTextConfig::add_eos,
               "end each document with the end-of-text token")
        .field("add_bos", &PretrainingTextConfig::add_bos,
               "begin each document with the begin-of-text token")
        .field("reset_attention", &PretrainingTextConfig::reset_attention,
               "documents that share a sample don't see each other");
  }
};

/// A plain text file: a document a line, blank ones left out, or one document.
class PlainText final : public RecordSource {
 public:
  PlainText(DataFile file, bool whole, std::string column)
      : file_(std::move(file)), column_(std::move(column)) {
    std::string_view rest = file_.text();
    std::size_t line = 1;
    while (!rest.empty()) {
      const std::size_t end = whole ? rest.size() : std::min(rest.find('\n'), rest.size());
      if (const std::string_view text = stripped(rest.substr(0, end)); !text.empty())
        documents_.push_back({text, line});
      rest.remove_prefix(std::min(end + 1, rest.size()));
      ++line;
    }
    if (documents_.empty())
      throw_bad_input("the file has no text", "nothing but white space", "text", file_.path());
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(documents_.size()); }
  Value record(std::int64_t index) const override {
    Table table;
    table.set(column_, documents_[static_cast<std::size_t>(index)].text);
    return table;
  }
  std::string where(std::int64_t index) const override {
    return file_.path() + ":" + std::to_string(documents_[static_cast<std::size_t>(index)].line);
  }

 private:
  struct Document {
    std::string_view text;
    std::size_t line = 0;
  };

  DataFile file_;
  std::string column_;
  std::vector<Document> documents_;
};

class PretrainingText final : public Dataset {
 public:
  using Config = PretrainingTextConfig;
  explicit PretrainingText(Config config) : config_(std::move(config)) {}

  void open(const DatasetContext& context) override {
    tokenizer_ = require_tokenizer(context);
    require_token(config_.add_eos, tokenizer_->eos_id(), "eos_token", "add_eos", context);
    require_token(config_.add_bos, tokenizer_->bos_id(), "bos_token", "add_bos", context);
    if (!context.cache_folder.empty()) {
      open_cached(context);
    } else {
      tokenize([this](const std::vector<std::int32_t>& tokens) {
        begins_.push_back(begins_.back() + static_cast<std::int64_t>(tokens.size()));
        kept_.insert(kept_.end(), tokens.begin(), tokens.end());
      });
      all_ = kept_;
    }
    if (size() == 0) {
      throw_bad_input("the documents are shorter than one sample",
                      std::to_string(all_.size()) + " tokens in " +
                          std::to_string(begins_.size() - 1) + " documents",
                      std::to_string(config_.seq_length) + " tokens, the seq_length", "path",
                      "use more text or a shorter seq_length");
    }
  }

  std::int64_t size() const override {
    return static_cast<std::int64_t>(all_.size()) / config_.seq_length;
  }

  Sample get(std::int64_t index) const override {
    ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
    const std::int64_t begin = index * config_.seq_length;
    const auto tokens =
        all_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(config_.seq_length));
    Sample sample;
    sample.input_ids.assign(tokens.begin(), tokens.end());
    sample.labels = sample.input_ids;
    if (!config_.reset_attention) return sample;
    auto start = std::upper_bound(begins_.begin(), begins_.end(), begin);
    sample.document_starts.push_back(0);
    for (; start != begins_.end() && *start < begin + config_.seq_length; ++start) {
      if (sample.document_starts.back() != *start - begin)
        sample.document_starts.push_back(*start - begin);
    }
    return sample;
  }

 private:
  static void require_token(bool wanted, std::int32_t id, const char* token, const char* key,
                            const DatasetContext& context) {
    if (!wanted || id >= 0) return;
    throw_bad_input(std::string("the tokenizer has no ") + token + ", which " + key + " adds", {},
                    std::string("a ") + token + " in tokenizer_config.json", context.model_folder,
                    std::string("set ") + key + " = false");
  }

  const std::vector<std::string>& find_files() {
    static const std::vector<std::string> kPlain = {".txt", ".md"};
    if (!files_.empty()) return files_;
    std::vector<std::string> endings = record_file_endings();
    endings.insert(endings.end(), kPlain.begin(), kPlain.end());
    files_ = find_data_files(config_.path, SplitSlice::parse(config_.split).name, endings);
    return files_;
  }

  std::shared_ptr<const RecordSource> open_documents() {
    std::vector<std::shared_ptr<const RecordSource>> sources;
    for (const std::string& path : find_files()) {
      const std::string name = content_name(path);
      if (name.ends_with(".txt") || name.ends_with(".md")) {
        sources.push_back(std::make_shared<PlainText>(DataFile(path), config_.document == "file",
                                                      config_.column));
      } else {
        sources.push_back(open_records(path));
      }
    }
    std::shared_ptr<const RecordSource> all = chain_records(std::move(sources), std::nullopt);
    if (const SplitSlice split = SplitSlice::parse(config_.split); !split.is_whole()) {
      std::vector<std::int64_t> chosen;
      for (const auto& [from, to] : split.ranges(all->size())) {
        for (std::int64_t i = from; i < to; ++i) chosen.push_back(i);
      }
      all = pick_records(std::move(all), std::move(chosen));
    }
    return chain_records({std::move(all)}, config_.limit_documents);
  }

  std::vector<std::int32_t> encode(const Value& record) const {
    std::vector<std::int32_t> tokens;
    if (config_.add_bos) tokens.push_back(tokenizer_->bos_id());
    const std::vector<std::int32_t> text =
        tokenizer_->encode(require_text(record, config_.column), false);
    tokens.insert(tokens.end(), text.begin(), text.end());
    if (config_.add_eos) tokens.push_back(tokenizer_->eos_id());
    return tokens;
  }

  /// Gives the tokens of every document to `keep`, in order; they are made on all cores.
  template <class Keep>
  void tokenize(const Keep& keep) {
    const std::shared_ptr<const RecordSource> documents = open_documents();
    check_records(*documents,
                  [this](const Value& record) { require_text(record, config_.column); });
    std::vector<std::vector<std::int32_t>> lists;
    for (std::int64_t begin = 0; begin < documents->size(); begin += kDocumentsAtOnce) {
      const std::int64_t count = std::min(kDocumentsAtOnce, documents->size() - begin);
      lists.assign(static_cast<std::size_t>(count), {});
      run_in_parallel(count, [&](std::int64_t i) {
        lists[static_cast<std::size_t>(i)] = read_record(
            *documents, begin + i, [this](const Value& record) { return encode(record); });
      });
      for (const std::vector<std::int32_t>& list : lists) keep(list);
    }
  }

  /// The tokens from the file of an earlier run, or written to one now; kept in memory when that
  /// fails.
  void open_cached(const DatasetContext& context) {
    std::vector<std::string> files = find_files();
    const std::vector<std::string> tokenizer = tokenizer_files(context.model_folder);
    files.insert(files.end(), tokenizer.begin(), tokenizer.end());
    const std::string key = digest_of(
        files, {kFormat, config_.split, std::to_string(config_.limit_documents.value_or(0)),
                config_.column, config_.document, std::to_string(int{config_.add_eos}),
                std::to_string(int{config_.add_bos})});
    const std::string path =
        (std::filesystem::path(context.cache_folder) / (key.substr(0, 32) + ".tokens")).string();
    std::string why;
    cached_ = TokenFile::open(path, key, why);
    if (!cached_ && !why.empty() && context.note)
      context.note("token cache " + path + " is not used: " + why + "; it is made anew");
    if (!cached_) cached_ = write_cache(path, key, context);
    if (!cached_) {
      all_ = kept_;
      return;
    }
    for (std::int64_t i = 0; i < cached_->size(); ++i)
      begins_.push_back(begins_.back() + static_cast<std::int64_t>(cached_->list(i).size()));
    all_ = cached_->all();
  }

  std::optional<TokenFile> write_cache(const std::string& path, const std::string& key,
                                       const DatasetContext& context) {
    std::optional<TokenFileWriter> writer;
    const auto give_up = [&](const Error& error) {
      writer.reset();
      if (context.note)
        context.note("token cache " + path + " was not written: " + error.problems().front().what);
    };
    try {
      std::error_code ignored;  // the file that can't be created then says what is wrong
      std::filesystem::create_directories(context.cache_folder, ignored);
      writer.emplace(path, key);
    } catch (const Error& error) {
      give_up(error);
    }
    tokenize([&](const std::vector<std::int32_t>& tokens) {
      begins_.push_back(begins_.back() + static_cast<std::int64_t>(tokens.size()));
      kept_.insert(kept_.end(), tokens.begin(), tokens.end());
      if (!writer) return;
      try {
        writer->append(tokens);
      } catch (const Error& error) {
        give_up(error);
      }
    });
    if (!writer) return std::nullopt;
    try {
      writer->commit();
    } catch (const Error& error) {
      give_up(error);
      return std::nullopt;
    }
    std::string why;
    std::optional<TokenFile> file = TokenFile::open(path, key, why);
    if (file) {
      begins_ = {0};
      kept_ = {};
    }
    return file;
  }

  PretrainingTextConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<std::string> files_;
  std::optional<TokenFile> cached_;
  std::vector<std::int32_t> kept_;          ///< where no file holds the tokens
  std::span<const std::int32_t> all_;       ///< tokens of all documents
  std::vector<std::int64_t> begins_ = {0};  ///< of the documents, and their end
};

void register_components(Registrar& registrar) {
  registrar
      .add<Dataset, PretrainingText>("pretraining_text",
                                     "text for pre-training, joined and cut to one length")
      .property(
          "recognises",
          parse_json(
              R"([{"fields": ["text"], "settings": {"path": "{path}", "seq_length": "{length}"}},
       {"endings": [".txt"], "settings": {"path": "{path}", "seq_length": "{length}"}}])"));
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.pretraining_text", "0.1.0", espalier::register_components)
