#include "engine/run/run_data.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "engine/data/collate.h"
#include "engine/data/token_cache.h"
#include "engine/run/model_files.h"
#include "espalier/base/error.h"
#include "espalier/base/json.h"
#include "espalier/data/sample_length.h"
#include "espalier/data/token_file.h"
#include "text/chat_template_loader.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr const char* kValidation = "validation_dataset";
/// Steps whose samples are sorted together when samples of like length go into the same steps.
constexpr std::int64_t kGroupedSteps = 50;

/// Where files of tokens are kept: as scripts/setup.sh chooses the folder for downloads.
std::string cache_folder(const RunSettings& settings) {
  if (!settings.dataloader.token_cache_dir.empty()) return settings.dataloader.token_cache_dir;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  fs::path folder = variable("ESPALIER_CACHE");
  if (folder.empty() && !variable("XDG_CACHE_HOME").empty())
    folder = fs::path(variable("XDG_CACHE_HOME")) / "espalier";
  if (folder.empty()) folder = fs::path(variable("HOME")) / ".cache" / "espalier";
  return (folder / "tokens").string();
}

/// Opens one dataset of the recipe, and those that it is made of.
class DatasetOpener {
 public:
  DatasetOpener(const EngineCall& call, const RunSettings& settings, const RunData& data,
                std::function<void(const std::string&)> note, bool makes_caches)
      : call_(call),
        settings_(settings),
        data_(data),
        note_(std::move(note)),
        makes_caches_(makes_caches) {}

  std::shared_ptr<const Dataset> open(const std::string& path) const {
    const std::shared_ptr<Dataset> dataset = call_.create<Dataset>(path);
    dataset->open(context(path));
    if (dataset->size() <= 0)
      throw_bad_input("the dataset has no samples", "0", "at least one", "[" + path + "]");
    if (!settings_.dataloader.token_cache) return dataset;
    return with_token_cache(dataset, cache_options(path));
  }

 private:
  DatasetContext context(const std::string& path) const {
    DatasetContext context;
    context.tokenizer = data_.tokenizer;
    context.chat_template = data_.chat_template;
    context.model_folder = call_.text("model");
    context.seed = static_cast<std::uint64_t>(settings_.run.seed);
    context.max_length = settings_.packed_sequence.packed_sequence_size;
    context.open_part = [this, path](const std::string& part) { return open(path + "." + part); };
    if (settings_.dataloader.token_cache) context.cache_folder = cache_folder(settings_);
    context.note = note_;
    return context;
  }

  TokenCacheOptions cache_options(const std::string& path) const {
    TokenCacheOptions options;
    options.folder = cache_folder(settings_);
    options.note = note_;
    options.makes_file = makes_caches_;
    options.files = tokenizer_files(call_.text("model"));
    const ChosenComponent& chosen = call_.request.components.at(path);
    const auto& manifest = chosen.component.plugin->manifest;
    options.texts = {manifest.id,
                     manifest.version,
                     chosen.component.component->name,
                     dump_json(chosen.config),
                     std::to_string(settings_.run.seed),
                     std::to_string(settings_.packed_sequence.packed_sequence_size)};
    const auto format = call_.request.components.find(std::string("model") + kTokenizerFormat);
    if (format != call_.request.components.end()) {
      const auto& reader = format->second.component.plugin->manifest;
      options.texts.push_back(reader.id + " " + reader.version);
      for (const std::string& file : model_files(call_).tokenizer_files)
        options.files.push_back(file);
    }
    return options;
  }

  const EngineCall& call_;
  const RunSettings& settings_;
  const RunData& data_;
  std::function<void(const std::string&)> note_;
  bool makes_caches_;
};

}  // namespace

