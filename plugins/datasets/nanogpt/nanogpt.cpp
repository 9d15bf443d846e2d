// Shards of tokens as nanoGPT's preprocessing scripts write them:
//   int32[256] header: magic, version 1, number of tokens, bytes of a token; then the tokens.
// Magic 278895051 has 2 or 4 bytes a token; 20240520 is the older form, always 2. Beside X.bin may
// lie X.bos.idx, int32 places of the tokens that begin documents.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include "espalier/base/error.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/data/source_files.h"
#include "espalier/sdk/dataset.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

constexpr std::int32_t kMagic = 278895051;
constexpr std::int32_t kLegacyMagic = 20240520;
constexpr std::int32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 256 * sizeof(std::int32_t);

struct NanoGptConfig {
  std::vector<std::string> path;
  std::int64_t seq_len = 0;
  bool align_to_bos = false;
  std::optional<std::int64_t> bos_token;

  static ConfigSchema<NanoGptConfig> schema() {
    return ConfigSchema<NanoGptConfig>()
        .field("path", &NanoGptConfig::path,
               "shard, folder or pattern with * and ?, or a list of them")
        .or_single()
        .required()
        .field("seq_len", &NanoGptConfig::seq_len, "tokens of a sample; one more is read as label")
        .at_least(1)
        .required()
        .field("align_to_bos", &NanoGptConfig::align_to_bos,
               "every sample begins where a document does")
        .field("bos_token", &NanoGptConfig::bos_token,
               "the id that begins documents; left out: the tokenizer's")
        .at_least(0);
  }
};

class Shard {
 public:
  explicit Shard(const std::string& path) : file_(path) {
    const auto bytes = file_.bytes();
    std::int32_t header[4] = {};
    if (bytes.size() < kHeaderBytes) refuse("the shard is shorter than its header", bytes.size());
    std::memcpy(header, bytes.data(), sizeof header);
    if (header[0] != kMagic && header[0] != kLegacyMagic) {
      throw_bad_input("this is no shard of tokens", "magic number " + std::to_string(header[0]),
                      std::to_string(kMagic) + " or " + std::to_string(kLegacyMagic), path,
                      "shards are written by nanogpt_data_processor.py or fineweb.py");
    }
    if (header[1] != kVersion)
      throw_bad_input("the shard is of another version", std::to_string(header[1]), "1", path);
    width_ = header[0] == kLegacyMagic ? 2 : header[3];
    if (width_ != 2 && width_ != 4) {
      throw_bad_input("the tokens of the shard have an unknown width",
                      std::to_string(width_) + " bytes", "2 or 4", path);
    }
    size_ = header[2];
    const std::uint64_t room = bytes.size() - kHeaderBytes;
    if (size_ < 0 || static_cast<std::uint64_t>(size_) * static_cast<std::uint64_t>(width_) > room)
      refuse("the shard is shorter than its header says", bytes.size());
  }

  std::int64_t size() const { return size_; }
  const std::string& path() const { return file_.path(); }
  std::int64_t token(std::int64_t place) const {
    const std::byte* at = file_.bytes().data() + kHeaderBytes + place * width_;
    std::uint32_t token = 0;  // this machine is little endian, as the file is
    std::memcpy(&token, at, static_cast<std::size_t>(width_));
    return token;
  }

  /// Places of `bos`, from the index beside the shard where there is one.
  std::vector<std::int64_t> find_all(std::int64_t bos) const {
    std::vector<std::int64_t> places = read_index();
    const bool right = !places.empty() && std::all_of(places.begin(), places.end(), [&](auto i) {
      return i >= 0 && i < size_ && token(i) == bos;
    });
    if (right) return places;
    places.clear();
    for (std::int64_t i = 0; i < size_; ++i) {
      if (token(i) == bos) places.push_back(i);
    }
    return places;
  }

 private:
  [[noreturn]] void refuse(const char* what, std::size_t found) const {
    throw_bad_input(what, std::to_string(found) + " bytes",
                    size_ > 0 ? std::to_string(size_) + " tokens of " + std::to_string(width_) +
                                    " bytes behind the header"
                              : "a header of 1024 bytes",
                    file_.path(), "check that it was written and downloaded completely");
  }

