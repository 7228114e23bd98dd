// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/launch.cuh>
#include <lightnet/backend/cuda/mma.cuh>
#include <lightnet/core/half.hpp>
#include <lightnet/core/math.hpp>
#include <lightnet/core/sequence.hpp>

#include <algorithm>

// MD-TPE of small images of bfloat16 by the matrix unit, both axes in one pass. The modes of a channel amount to a triangular
// Toeplitz matrix K for each axis, K[t, s] = k[t - s], k[i] = sum_j gain_j lambda_j^i, and a channel X of an image becomes
// X + K_0 X + X K_1^T. Least traffic: x and y once. Tile: eight channels of an image in shared memory, a warp each, which
// writes y over x from the last tokens to the first and has both K in its registers.

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

inline constexpr int mode_image_side = 64;  // the most tokens along an axis

/// lambda_j^i.
template <class T>
struct make_mode_powers {
  const T* gamma;  // [2, Modes]
  float* powers;   // [2, Modes, mode_image_side]

  __device__ void operator()(std::int64_t index) const {
    const double rate = exp(static_cast<double>(static_cast<float>(gamma[index / mode_image_side])));
    powers[index] = static_cast<float>(exp(-rate * static_cast<double>(index % mode_image_side)));
  }
};

/// The matrix K of an axis and channel, as a warp multiplies by it, in two parts of bfloat16 whose sum it is. K has few
/// different fragments: e, 8 x 8 numbers that begin 8 e below the diagonal, of which lane l has the pair k[r], k[r - 1],
/// r = 8 e + l / 4 - 2 (l % 4), be it on the left of a product or, transposed, on the right.
class mode_matrix {
 public:
  static constexpr int zeros = 8, size = zeros + mode_image_side;

  /// `kernel` [size]: zeros, then k.
  __device__ explicit mode_matrix(const float* kernel) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float* at = kernel + zeros + lane / 4 - 2 * (lane % 4);
    LIGHTNET_UNROLL
    for (int e = 0; e < fragments; ++e, at += 8) {
      parts_[0][e] = pack_bfloat16(at[0], at[-1]);
      parts_[1][e] = pack_bfloat16(at[0] - lower_bfloat16(parts_[0][e]), at[-1] - upper_bfloat16(parts_[0][e]));
    }
  }
  /// C += K[16, 16] B of one part, where K begins 8 e below the diagonal.
  __device__ void multiply_left(int part, int e, float (&c)[4], std::uint32_t b_low, std::uint32_t b_high) const {
    const std::uint32_t a[4] = {fragment(part, e), fragment(part, e + 1), fragment(part, e - 1), fragment(part, e)};
    multiply_add_matrices(c, a, b_low, b_high);
  }
  /// C += A K^T[16, 8] of one part.
  __device__ void multiply_right(int part, int e, float (&c)[4], const std::uint32_t (&a)[4]) const {
    multiply_add_matrices(c, a, fragment(part, e), fragment(part, e - 1));
  }
  /// k[8 e + n], which all lanes ask for.
  __device__ float number(int e, int n) const {
    return __shfl_sync(~0U, lower_bfloat16(parts_[0][e]) + lower_bfloat16(parts_[1][e]), 4 * n);
  }

 private:
  static constexpr int fragments = mode_image_side / 8;

  __device__ std::uint32_t fragment(int part, int e) const { return e < 0 ? 0U : parts_[part][e]; }

  std::uint32_t parts_[2][fragments];
};

/// y = x + the modes of both axes, for every image of a batch; a token that does not count reads as 0 and becomes 0.
template <int Width, int Modes>
struct encode_mode_images {
  static constexpr int channels = 8, threads = 32 * channels, blocks_of_processor = 2;
  static constexpr int groups = Width / channels;

  const float* powers;    // [2, Modes, mode_image_side]
  const bfloat16* gains;  // [2, Width, Modes]
  const bfloat16* x;      // [B, N, Width]
  bfloat16* y;            // [B, N, Width]
  dynamic_view<2, const bool, cuda> mask;
  int rows, columns;    // of the tokens of an image
  std::int64_t prefix;  // the tokens before it
  bool mirrored;        // both axes are walked from their ends

  static bool takes(std::int64_t rows, std::int64_t columns, const void* x, const void* y) {
    const auto address = reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(y);
    return rows > 0 && rows <= mode_image_side && columns > 0 && columns <= mode_image_side && address % 16 == 0;
  }

  LIGHTNET_HOST_DEVICE static int padded(int tokens) { return (tokens + 15) / 16 * 16; }
  LIGHTNET_HOST_DEVICE int stride() const { return bfloat16_tile::padded(padded(columns)); }
  LIGHTNET_HOST_DEVICE int plane() const { return padded(rows) * stride(); }  // a channel in shared memory
  std::size_t shared_bytes() const {
    const std::size_t kernels = 2 * channels * mode_matrix::size * sizeof(float);
    return std::max(kernels, channels * static_cast<std::size_t>(plane()) * sizeof(bfloat16));
  }

