// Token ids from a text file, one sequence a line, separated by blanks.
#include <espalier/base/config_schema.h>
#include <espalier/base/error.h>
#include <espalier/sdk/dataset.h>
#include <espalier/sdk/plugin.h>

#include <fstream>
#include <sstream>

namespace {

struct {{Name}}Config {
  std::string path;

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>()
        .field("path", &{{Name}}Config::path, "a text file with one sequence of token ids a line")
        .required();
  }
};

class {{Name}} final : public espalier::Dataset {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(Config config) : config_(std::move(config)) {}

  // Everything that is wrong with the data is said here, with its place.
  void open(const espalier::DatasetContext&) override {
    std::ifstream file(config_.path);
    if (!file)
      espalier::throw_bad_input("the file can't be read", {}, "a text file", config_.path);
    std::int64_t number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      std::istringstream words(line);
      std::vector<std::int64_t> ids;
      for (std::int64_t id = 0; words >> id;) ids.push_back(id);
      if (!words.eof() || ids.empty())
        espalier::throw_bad_input("the line is no sequence of token ids", line, "numbers and blanks",
                                  config_.path + ":" + std::to_string(number));
      sequences_.push_back(std::move(ids));
    }
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(sequences_.size()); }

  // Called from several threads: reads, changes nothing.
  espalier::Sample get(std::int64_t index) const override {
    espalier::Sample sample;
    sample.input_ids = sequences_.at(static_cast<std::size_t>(index));
    sample.labels = sample.input_ids;  // -100 where nothing is to be learnt
    return sample;
  }

 private:
  Config config_;
  std::vector<std::vector<std::int64_t>> sequences_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Dataset, {{Name}}>("{{name}}", "token ids from a text file");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
