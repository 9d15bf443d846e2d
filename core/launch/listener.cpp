#include "launch/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "espalier/base/file.h"

namespace espalier::launch {

Listener::Listener() {
  constexpr int kBacklog = 1024;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool listens = descriptor_ >= 0 && ::bind(descriptor_, generic, size) == 0 &&
                       ::listen(descriptor_, kBacklog) == 0 &&
                       ::getsockname(descriptor_, generic, &size) == 0;
  if (!listens) {
    const int failure = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    throw_io("listen on", "the loopback interface", failure);
  }
  port_ = ntohs(address.sin_port);
}

Listener::~Listener() { ::close(descriptor_); }

}  // namespace espalier::launch
