// Components of an interface that the kit does not know, so that only the checks of the plugin
// contract run; each breaks one.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

struct Toy {
  static constexpr InterfaceId kInterface{"Toy", 1};
  virtual ~Toy() = default;
};

struct ToyConfig {
  std::int64_t size = 3;
  static ConfigSchema<ToyConfig> schema() {
    return ConfigSchema<ToyConfig>().field("size", &ToyConfig::size, "how large").at_least(1);
  }
};

struct Leaks : Toy {
  void* volatile lost = std::malloc(64);  // NOLINT: the mistake
};

struct OneAtATime : Toy {
  OneAtATime() {
    static std::atomic<int> inside{0};
    if (++inside > 1) throw std::runtime_error("two at once");
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    --inside;
  }
};

bool was_shut_down = false;

struct NeedsThePlugin : Toy {
  ~NeedsThePlugin() override {
    if (was_shut_down) std::abort();
  }
};

struct Loops : Toy {
  Loops() {
    for (volatile bool on = true; on;) std::this_thread::yield();
  }
};

void register_components(Registrar& registrar) {
  registrar.add<Toy, Leaks>("leaks", "Keeps what it allocates.")
      .property("violates", "contract.lifetime");
  registrar.add<Toy, OneAtATime>("one_at_a_time", "Can be made by one thread only.")
      .property("violates", "contract.threads");
  registrar.add<Toy, NeedsThePlugin>("needs_the_plugin", "Crashes after the plugin's shutdown.")
      .property("violates", "contract.shutdown");
  registrar.add<Toy, Loops>("loops", "Never comes to an end.")
      .property("violates", "contract.lifetime");
  ComponentDescriptor deaf;
  deaf.interface = "Toy";
  deaf.name = "deaf";
  deaf.doc = "Does not read its settings.";
  deaf.schema = ToyConfig::schema().spec();
  deaf.create = [](const Value&) -> std::shared_ptr<void> { return std::make_shared<Toy>(); };
  registrar.add_descriptor(std::move(deaf)).property("violates", "load.config");
}

void shut_down() { was_shut_down = true; }

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.contract", "1.0.0", espalier::register_components, espalier::shut_down)