  std::vector<std::int64_t> read_index() const {
    const std::filesystem::path path =
        std::filesystem::path(file_.path()).replace_extension(".bos.idx");
    if (!std::filesystem::exists(path)) return {};
    const std::string bytes = read_file(path.string());
    std::vector<std::int32_t> places(bytes.size() / sizeof(std::int32_t));
    std::memcpy(places.data(), bytes.data(), places.size() * sizeof(std::int32_t));
    return {places.begin(), places.end()};
  }

  MappedFile file_;
  std::int32_t width_ = 2;
  std::int64_t size_ = 0;
};

/// Samples are runs of seq_len + 1 tokens of one shard, without overlap; the rest of a shard is
/// left out. Labels are shifted.
class NanoGpt final : public Dataset {
 public:
  using Config = NanoGptConfig;
  explicit NanoGpt(Config config) : config_(std::move(config)) {}

  void open(const DatasetContext& context) override {
    std::int64_t bos = config_.bos_token.value_or(-1);
    if (bos < 0 && context.tokenizer != nullptr) bos = context.tokenizer->bos_id();
    if (config_.align_to_bos && bos < 0) {
      throw_bad_input("align_to_bos needs the id that begins documents", {}, "bos_token = ...",
                      "the dataset's section of the recipe");
    }
    std::int64_t longest = 0;
    for (const std::string& path : find_data_files(config_.path, "train", {".bin"})) {
      const Shard& shard = shards_.emplace_back(path);
      longest = std::max(longest, shard.size());
      config_.align_to_bos ? add_aligned(shard, bos) : add_all(shard);
    }
    if (samples_.empty()) {
      throw_bad_input("no shard holds a whole sample",
                      "the longest has " + std::to_string(longest) + " tokens",
                      std::to_string(config_.seq_len + 1) + " tokens" +
                          (config_.align_to_bos ? " from a begin-of-text token on" : ""),
                      "path", "use a shorter seq_len");
    }
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }

  Sample get(std::int64_t index) const override {
    ESPALIER_ASSERT(index >= 0 && index < size(), "the dataset has no such sample");
    const Place& place = samples_[static_cast<std::size_t>(index)];
    const Shard& shard = shards_[place.shard];
    Sample sample;
    sample.labels_shifted = true;
    for (std::int64_t i = 0; i < config_.seq_len; ++i) {
      sample.input_ids.push_back(shard.token(place.begin + i));
      sample.labels.push_back(shard.token(place.begin + i + 1));
    }
    return sample;
  }

 private:
  struct Place {
    std::size_t shard = 0;
    std::int64_t begin = 0;
  };

  void add_all(const Shard& shard) {
    const std::int64_t span = config_.seq_len + 1;
    for (std::int64_t begin = 0; begin + span <= shard.size(); begin += span)
      samples_.push_back({shards_.size() - 1, begin});
  }

  void add_aligned(const Shard& shard, std::int64_t bos) {
    std::int64_t free = 0;
    for (const std::int64_t begin : shard.find_all(bos)) {
      if (begin < free) continue;
      if (begin + config_.seq_len + 1 > shard.size()) break;
      samples_.push_back({shards_.size() - 1, begin});
      free = begin + config_.seq_len + 1;
    }
  }

  NanoGptConfig config_;
  std::vector<Shard> shards_;
  std::vector<Place> samples_;
};

void register_components(Registrar& registrar) {
  registrar.add<Dataset, NanoGpt>("nanogpt", "shards of tokens from nanoGPT's scripts")
      .property(
          "recognises",
          parse_json(
              R"([{"endings": [".bin"], "settings": {"path": "{path}", "seq_len": "{length}"}}])"))
      .alias("nemo_automodel.components.datasets.llm.nanogpt_dataset.NanogptDataset",
             parse_json(R"({"file_pattern": "path",
                            "shuffle_files": {"note": "dataloader.shuffle shuffles samples"}})")
                 .as_table());
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.nanogpt", "0.1.0", espalier::register_components)
