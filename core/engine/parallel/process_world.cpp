#include "engine/parallel/process_world.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "espalier/base/error.h"
#include "espalier/base/file.h"

namespace espalier {
namespace {

/// The address of this host that packets to the master leave from: the one at which ranks that can
/// reach the master can reach this one. The master's own address where nothing better is known.
std::string own_address(const std::string& master, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(master.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    return master;
  std::string address = master;
  const int socket = ::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  char text[NI_MAXHOST];
  // Connecting a datagram socket sends nothing; it chooses the way.
  if (socket >= 0 && ::connect(socket, found->ai_addr, found->ai_addrlen) == 0 &&
      ::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
      ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0,
                    NI_NUMERICHOST) == 0)
    address = text;
  if (socket >= 0) ::close(socket);
  ::freeaddrinfo(found);
  return address;
}

/// Equal on all processes of a host, and of no two hosts.
std::string host_identity() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  std::string boot;
  try {
    boot = read_file("/proc/sys/kernel/random/boot_id");
  } catch (const Error&) {
    // Some containers hide it; the name alone has to do.
  }
  return name + ("/" + boot.substr(0, boot.find('\n')));
}

c10d::TCPStoreOptions store_options(const launch::RankEnvironment& environment, bool server,
                                    std::chrono::milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(environment.master_port);
  options.isServer = server;
  options.waitWorkers = false;
  options.timeout = timeout;
  if (server) options.masterListenFd = environment.listen_descriptor;
  return options;
}

/// Adds to every collective who is waited for.
class MonitoredWork final : public Work {
 public:
  MonitoredWork(std::shared_ptr<Work> work, std::shared_ptr<PeerMonitor> monitor,
                std::int64_t number, std::string what)
      : work_(std::move(work)),
        monitor_(std::move(monitor)),
        number_(number),
        what_(std::move(what)) {}

  void wait() override {
    if (work_ == nullptr) return;
    monitor_->enter(number_, what_);
    try {
      work_->wait();
    } catch (const Error& error) {
      throw monitor_->explain(what_, error.problems().front().found);
    }
    monitor_->leave();
    work_ = nullptr;
  }

