// Collectives through the store that all ranks reach: slow, and all of it on a page. Every rank lays
// down what it has, and reads what the others have.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <espalier/base/error.h>
#include <espalier/sdk/communicator.h>
#include <espalier/sdk/plugin.h>

#include <cstring>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace {

// Everything is done when the call returns.
struct Done final : espalier::Work {
  void wait() override {}
};

class StoreCommunicator final : public espalier::Communicator {
 public:
  explicit StoreCommunicator(espalier::GroupSetup setup) : setup_(std::move(setup)) {
    setup_.store->setTimeout(setup_.timeout);
  }
  int rank() const override { return setup_.rank; }
  int size() const override { return setup_.size; }

  std::shared_ptr<espalier::Work> all_reduce(const at::Tensor& tensor, const char* what) override {
    tensor.copy_(sum(tensor, what));
    return std::make_shared<Done>();
  }
  std::shared_ptr<espalier::Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                             const char* what) override {
    output.copy_(at::cat(exchange(input, what)));
    return std::make_shared<Done>();
  }
  std::shared_ptr<espalier::Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                                 const char* what) override {
    output.copy_(sum(input, what).narrow(0, rank() * output.numel(), output.numel()));
    return std::make_shared<Done>();
  }
  std::shared_ptr<espalier::Work> broadcast(const at::Tensor& tensor, int root,
                                            const char* what) override {
    tensor.copy_(exchange(tensor, what)[static_cast<std::size_t>(root)]);
    return std::make_shared<Done>();
  }

 private:
  at::Tensor sum(const at::Tensor& tensor, const char* what) {
    const std::vector<at::Tensor> all = exchange(tensor, what);
    at::Tensor total = all[0];
    for (std::size_t i = 1; i < all.size(); ++i) total.add_(all[i]);
    return total;
  }

  // The store throws when a rank does not come in time; the host then says which one it was.
  std::vector<at::Tensor> exchange(const at::Tensor& tensor, const char* what) try {
    const auto key = [&](std::int64_t call, int rank) {
      return std::to_string(call) + "/" + std::to_string(rank);
    };
    const auto* bytes = static_cast<const std::uint8_t*>(tensor.const_data_ptr());
    setup_.store->set(key(calls_, rank()),
                      std::vector<std::uint8_t>(bytes, bytes + tensor.nbytes()));
    std::vector<at::Tensor> all;
    for (int from = 0; from < size(); ++from) {
      const std::vector<std::uint8_t> part = setup_.store->get(key(calls_, from));
      all.push_back(at::empty_like(tensor));
      if (!part.empty()) std::memcpy(all.back().mutable_data_ptr(), part.data(), part.size());
    }
    // Whoever has come here has seen all of this call, so nobody needs the one before.
    if (calls_ > 0) setup_.store->deleteKey(key(calls_ - 1, rank()));
    ++calls_;
    return all;
  } catch (const std::exception& error) {
    throw espalier::Error(espalier::Problem{espalier::ErrorCode::kPeerFailed,
                                            std::string("the collective '") + what + "' failed",
                                            error.what(), {}, {}, {}});
  }

  espalier::GroupSetup setup_;
  std::int64_t calls_ = 0;
};

// The settings of every backend, and none besides.
struct {{Name}}Config : espalier::DistEnvConfig {
  static espalier::ConfigSchema<{{Name}}Config> schema() {
    return schema_of<{{Name}}Config>();
  }
};

class {{Name}} final : public espalier::CommBackend {
 public:
  using Config = {{Name}}Config;
  explicit {{Name}}(Config config) : config_(config) {}

  std::chrono::milliseconds timeout() const override { return config_.timeout(); }
  std::chrono::milliseconds peer_timeout() const override { return config_.peer_timeout(); }
  std::shared_ptr<espalier::Communicator> connect(const espalier::GroupSetup& setup) override {
    return std::make_shared<StoreCommunicator>(setup);
  }

 private:
  Config config_;
};

void register_components(espalier::Registrar& registrar) {
  registrar.add<espalier::CommBackend, {{Name}}>("{{name}}", "collectives through the run's store");
}

}  // namespace

ESPALIER_PLUGIN("{{vendor}}.{{name}}", "0.1.0", register_components)