RunData open_data(const EngineCall& call, const RunSettings& settings, bool quiet,
                  bool makes_caches) {
  RunData data;
  const std::string folder = call.text("model");
  data.tokenizer = model_tokenizer(call);
  if (data.tokenizer != nullptr) data.chat_template = text::load_chat_template(folder);
  const auto note = [quiet](const std::string& line) {
    if (!quiet) std::fprintf(stderr, "%s\n", line.c_str());
  };
  const DatasetOpener opener(call, settings, data, note, makes_caches);
  data.training = opener.open("dataset");
  for (const auto& [path, chosen] : call.request.components) {
    const bool is_section = path.find('.') == std::string::npos;
    if (!is_section || !path.starts_with(kValidation)) continue;
    const std::string name = path.substr(std::string_view(kValidation).size());
    data.validation.push_back({name.empty() ? name : name.substr(1), opener.open(path)});
    if (data.validation.back().dataset->size() == Dataset::kEndless) {
      throw_bad_input("validation data has to have an end", "a stream", "streaming = false",
                      "[" + path + "]");
    }
  }
  return data;
}

LoaderOptions loader_options(const RunSettings& settings, const Tokenizer* tokenizer,
                             std::int64_t max_positions) {
  const config::PackedSequenceConfig& packing = settings.packed_sequence;
  LoaderOptions options;
  options.shuffle = settings.dataloader.shuffle;
  options.seed = static_cast<std::uint64_t>(settings.run.seed);
  options.rows_per_step = settings.step_scheduler.global_batch_size;
  options.rows_per_batch =
      std::min(settings.step_scheduler.local_batch_size, options.rows_per_step);
  if (packing.packed_sequence_size > 0) {
    const bool best_fit = packing.packing_strategy == "best_fit";
    options.rows = {best_fit ? RowKind::kBestFit : RowKind::kSequential,
                    packing.packed_sequence_size, best_fit ? packing.window : 1};
  } else if (settings.dataloader.group_by_length) {
    options.rows = {RowKind::kByLength, 0, kGroupedSteps * options.rows_per_step};
  }
  options.drop_last = settings.dataloader.drop_last;
  options.workers = std::max<std::int64_t>(1, settings.dataloader.num_workers);
  options.prefetch_samples =
      settings.dataloader.prefetch_factor * options.rows_per_step * options.workers;
  options.max_length =
      packing.packed_sequence_size > 0 ? packing.packed_sequence_size : max_positions;
  if (tokenizer != nullptr)
    options.collate.pad_id = static_cast<std::int32_t>(padding_id(*tokenizer));
  options.collate.pad_seq_len_divisible = settings.dataloader.pad_seq_len_divisible;
  options.collate.padding_free = settings.dataloader.padding_free;
  return options;
}

namespace {

/// All samples in their order: packed as long as they fit where training packs, else one a row.
std::vector<Row> rows_in_order(const Dataset& dataset, const LoaderOptions& options) {
  const std::int64_t most = options.rows.capacity;
  std::vector<Row> rows;
  std::int64_t room = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    Sample sample = dataset.get(i);
    check_and_cut(sample, i, options.max_length);
    const auto length = static_cast<std::int64_t>(sample.input_ids.size());
    if (rows.empty() || most == 0 || length > room) {
      rows.emplace_back();
      room = most;
    }
    room -= length;
    rows.back().push_back({std::move(sample)});
  }
  return rows;
}

}  // namespace

std::vector<Batch> batches_in_order(const Dataset& dataset, const LoaderOptions& options) {
  const std::vector<Row> rows = rows_in_order(dataset, options);
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t batches = (count + options.rows_per_batch - 1) / options.rows_per_batch;
  std::vector<Batch> own;
  for (std::int64_t number = options.share_index; number < batches + options.share_index;
       number += options.share_count) {
    const bool filler = number >= batches;
    const std::int64_t begin = filler ? 0 : number * options.rows_per_batch;
    const std::int64_t end = std::min(begin + (filler ? 1 : options.rows_per_batch), count);
    own.push_back(collate(std::span(rows).subspan(static_cast<std::size_t>(begin),
                                                  static_cast<std::size_t>(end - begin)),
                          options.collate));
    own.back().filler = filler;
  }
  return own;
}

}  // namespace espalier
