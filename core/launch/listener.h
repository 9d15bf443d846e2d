#pragma once

namespace espalier::launch {

/// A TCP socket that listens on a port of the loopback interface which the system chose: no other
/// process can take the port before the run uses it.
class Listener {
 public:
  /// Throws Error(kIo).
  Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  int descriptor() const { return descriptor_; }
  int port() const { return port_; }

 private:
  int descriptor_ = -1;
  int port_ = 0;
};

}  // namespace espalier::launch
