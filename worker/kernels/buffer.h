// Uninitialised memory that is kept between steps.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "common/huge_pages.h"

namespace moe::kernels {

// Room for elements of a plain type, 64-byte aligned. Grows, never shrinks, so that a step that
// looks like the one before it allocates nothing.
template <typename T>
class Buffer {
 public:
  // At least `count` elements; what they hold is unspecified.
  T* Reserve(int64_t count) {
    if (count > capacity_) {
      const size_t alignment = count * sizeof(T) >= kHugePageBytes ? kHugePageBytes : 64;
      const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
      data_.reset(static_cast<T*>(std::aligned_alloc(alignment, bytes)));
      if (data_ == nullptr) {
        capacity_ = 0;
        throw std::bad_alloc();
      }
      AdviseHugePages(data_.get(), bytes);
      capacity_ = count;
    }
    return data_.get();
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace moe::kernels
