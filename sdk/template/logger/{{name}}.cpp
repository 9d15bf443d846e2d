// The numbers of a run as lines "source step name value" in a text file of the run folder.
#include <espalier/base/config_schema.h>
#include <espalier/base/file.h>
#include <espalier/base/json.h>
#include <espalier/sdk/logger.h>
#include <espalier/sdk/plugin.h>

#include <cerrno>
#include <fstream>

namespace {

struct {{Name}}Config {
  std::string file = "{{name}}.txt";

  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return espalier::ConfigSchema<{{Name}}Config>().field(
        "file", &{{Name}}Config::file, "name of the file in the run folder");
  }
};

class {{Name}} final : public espalier::Logger {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(Config config) : config_(std::move(config)) {}

  // A resumed run logs again what came after run.resumed_after; here both stay.
  void start(const espalier::LoggedRun& run) override {
    path_ = run.folder + "/" + config_.file;
    stream_.open(path_, run.resumed_after > 0 ? std::ios::app : std::ios::trunc);
    if (!stream_) espalier::throw_io("open", path_, errno);
  }

  void log(const std::string& source, std::int64_t step, const espalier::Value& values) override {
    for (const auto& [name, value] : values.as_table())
      stream_ << source << ' ' << step << ' ' << name << ' ' << espalier::dump_json(value) << '\n';
  }

  void flush() override {
    stream_.flush();
    if (!stream_) espalier::throw_io("write", path_, errno);
  }

 private:
  Config config_;
  std::string path_;
  std::ofstream stream_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::Logger, {{Name}}>("{{name}}", "the numbers of a run as lines of text");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
