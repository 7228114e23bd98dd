// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <cmath>
#include <cstdint>

LIGHTNET_BEGIN_NAMESPACE

/// A few random words of 32 bits.
template <int Count>
struct random_words {
  std::uint32_t values[Count];

  LIGHTNET_HOST_DEVICE constexpr std::uint32_t operator[](std::uint64_t i) const noexcept { return values[i]; }
  friend constexpr bool operator==(const random_words&, const random_words&) = default;
};

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11): 128 random bits as a pure
/// function of a counter and a key.
LIGHTNET_HOST_DEVICE constexpr random_words<4> philox(random_words<4> counter, random_words<2> key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t right = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {{static_cast<std::uint32_t>(right >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(right),
                static_cast<std::uint32_t>(left >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(left)}};
    key = {{key[0] + 0x9E3779B9, key[1] + 0xBB67AE85}};
  }
  return counter;
}

/// A stream of random numbers in which number i is a function of seed, stream and i alone: any thread may draw any of
/// them, in any order, and a stream goes on after a stop from its index.
class random_stream {
 public:
  LIGHTNET_HOST_DEVICE constexpr explicit random_stream(std::uint64_t seed, std::uint64_t stream = 0) noexcept
      : seed_{seed}, stream_{stream} {}

  /// 32 random bits.
  LIGHTNET_HOST_DEVICE constexpr std::uint32_t bits(std::uint64_t index) const noexcept {
    return block(index / 4, 0)[index % 4];
  }

  /// A number of (0, 1), a multiple of 2^-33.
  LIGHTNET_HOST_DEVICE constexpr double uniform(std::uint64_t index) const noexcept { return open(bits(index)); }

  /// A number of [0, bound), without bias beyond 2^-32 bound; bound > 0.
  LIGHTNET_HOST_DEVICE constexpr std::uint32_t below(std::uint32_t bound, std::uint64_t index) const noexcept {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(bits(index)) * bound) >> 32);
  }

  /// A standard normal number (Box and Muller).
  LIGHTNET_HOST_DEVICE double normal(std::uint64_t index) const noexcept {
    const pair drawn = normal_pair(block(index / 2, 1));
    return index % 2 == 0 ? drawn.first : drawn.second;
  }

  /// A standard normal number within [-2, 2]: the first that falls there of a row of draws that belongs to the index.
  LIGHTNET_HOST_DEVICE double truncated_normal(std::uint64_t index) const noexcept {
    for (std::uint32_t draw = 2;; ++draw) {
      const pair drawn = normal_pair(block(index, draw));
      if (drawn.first >= -2 && drawn.first <= 2) return drawn.first;
      if (drawn.second >= -2 && drawn.second <= 2) return drawn.second;
    }
  }

 private:
  using words = random_words<4>;
  struct pair {
    double first, second;
  };

  // The counter holds the index (64 bits), the stream (32 bits, the rest goes into the key) and what the draw is for.
  LIGHTNET_HOST_DEVICE constexpr words block(std::uint64_t index, std::uint32_t purpose) const noexcept {
    return philox({{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                    static_cast<std::uint32_t>(stream_), purpose}},
                  {{static_cast<std::uint32_t>(seed_),
                    static_cast<std::uint32_t>(seed_ >> 32) ^ static_cast<std::uint32_t>(stream_ >> 32)}});
  }

  LIGHTNET_HOST_DEVICE static constexpr double open(std::uint32_t word) noexcept {
    return (static_cast<double>(word) + 0.5) * 0x1p-32;
  }

  LIGHTNET_HOST_DEVICE static pair normal_pair(const words& word) noexcept {
    const double radius = std::sqrt(-2 * std::log(open(word[0])));
    const double angle = 6.283185307179586476925 * open(word[1]);
    return {radius * std::cos(angle), radius * std::sin(angle)};
  }

  std::uint64_t seed_, stream_;
};

/// What a random stream is for: streams of different purposes never meet. Those of parameters are 0, 1, 2, ...
enum class stream_purpose : std::uint32_t {
  parameters = 0,
  order = 1,
  augmentation = 2,
  dropout = 3,
  sampling = 4,
  noise = 5,
  masking = 6
};

/// Stream `index` of a purpose, for one seed.
LIGHTNET_HOST_DEVICE constexpr random_stream stream_for(stream_purpose purpose, std::uint64_t seed,
                                                        std::uint32_t index = 0) noexcept {
  return random_stream{seed, static_cast<std::uint64_t>(purpose) << 32 | index};
}

LIGHTNET_END_NAMESPACE
