// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/error.hpp>
#include <lightnet/core/random.hpp>

#include <cstddef>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// The order in which an epoch visits `count` items: a permutation of 0 to count - 1 as a pure function of the seed and
/// the epoch, so that nothing of it has to be saved. Every permutation is equally likely, but for what 64 bits cannot
/// divide evenly (Fisher and Yates; Durstenfeld's form). Throws value_error for negative numbers.
inline std::vector<std::int64_t> data_order(std::int64_t count, std::uint64_t seed, std::int64_t epoch) {
  if (count < 0) throw value_error("data_order", "count", "zero or more", std::to_string(count));
  if (epoch < 0 || epoch > 0xFFFFFFFF) {
    throw value_error("data_order", "epoch", "zero to 2^32 - 1", std::to_string(epoch));
  }
  const random_stream random = stream_for(stream_purpose::order, seed, static_cast<std::uint32_t>(epoch));
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::uint64_t left = order.size(); left > 1; --left) {
    // floor(left * 64 random bits / 2^64), in halves
    const std::uint64_t index = 2 * (order.size() - left);
    const std::uint64_t high = random.bits(index), low = random.bits(index + 1);
    const std::uint64_t left_high = left >> 32, left_low = left & 0xFFFFFFFF;
    const std::uint64_t carry = (low * left_low) >> 32;
    const std::uint64_t middle = high * left_low + carry;
    const std::uint64_t other = low * left_high + (middle & 0xFFFFFFFF);
    const std::uint64_t chosen = high * left_high + (middle >> 32) + (other >> 32);
    std::swap(order[static_cast<std::size_t>(left - 1)], order[static_cast<std::size_t>(chosen)]);
  }
  return order;
}

LIGHTNET_END_NAMESPACE
