#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "espalier/sdk/logger.h"
#include "espalier/sdk/plugin.h"
#include "event_file.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

struct TensorboardConfig {
  std::string folder = "tensorboard";
  static ConfigSchema<TensorboardConfig> schema() {
    return ConfigSchema<TensorboardConfig>().field(
        "folder", &TensorboardConfig::folder,
        "where the event files go; a relative one is in the run folder");
  }
};

/// TensorBoard tells files apart by their names, which have to sort in the order of writing.
std::string new_file(const fs::path& folder) {
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  char seconds[24];
  std::snprintf(seconds, sizeof seconds, "%010lld", static_cast<long long>(now));
  for (int number = 0;; ++number) {
    const fs::path file = folder / ("events.out.tfevents." + std::string(seconds) + ".espalier." +
                                    std::to_string(::getpid()) + "." + std::to_string(number));
    if (!fs::exists(file)) return file.string();
  }
}

class Tensorboard final : public Logger {
 public:
  using Config = TensorboardConfig;
  explicit Tensorboard(TensorboardConfig config) : config_(std::move(config)) {}

  void start(const LoggedRun& run) override {
    const fs::path folder = fs::path(run.folder) / config_.folder;
    fs::create_directories(folder);
    file_ = std::make_unique<tensorboard::EventFile>(new_file(folder));
    file_->forget_from(run.resumed_after + 1);
  }
  void log(const std::string& source, std::int64_t step, const Value& values) override {
    for (const auto& [key, value] : values.as_table()) {
      if (key == "step") continue;
      if (value.is_table())
        log(source + "/" + key, step, value);
      else if (value.is_number())
        file_->add_scalar(source + "/" + key, step, static_cast<float>(value.as_float()));
    }
  }
  void log_text(const std::string& name, std::int64_t step, const std::string& text) override {
    file_->add_text(name, step, text);
  }
  void flush() override { file_->sync(); }

 private:
  TensorboardConfig config_;
  std::unique_ptr<tensorboard::EventFile> file_;
};

void register_components(Registrar& registrar) {
  registrar.add<Logger, Tensorboard>("tensorboard", "event files for TensorBoard");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("espalier.tensorboard", "0.1.0", espalier::register_components)