  /// A token at its place in an image, and whether there is one that counts.
  struct placed_token {
    std::int64_t first;  // its group's channels, in x and y
    bool there, counts;
  };
  __device__ placed_token token(std::int64_t image, int group, int row, int column) const {
    if (row >= rows || column >= columns) return {0, false, false};
    const int place = row * columns + column, size = rows * columns;
    const std::int64_t t = prefix + (mirrored ? size - 1 - place : place);
    return {(image * (prefix + size) + t) * Width + group * channels, true, !mask || mask(image, t)};
  }

  /// k of both axes of the group's channels, [channels, 2, mode_matrix::size]; the second one has the 1 of x itself.
  __device__ void make_kernels(int group, float* kernels) const {
    constexpr int size = mode_matrix::size;
    for (int n = static_cast<int>(threadIdx.x); n < 2 * channels * size; n += threads) {
      const int i = n % size - mode_matrix::zeros, axis = n / size % 2, c = group * channels + n / size / 2;
      float k = axis == 1 && i == 0 ? 1.0F : 0.0F;
      if (i >= 0) {
        const float* const power = powers + axis * Modes * mode_image_side + i;
        const bfloat16* const gain = gains + (static_cast<std::int64_t>(axis) * Width + c) * Modes;
        LIGHTNET_UNROLL
        for (int j = 0; j < Modes; ++j) k = multiply_add(static_cast<float>(gain[j]), power[j * mode_image_side], k);
      }
      kernels[n] = k;
    }
  }

  /// The group's channels of a token.
  struct alignas(16) token_word {
    std::uint32_t pairs[channels / 2];
  };

  /// Puts x into shared memory. Whether all of it are finite.
  __device__ bool load(std::int64_t image, int group, std::uint32_t* planes) const {
    constexpr int together = 2;
    const int across = padded(columns) / 2, all = padded(rows) * across, words = plane() / 2;
    std::uint32_t largest = 0;
    LIGHTNET_DO_NOT_UNROLL
    for (int first = static_cast<int>(threadIdx.x); first < all; first += together * threads) {
      token_word read[together][2];
      LIGHTNET_UNROLL
      for (int n = 0; n < together; ++n) {
        const int row = (first + n * threads) / across, column = (first + n * threads) % across * 2;
        LIGHTNET_UNROLL
        for (int side = 0; side < 2; ++side) {
          const auto at = token(image, group, row, column + side);
          read[n][side] = {};
          if (at.counts) read[n][side] = *reinterpret_cast<const token_word*>(x + at.first);
        }
      }
      LIGHTNET_UNROLL
      for (int n = 0; n < together; ++n) {
        const int place = first + n * threads;
        if (place >= all) break;
        std::uint32_t* to = planes + place / across * (stride() / 2) + place % across;
        LIGHTNET_UNROLL
        for (int c = 0; c < channels; ++c, to += words) {
          const std::uint32_t left = read[n][0].pairs[c / 2], right = read[n][1].pairs[c / 2];
          const std::uint32_t both = __byte_perm(left, right, c % 2 == 0 ? 0x5410 : 0x7632);
          largest = __vmaxu2(largest, both & 0x7FFF7FFFU);
          *to = both;
        }
      }
    }
    constexpr std::uint32_t infinity = 0x7F80;
    return largest >> 16 < infinity && (largest & 0xFFFFU) < infinity;
  }

  /// Writes y from where x was.
  __device__ void store(std::int64_t image, int group, const std::uint32_t* planes) const {
    const int across = padded(columns) / 2, all = padded(rows) * across, words = plane() / 2;
    for (int place = static_cast<int>(threadIdx.x); place < all; place += threads) {
      const int row = place / across, column = place % across * 2;
      const std::uint32_t* const from = planes + row * (stride() / 2) + place % across;
      LIGHTNET_UNROLL
      for (int side = 0; side < 2; ++side) {
        const auto at = token(image, group, row, column + side);
        if (!at.there) continue;
        token_word made;
        LIGHTNET_UNROLL
        for (int c = 0; c < channels; c += 2) {
          const std::uint32_t both = __byte_perm(from[c * words], from[(c + 1) * words], side == 0 ? 0x5410 : 0x7632);
          made.pairs[c / 2] = at.counts ? both : 0U;
        }
        *reinterpret_cast<token_word*>(y + at.first) = made;
      }
    }
  }

