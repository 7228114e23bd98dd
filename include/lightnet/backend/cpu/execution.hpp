// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/error.hpp>
#include <lightnet/core/execution.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

LIGHTNET_BEGIN_NAMESPACE

/// The CPU: memory aligned to 64 bytes, threads of OpenMP.
struct cpu {
  static constexpr std::size_t alignment = 64;

  static void* allocate(std::size_t bytes) {
    void* const memory = ::operator new (bytes, std::align_val_t{alignment});
    ask_for_huge_pages(memory, bytes);
    return memory;
  }
  static void deallocate(void* memory) noexcept { ::operator delete (memory, std::align_val_t{alignment}); }
  static void copy(void* to, const void* from, std::size_t bytes) noexcept {
    if (bytes) std::memcpy(to, from, bytes);
  }
  static void clear(void* memory, std::size_t bytes) noexcept {
    if (bytes) std::memset(memory, 0, bytes);
  }
  /// Whether operations may read and write there; nobody asks the system for the memory of its own process.
  static bool reaches(const void*) noexcept { return true; }
  /// The device of this thread: there is one.
  static int current() noexcept { return 0; }
  static void make_current(int) noexcept {}

 private:
  /// The tokens of a head lie far apart, and a processor remembers the places of few pages: large memory is laid in pages
  /// of 2 MiB where the system has them.
  static void ask_for_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__)
    constexpr std::size_t huge_page = std::size_t{2} << 20;
    if (bytes < 2 * huge_page) return;
    static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t into_page = reinterpret_cast<std::uintptr_t>(memory) % page;
    madvise(static_cast<std::byte*>(memory) - into_page, bytes + into_page, MADV_HUGEPAGE);
#endif
  }
};

/// Threads and scratch memory for calls on the CPU. The number of threads never changes a bit of a result.
template <>
class execution<cpu> {
 public:
  /// `threads` of 0 takes what OpenMP would: OMP_NUM_THREADS or all cores. Throws value_error where negative.
  explicit execution(int threads = 0) : threads_{threads} {
    if (threads < 0) throw value_error("execution", "threads", "zero or more", std::to_string(threads));
#if defined(_OPENMP)
    if (threads == 0) threads_ = omp_get_max_threads();
#else
    threads_ = 1;
#endif
  }

  int threads() const noexcept { return threads_; }

  /// As every execution has it: a promise that a GPU makes use of.
  struct constant_weights {
    explicit constant_weights(execution&) noexcept {}
  };

  /// As every execution has them; calls on the CPU return when all is done, and throw what is wrong.
  void synchronize() const noexcept {}
  void check() const noexcept {}

  /// A part of the workspace, given back when the scope ends. Scopes nest. Once the outermost scope has seen the
  /// largest call, no call allocates.
  class scope {
   public:
    explicit scope(execution& owner) noexcept : owner_{owner}, block_{owner.block_}, used_{owner.used_} {
      ++owner.depth_;
    }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() {
      owner_.block_ = block_;
      owner_.used_ = used_;
      if (--owner_.depth_ == 0) owner_.join_blocks();
    }

    /// `count` elements, aligned to 64 bytes, of any content.
    template <class T>
    T* take(std::int64_t count) {
      return static_cast<T*>(owner_.take(static_cast<std::size_t>(count) * sizeof(T)));
    }

   private:
    execution& owner_;
    std::size_t block_, used_;
  };

 private:
  struct release {
    void operator()(std::byte* memory) const noexcept { cpu::deallocate(memory); }
  };
  struct block {
    std::unique_ptr<std::byte, release> memory;
    std::size_t size;
  };

  static block make_block(std::size_t bytes) {
    return {std::unique_ptr<std::byte, release>{static_cast<std::byte*>(cpu::allocate(bytes))}, bytes};
  }

  void* take(std::size_t bytes) {
    const std::size_t rounded = (bytes + cpu::alignment - 1) / cpu::alignment * cpu::alignment;
    while (block_ < blocks_.size() && blocks_[block_].size - used_ < rounded) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) blocks_.push_back(make_block(rounded < smallest_block ? smallest_block : rounded));
    void* const memory = blocks_[block_].memory.get() + used_;
    used_ += rounded;
    return memory;
  }

  // Several blocks mean that the last call outgrew the first: the next one finds a single block that holds it all. They are
  // given back before, so that there is never twice as much.
  void join_blocks() noexcept {
    if (blocks_.size() < 2) return;
    std::size_t total = 0;
    for (const block& part : blocks_) total += part.size;
    blocks_.clear();
    try {
      blocks_.push_back(make_block(total));
    } catch (const std::bad_alloc&) {  // the next call asks again
    }
  }

  static constexpr std::size_t smallest_block = std::size_t{1} << 16;

  int threads_;
  std::vector<block> blocks_;
  std::size_t block_ = 0, used_ = 0;
  int depth_ = 0;
};

LIGHTNET_END_NAMESPACE
