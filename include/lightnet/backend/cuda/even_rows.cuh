// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/recurrence_job.cuh>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// Rows of a sequence as 16 bytes at a time, where all of them lie so.
template <class T>
struct even_rows {
  T* first = nullptr;     // of position 0
  std::int32_t step = 0;  // bytes

  __device__ explicit operator bool() const { return first != nullptr; }
  __device__ T* row(int position) const {
    using byte = std::conditional_t<std::is_const_v<T>, const unsigned char, unsigned char>;
    return reinterpret_cast<T*>(reinterpret_cast<byte*>(first) + static_cast<std::int64_t>(position) * step);
  }

  /// `wide` channels of the positions of a line.
  template <class Sequence>
  __device__ static even_rows of(const Sequence& sequence, const line_of_head& at, std::int64_t wide) {
    std::int64_t step = 0;
    if (!sequence || !sequence.evenly_spaced(step) || sequence.channel_stride() != 1 || sequence.channels() != wide) {
      return {};
    }
    step *= at.line.step * static_cast<std::int64_t>(sizeof(T));
    T* const first = sequence.token(at.line.batch, at.head, at.line.token(0));
    const bool fits = step == static_cast<std::int32_t>(step);
    if (reinterpret_cast<std::uintptr_t>(first) % 16 != 0 || step % 16 != 0 || !fits) return {};
    return {first, static_cast<std::int32_t>(step)};
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