 private:
  std::shared_ptr<Work> work_;
  std::shared_ptr<PeerMonitor> monitor_;
  std::int64_t number_;
  std::string what_;
};

class MonitoredCommunicator final : public Communicator {
 public:
  MonitoredCommunicator(std::shared_ptr<Communicator> inner, std::shared_ptr<PeerMonitor> monitor)
      : inner_(std::move(inner)), monitor_(std::move(monitor)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::shared_ptr<Work> all_reduce(const at::Tensor& tensor, const char* what) override {
    return monitored(what, [&] { return inner_->all_reduce(tensor, what); });
  }
  std::shared_ptr<Work> all_gather(const at::Tensor& output, const at::Tensor& input,
                                   const char* what) override {
    return monitored(what, [&] { return inner_->all_gather(output, input, what); });
  }
  std::shared_ptr<Work> reduce_scatter(const at::Tensor& output, const at::Tensor& input,
                                       const char* what) override {
    return monitored(what, [&] { return inner_->reduce_scatter(output, input, what); });
  }
  std::shared_ptr<Work> broadcast(const at::Tensor& tensor, int root, const char* what) override {
    return monitored(what, [&] { return inner_->broadcast(tensor, root, what); });
  }

 private:
  template <class Start>
  std::shared_ptr<Work> monitored(const char* what, const Start& start) {
    static std::atomic<std::int64_t> number = 0;  // of this process, over all groups
    try {
      return std::make_shared<MonitoredWork>(start(), monitor_, ++number, what);
    } catch (const Error& error) {
      throw monitor_->explain(what, error.problems().front().found);
    }
  }

  std::shared_ptr<Communicator> inner_;
  std::shared_ptr<PeerMonitor> monitor_;
};

}  // namespace

ProcessWorld::ProcessWorld(const launch::RankEnvironment& environment,
                           std::shared_ptr<CommBackend> backend)
    : environment_(environment), backend_(std::move(backend)) {
  const bool server = environment.rank == 0 && !environment.store_is_outside;
  const std::chrono::milliseconds timeout = backend_->timeout();
  const std::string endpoint =
      environment.master_address + ":" + std::to_string(environment.master_port);
  try {
    store_ = c10::make_intrusive<c10d::TCPStore>(environment.master_address,
                                                 store_options(environment, server, timeout));
    const auto signs = c10::make_intrusive<c10d::TCPStore>(
        environment.master_address, store_options(environment, false, timeout));
    monitor_ = std::make_shared<PeerMonitor>(
        c10::make_intrusive<c10d::PrefixStore>("espalier/monitor", signs), environment.rank,
        environment.world_size, backend_->peer_timeout());
  } catch (const std::exception& error) {
    throw Error(
        Problem{ErrorCode::kPeerFailed,
                server ? "rank 0 can't open the store of the run" : "rank 0 can't be reached",
                std::string(error.what()).substr(0, 300),
                {},
                endpoint,
                server ? "another program uses the port: choose another MASTER_PORT"
                       : "MASTER_ADDR and MASTER_PORT have to name the host of rank 0, and "
                         "rank 0 has to run"});
  }
  address_ = own_address(environment.master_address, environment.master_port);
  join(environment.rank, environment.world_size);
  std::vector<int> ranks(static_cast<std::size_t>(environment.world_size));
  std::iota(ranks.begin(), ranks.end(), 0);
  all_ = group("world", ranks);
  all_->barrier("start of the run");
}

ProcessWorld::~ProcessWorld() = default;

void ProcessWorld::join(int rank, int size) {
  c10d::PrefixStore store("espalier/host", store_);
  const std::string own = host_identity();
  store.set(std::to_string(rank), std::vector<std::uint8_t>(own.begin(), own.end()));
  std::string missing;
  for (int other = 0; other < size; ++other) {
    try {
      // Who comes last was waited for already: the others are asked for briefly.
      store.wait({std::to_string(other)},
                 missing.empty() ? backend_->timeout() : std::chrono::milliseconds(1000));
      const std::vector<std::uint8_t> host = store.get(std::to_string(other));
      hosts_.emplace_back(host.begin(), host.end());
    } catch (const std::exception&) {
      missing += (missing.empty() ? "" : ", ") + std::to_string(other);
    }
  }
  if (missing.empty()) return;
  throw Error(Problem{ErrorCode::kPeerFailed, "not all processes of the run have come",
                      "missing: rank " + missing, std::to_string(size) + " ranks",
                      "rank " + std::to_string(rank),
                      "look at the messages of those; dist_env.timeout_minutes says how long they "
                      "are waited for"});
}

std::shared_ptr<Communicator> ProcessWorld::group(const std::string& name,
                                                  const std::vector<int>& ranks) {
  const auto own = std::find(ranks.begin(), ranks.end(), environment_.rank);
  if (own == ranks.end()) return nullptr;
  if (ranks.size() == 1) return solo_communicator();
  GroupSetup setup;
  setup.name = name;
  setup.store = c10::make_intrusive<c10d::PrefixStore>("espalier/group/" + name, store_);
  setup.rank = static_cast<int>(own - ranks.begin());
  setup.size = static_cast<int>(ranks.size());
  setup.address = address_;
  setup.one_host = std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
    return hosts_[static_cast<std::size_t>(rank)] ==
           hosts_[static_cast<std::size_t>(environment_.rank)];
  });
  setup.timeout = backend_->timeout();
  try {
    groups_.push_back(std::make_shared<MonitoredCommunicator>(backend_->connect(setup), monitor_));
  } catch (const Error& error) {
    throw monitor_->explain("connecting group " + name, error.problems().front().found);
  }
  return groups_.back();
}

void ProcessWorld::abandon(const Error& error) {
  // Only causes are told: that others ended is known to all soon enough.
  if (error.code() != ErrorCode::kPeerFailed) {
    monitor_->report_failure(error.problems().front().what);
  }
  monitor_->silence();
  static std::vector<std::shared_ptr<PeerMonitor>> kept_monitors;
  kept_monitors.push_back(monitor_);
  static std::vector<std::shared_ptr<Communicator>> kept;
  kept = groups_;
  static std::vector<c10::intrusive_ptr<c10d::Store>> kept_stores;
  kept_stores.push_back(store_);
}

int run_in_world(const launch::RankEnvironment& environment,
                 const std::function<std::shared_ptr<CommBackend>()>& backend,
                 const std::function<int(World& world)>& work) {
  if (environment.world_size == 1) return work(*solo_world());
  ProcessWorld world(environment, backend());
  try {
    const int code = work(world);
    world.finish();
    return code;
  } catch (const Error& error) {
    world.abandon(error);
    throw;
  } catch (const std::exception& error) {
    world.abandon(Error(Problem{ErrorCode::kInternal, error.what(), {}, {}, {}, {}}));
    throw;
  }
}

void ProcessWorld::finish() {
  // Silence first: a rank that is through must not be missed by one that is not.
  all_->barrier("end of the run");
  monitor_->stop();
  all_->barrier("end of the run");
}

}  // namespace espalier
