// Collectives of NCCL on a stream of their own: they begin when what LibTorch's current stream has
// been given so far is done, and what that is given after `wait` sees their results. `wait` returns
// when they are done, so that a rank that ended is noticed: NCCL itself would wait for ever.
// Numbers that lie in the memory of the host (sums over the data, norms) go through a buffer on the
// GPU.
#include "nccl_communicator.h"

#include <c10/cuda/CUDAStream.h>

#include <cstring>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "espalier/base/error.h"
#include "nccl_library.h"

namespace espalier::nccl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kPause{50};  // between looks at a collective under way

Error failure(const std::string& text) {
  return Error(
      Problem{ErrorCode::kPeerFailed, "the connection to other ranks failed", text, {}, {}, {}});
}

void require(Result result) {
  if (result != Result::kSuccess && result != Result::kInProgress)
    throw failure(std::string("NCCL: ") + library().get_error_string(result));
}

void require(cudaError_t status) {
  if (status != cudaSuccess) throw failure(std::string("CUDA: ") + cudaGetErrorString(status));
}

DataType type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return DataType::kFloat32;
    case at::kDouble: return DataType::kFloat64;
    case at::kHalf: return DataType::kFloat16;
    case at::kBFloat16: return DataType::kBfloat16;
    case at::kLong: return DataType::kInt64;
    case at::kInt: return DataType::kInt32;
    case at::kChar: return DataType::kInt8;
    case at::kByte:
    case at::kBool: return DataType::kUint8;
    default: break;
  }
  ESPALIER_ASSERT(false, "NCCL has no type for this tensor");
  return DataType::kUint8;
}

/// The connection of a group: the communicator and its stream.
struct Connection {
  explicit Connection(const GroupSetup& setup);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  /// Throws when a rank failed; the group can't be used afterwards.
  void check();

  Comm comm = nullptr;
  cudaStream_t stream = nullptr;
  std::chrono::milliseconds timeout;
  int rank;
  int size;
};

Connection::Connection(const GroupSetup& setup)
    : timeout(setup.timeout), rank(setup.rank), size(setup.size) {
  const std::string key = "nccl";
  UniqueId id{};
  if (rank == 0) {
    require(library().get_unique_id(&id));
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(id.internal);
    setup.store->set(key, std::vector<std::uint8_t>(bytes, bytes + sizeof(id.internal)));
  } else {
    const std::vector<std::uint8_t> bytes = setup.store->get(key);
    if (bytes.size() != sizeof(id.internal)) throw failure("rank 0 gave no id of the group");
    std::memcpy(id.internal, bytes.data(), bytes.size());
  }
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  require(library().comm_init_rank(&comm, size, id, rank));
}

Connection::~Connection() {
  if (comm != nullptr) library().comm_abort(comm);
  if (stream != nullptr) cudaStreamDestroy(stream);
}

void Connection::check() {
  Result state = Result::kSuccess;
  require(library().comm_get_async_error(comm, &state));
  require(state);
}

/// Memory on the GPU that stands in for a tensor of the host.
class Staging {
 public:
  Staging(const at::Tensor& tensor, bool copies_in, cudaStream_t stream)
      : tensor_(tensor), bytes_(tensor.nbytes()) {
    if (tensor.is_cuda()) return;
    require(cudaMalloc(&memory_, std::max<std::size_t>(1, bytes_)));
    if (copies_in)
      require(cudaMemcpyAsync(memory_, tensor.const_data_ptr(), bytes_, cudaMemcpyHostToDevice,
                              stream));
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() { cudaFree(memory_); }

  void* data() const { return memory_ != nullptr ? memory_ : tensor_.mutable_data_ptr(); }
  void copy_out(cudaStream_t stream) const {
    if (memory_ != nullptr)
      require(cudaMemcpyAsync(tensor_.mutable_data_ptr(), memory_, bytes_, cudaMemcpyDeviceToHost,
                              stream));
  }

 private:
  at::Tensor tensor_;  // keeps it alive
  std::size_t bytes_;
  void* memory_ = nullptr;
};

class NcclWork final : public Work {
 public:
  NcclWork(std::shared_ptr<Connection> connection, std::unique_ptr<Staging> input,
           std::unique_ptr<Staging> output)
      : connection_(std::move(connection)), input_(std::move(input)), output_(std::move(output)) {
    require(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
    require(cudaEventRecord(done_, connection_->stream));
  }
  ~NcclWork() override { cudaEventDestroy(done_); }

  void wait() override {
    const Clock::time_point end = Clock::now() + connection_->timeout;
    for (;;) {
      const cudaError_t status = cudaEventQuery(done_);
      if (status == cudaSuccess) return;
      if (status != cudaErrorNotReady) require(status);
      connection_->check();
      if (Clock::now() > end) throw failure("a collective took longer than the timeout");
      std::this_thread::sleep_for(kPause);
    }
  }

 private:
  std::shared_ptr<Connection> connection_;
  std::unique_ptr<Staging> input_;
  std::unique_ptr<Staging> output_;
  cudaEvent_t done_ = nullptr;
};

class NcclCommunicator final : public Communicator {
 public:
  explicit NcclCommunicator(const GroupSetup& setup)
      : connection_(std::make_shared<Connection>(setup)) {}

  int rank() const override { return connection_->rank; }
  int size() const override { return connection_->size; }

  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char*) override {
    return start(tensor, tensor, [&](const void* from, void* to) {
      return library().all_reduce(from, to, count(tensor), type_of(tensor), Sum::kSum,
                                  connection_->comm, connection_->stream);
    });
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char*) override {
    return start(input, output, [&](const void* from, void* to) {
      return library().all_gather(from, to, count(input), type_of(input), connection_->comm,
                                  connection_->stream);
    });
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char*) override {
    return start(input, output, [&](const void* from, void* to) {
      return library().reduce_scatter(from, to, count(output), type_of(input), Sum::kSum,
                                      connection_->comm, connection_->stream);
    });
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char*) override {
    return start(tensor, tensor, [&](const void* from, void* to) {
      return library().broadcast(from, to, count(tensor), type_of(tensor), root, connection_->comm,
                                 connection_->stream);
    });
  }

 private:
  static std::size_t count(const at::Tensor& tensor) {
    return static_cast<std::size_t>(tensor.numel());
  }

  template <class Call>
  std::shared_ptr<Work> start(const at::Tensor& input, const at::Tensor& output, const Call& call) {
    const cudaStream_t stream = connection_->stream;
    if (input.is_cuda()) {
      cudaEvent_t ready = nullptr;
      require(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
      require(
          cudaEventRecord(ready, c10::cuda::getCurrentCUDAStream(input.device().index()).stream()));
      require(cudaStreamWaitEvent(stream, ready, 0));
      require(cudaEventDestroy(ready));
    }
    auto to = std::make_unique<Staging>(output, input.is_same(output), stream);
    auto from = input.is_same(output) ? nullptr : std::make_unique<Staging>(input, true, stream);
    require(call(from == nullptr ? to->data() : from->data(), to->data()));
    to->copy_out(stream);
    return std::make_shared<NcclWork>(connection_, std::move(from), std::move(to));
  }

  std::shared_ptr<Connection> connection_;
};

}  // namespace

std::shared_ptr<Communicator> connect(const GroupSetup& setup) {
  return std::make_shared<NcclCommunicator>(setup);
}

}  // namespace espalier::nccl