  /// X <- K_0 X + X K_1^T, 16 rows and 32 columns at a time.
  __device__ void multiply(const mode_matrix& down, const mode_matrix& along, const bfloat16_tile& image) const {
    constexpr int side = mode_image_side;
    const int lane = static_cast<int>(threadIdx.x) % 32, width = padded(columns);
    LIGHTNET_UNROLL
    for (int m = side - 16; m >= 0; m -= 16) {
      if (m >= rows) continue;
      LIGHTNET_UNROLL
      for (int n = side - 32; n >= 0; n -= 32) {
        if (n >= columns) continue;
        float sums[4][4] = {};
        LIGHTNET_UNROLL
        for (int k = 0; k < n + 32; k += 16) {
          if (k >= width) continue;
          std::uint32_t a[4];
          image.load_left(a, m, k);
          LIGHTNET_UNROLL
          for (int part = 0; part < 2; ++part) {
            LIGHTNET_UNROLL
            for (int t = 0; t < 4; ++t) {
              if (n + 8 * t >= k) along.multiply_right(part, (n + 8 * t - k) / 8, sums[t], a);
            }
          }
        }
        LIGHTNET_UNROLL
        for (int k = 0; k <= m; k += 16) {
          LIGHTNET_UNROLL
          for (int t = 0; t < 4; t += 2) {
            if (n + 8 * t >= width) continue;
            std::uint32_t b[4];
            image.load_right(b, k, n + 8 * t);
            LIGHTNET_UNROLL
            for (int part = 0; part < 2; ++part) {
              down.multiply_left(part, (m - k) / 8, sums[t], b[0], b[1]);
              down.multiply_left(part, (m - k) / 8, sums[t + 1], b[2], b[3]);
            }
          }
        }
        __syncwarp();  // all lanes have read
        LIGHTNET_UNROLL
        for (int t = 0; t < 4; ++t) {
          if (n + 8 * t >= width) continue;
          LIGHTNET_UNROLL
          for (int half = 0; half < 2; ++half) {
            *reinterpret_cast<std::uint32_t*>(image.at(m + lane / 4 + 8 * half, n + 8 * t + lane % 4 * 2)) =
                pack_bfloat16(sums[t][2 * half], sums[t][2 * half + 1]);
          }
        }
      }
    }
  }

  /// The same, number by number, where some are not finite: zero times these would reach the tokens before them.
  __device__ void walk(const mode_matrix& down, const mode_matrix& along, const bfloat16_tile& image) const {
    constexpr int of_lane = mode_image_side / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const auto number = [&image](int row, int column) { return widen_bfloat16(*image.at(row, column)); };
    LIGHTNET_DO_NOT_UNROLL
    for (int row = rows - 1; row >= 0; --row) {
      float sums[of_lane] = {};
      LIGHTNET_UNROLL
      for (int e = 0; e < mode_image_side / 8; ++e) {
        LIGHTNET_DO_NOT_UNROLL
        for (int n = 0; n < 8; ++n) {
          const int back = 8 * e + n;
          const float k_down = down.number(e, n), k_along = along.number(e, n);
          LIGHTNET_UNROLL
          for (int i = 0; i < of_lane; ++i) {
            const int column = lane + 32 * i;
            if (column >= columns) continue;
            if (back <= column) sums[i] = multiply_add(k_along, number(row, column - back), sums[i]);
            if (back <= row) sums[i] = multiply_add(k_down, number(row - back, column), sums[i]);
          }
        }
      }
      __syncwarp();  // all lanes have read
      LIGHTNET_UNROLL
      for (int i = 0; i < of_lane; ++i) {
        const int column = lane + 32 * i;
        if (column < columns) *image.at(row, column) = round_to_bfloat16(sums[i]);
      }
      __syncwarp();
    }
  }
};

/// A block encodes one group of channels of an image.
template <class Encode>
__global__ void __launch_bounds__(Encode::threads, Encode::blocks_of_processor)
    mode_image_kernel(const __grid_constant__ Encode encode) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  auto* const kernels = reinterpret_cast<float*>(shared_memory);  // x takes their place
  auto* const planes = reinterpret_cast<std::uint32_t*>(shared_memory);
  const std::int64_t image = blockIdx.x / Encode::groups;
  const int group = static_cast<int>(blockIdx.x % Encode::groups), warp = static_cast<int>(threadIdx.x) / 32;
  take_turn();
  encode.make_kernels(group, kernels);
  __syncthreads();
  const mode_matrix down{kernels + 2 * warp * mode_matrix::size}, along{kernels + (2 * warp + 1) * mode_matrix::size};
  __syncthreads();
  const bool finite = __syncthreads_and(encode.load(image, group, planes)) != 0;
  const bfloat16_tile channel{reinterpret_cast<std::uint16_t*>(planes + warp * (encode.plane() / 2)), encode.stride()};
  if (finite) {
    encode.multiply(down, along, channel);
  } else {
    encode.walk(down, along, channel);
  }
  __syncthreads();
  encode.store(image, group, planes);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
