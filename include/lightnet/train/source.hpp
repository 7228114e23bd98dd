// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/execution.hpp>

#include <cstdint>
#include <span>
#include <utility>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What `load` of a source of batches gives.
template <class Source>
using batch_of = decltype(std::declval<Source&>().load(std::span<const std::int64_t>{}, std::int64_t{}));

/// Whether a source leaves work to the device.
template <class Source, class Device>
inline constexpr bool fills = requires(Source& source, execution<Device>& on) {
  source.fill(on);
};

/// Whether a source wants to know which batch comes next.
template <class Source>
inline constexpr bool looks_ahead = requires(Source& source, std::span<const std::int64_t> items) {
  source.prefetch(items, std::int64_t{});
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
