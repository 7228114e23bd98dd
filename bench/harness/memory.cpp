// SPDX-License-Identifier: Apache-2.0
#include "harness/memory.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::size_t> in_use{0}, peak{0};

// In front of each piece, as much as its alignment, lies its size.
void* give(std::size_t size, std::size_t alignment) {
  const std::size_t whole = (size + alignment - 1) / alignment * alignment + alignment;
  void* const memory = std::aligned_alloc(alignment, whole);
  if (!memory) throw std::bad_alloc{};
  *static_cast<std::size_t*>(memory) = size;
  const std::size_t now = in_use += size;
  std::size_t most = peak;
  while (most < now && !peak.compare_exchange_weak(most, now)) {
  }
  return static_cast<std::byte*>(memory) + alignment;
}

void take_back(void* given, std::size_t alignment) noexcept {
  if (!given) return;
  void* const memory = static_cast<std::byte*>(given) - alignment;
  in_use -= *static_cast<std::size_t*>(memory);
  std::free(memory);
}

constexpr std::size_t usual = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

// The forms for arrays, and those that do not throw, call these.
void* operator new(std::size_t size) { return give(size, usual); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return give(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { take_back(memory, usual); }
void operator delete(void* memory, std::size_t) noexcept { take_back(memory, usual); }
void operator delete(void* memory, std::align_val_t alignment) noexcept {
  take_back(memory, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept {
  take_back(memory, static_cast<std::size_t>(alignment));
}

namespace bench {

std::size_t begin_of_peak() {
  peak = in_use.load();
  return peak;
}

std::size_t peak_since(std::size_t begin) { return peak - begin; }

}  // namespace bench
