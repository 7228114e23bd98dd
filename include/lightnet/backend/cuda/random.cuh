// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/core/random.hpp>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

template <class T, bool Normal>
struct draw_random {
  random_stream stream;
  std::uint64_t first;
  T* to;
  std::int64_t stride;
  __device__ void operator()(std::int64_t i) const noexcept {
    const std::uint64_t index = first + static_cast<std::uint64_t>(i);
    to[i * stride] = static_cast<T>(Normal ? stream.normal(index) : stream.uniform(index));
  }
};

}  // namespace detail

/// Numbers `first`, `first` + 1, ... of a stream, uniform in (0, 1): those of the CPU bit for bit. to [n].
template <class T>
void fill_uniform(execution<cuda>& on, const random_stream& stream, std::uint64_t first,
                  const dynamic_view<1, T, cuda>& to) {
  detail::for_each(on, "fill_uniform", to.size(),
                   detail::draw_random<T, false>{stream, first, to.data(), to.stride(0)});
}

/// Numbers `first`, `first` + 1, ... of a stream, standard normal: those of the CPU within 2 ulp. to [n].
template <class T>
void fill_normal(execution<cuda>& on, const random_stream& stream, std::uint64_t first,
                 const dynamic_view<1, T, cuda>& to) {
  detail::for_each(on, "fill_normal", to.size(), detail::draw_random<T, true>{stream, first, to.data(), to.stride(0)});
}

LIGHTNET_END_NAMESPACE
