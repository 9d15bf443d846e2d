// CommBackends that break one promise each. `violates` names the check that has to find it.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "espalier/base/error.h"
#include "espalier/sdk/communicator.h"
#include "espalier/sdk/plugin.h"

namespace espalier {
namespace {

class Done final : public Work {
 public:
  void wait() override {}
};

/// Every rank lays its tensor into the store and reads those of all.
class Sound : public Communicator {
 public:
  explicit Sound(GroupSetup setup) : setup_(std::move(setup)) {
    setup_.store->setTimeout(setup_.timeout);
  }
  int rank() const override { return setup_.rank; }
  int size() const override { return setup_.size; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char*) override {
    const std::vector<at::Tensor> all = exchange(tensor);
    at::Tensor total = all[0].clone();
    for (std::size_t i = 1; i < all.size(); ++i) total.add_(all[i]);
    tensor.copy_(total);
    return std::make_shared<Done>();
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    output.copy_(at::cat(exchange(input)));
    return std::make_shared<Done>();
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char* what) override {
    const at::Tensor total = input.clone();
    Sound::all_reduce(total, what);
    output.copy_(total.narrow(0, rank() * output.numel(), output.numel()));
    return std::make_shared<Done>();
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char*) override {
    tensor.copy_(exchange(tensor)[static_cast<std::size_t>(root)]);
    return std::make_shared<Done>();
  }

 protected:
  std::vector<at::Tensor> exchange(const at::Tensor& tensor) {
    const std::string key = prefix() + std::to_string(calls_++) + "/";
    std::vector<at::Tensor> all;
    try {
      const auto* bytes = static_cast<const std::uint8_t*>(tensor.const_data_ptr());
      setup_.store->set(key + std::to_string(rank()),
                        std::vector<std::uint8_t>(bytes, bytes + tensor.nbytes()));
      for (int from = 0; from < size(); ++from) {
        const std::vector<std::uint8_t> part = setup_.store->get(key + std::to_string(from));
        all.push_back(at::empty_like(tensor));
        if (!part.empty())
          std::memcpy(all.back().mutable_data_ptr(), part.data(),
                      std::min(part.size(), all.back().nbytes()));
      }
    } catch (const std::exception& error) {
      failed(error);
    }
    return all;
  }
  [[noreturn]] virtual void failed(const std::exception& error) {
    throw Error(Problem{ErrorCode::kPeerFailed, "a rank did not come", error.what(), {}, {}, {}});
  }
  virtual std::string prefix() const { return {}; }

  GroupSetup setup_;
  int calls_ = 0;
};

struct FromOne final : Sound {
  using Sound::Sound;
  int rank() const override { return setup_.rank + 1; }
};

struct KeepsWaiting final : Sound {
  using Sound::Sound;
  [[noreturn]] void failed(const std::exception&) override {
    while (true) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
};

struct BlamesTheUser final : Sound {
  using Sound::Sound;
  [[noreturn]] void failed(const std::exception& error) override {
    throw_bad_input("a rank did not come", error.what(), {}, {});
  }
};

struct PassesOn final : Sound {
  using Sound::Sound;
  [[noreturn]] void failed(const std::exception& error) override {
    throw std::runtime_error(error.what());
  }
};

/// Mean instead of sum.
struct Averages final : Sound {
  using Sound::Sound;
  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char* what) override {
    auto work = Sound::all_reduce(tensor, what);
    tensor.floor_divide_(size());
    return work;
  }
};

struct OwnFirst final : Sound {
  using Sound::Sound;
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    std::vector<at::Tensor> all = exchange(input);
    std::swap(all[0], all[static_cast<std::size_t>(rank())]);
    output.copy_(at::cat(all));
    return std::make_shared<Done>();
  }
};

struct AlwaysFirstPart final : Sound {
  using Sound::Sound;
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char* what) override {
    const at::Tensor total = input.clone();
    Sound::all_reduce(total, what);
    output.copy_(total.narrow(0, 0, output.numel()));
    return std::make_shared<Done>();
  }
};

struct RootIsZero final : Sound {
  using Sound::Sound;
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int, const char* what) override {
    return Sound::broadcast(tensor, 0, what);
  }
};

/// Does the work when it is waited for, so that the order of waiting decides what meets what.
struct WorksWhenWaitedFor final : Sound {
  using Sound::Sound;
  struct Later final : Work {
    explicit Later(std::function<void()> job) : job_(std::move(job)) {}
    void wait() override { job_(); }  // and once more when it is called again
    std::function<void()> job_;
  };
  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char* what) override {
    return std::make_shared<Later>([this, tensor, what] { Sound::all_reduce(tensor, what); });
  }
};

/// Keys of all groups of a run in one place.
struct OneRoomForAll final : Sound {
  explicit OneRoomForAll(GroupSetup setup) : Sound(std::move(setup)) {
    auto* prefixed = dynamic_cast<c10d::PrefixStore*>(setup_.store.get());
    if (prefixed != nullptr) setup_.store = prefixed->getUnderlyingStore();
  }
};

template <class C>
class Backend final : public CommBackend {
 public:
  std::chrono::milliseconds timeout() const override { return std::chrono::minutes(1); }
  std::chrono::milliseconds peer_timeout() const override { return std::chrono::seconds(20); }
  std::shared_ptr<Communicator> connect(const GroupSetup& setup) override {
    return std::make_shared<C>(setup);
  }
};

void register_components(Registrar& registrar) {
  const auto wrong = [&]<class C>(C*, const char* name, const char* check) {
    registrar.add<CommBackend, Backend<C>>(name, "Breaks a promise.").property("violates", check);
  };
  wrong(static_cast<FromOne*>(nullptr), "from_one", "communication.ranks");
  wrong(static_cast<KeepsWaiting*>(nullptr), "keeps_waiting", "communication.missing_rank");
  wrong(static_cast<BlamesTheUser*>(nullptr), "blames_the_user", "communication.sizes_disagree");
  wrong(static_cast<PassesOn*>(nullptr), "passes_on", "communication.timeout");
  wrong(static_cast<Averages*>(nullptr), "averages", "communication.all_reduce");
  wrong(static_cast<OwnFirst*>(nullptr), "own_first", "communication.all_gather");
  wrong(static_cast<AlwaysFirstPart*>(nullptr), "always_first_part",
        "communication.reduce_scatter");
  wrong(static_cast<RootIsZero*>(nullptr), "root_is_zero", "communication.broadcast");
  wrong(static_cast<WorksWhenWaitedFor*>(nullptr), "works_when_waited_for",
        "communication.in_flight");
  wrong(static_cast<OneRoomForAll*>(nullptr), "one_room_for_all", "communication.groups");
}

}  // namespace
}  // namespace espalier

ESPALIER_PLUGIN("wrong.backends", "1.0.0", espalier::register_components)
