#pragma once

#include <ATen/record_function.h>

#include <atomic>
#include <string>

namespace espalier::testing {

/// Counts the matrix products of all threads while it lives; one at a time.
class ProductCounter {
 public:
  ProductCounter() {
    count() = 0;
    handle_ = at::addGlobalCallback(
        at::RecordFunctionCallback([](const at::RecordFunction& function)
                                       -> std::unique_ptr<at::ObserverContext> {
          const std::string name = function.name();
          if (name == "aten::mm" || name == "aten::addmm" || name == "aten::addmm_") ++count();
          return nullptr;
        }).scopes({at::RecordScope::FUNCTION}));
  }
  ProductCounter(const ProductCounter&) = delete;
  ProductCounter& operator=(const ProductCounter&) = delete;
  ~ProductCounter() { at::removeCallback(handle_); }

  static std::atomic<int>& count() {
    static std::atomic<int> products = 0;
    return products;
  }

 private:
  at::CallbackHandle handle_ = 0;
};

}  // namespace espalier::testing
