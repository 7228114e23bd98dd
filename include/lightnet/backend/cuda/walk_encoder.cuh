// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/walk_memory.cuh>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the warps that multiply encode the factors of a tile, where the job's position does: each channel times the cosine
/// of its angle, in its place, and times the sine, in a tile of its own. Gradients of factors come as such halves, too, each
/// in four warps, and are joined.
template <walk_for What, class Job, class Outputs, int D>
class walk_encoder : protected walk_part<What, Job, Outputs, D> {
 protected:
  using part = walk_part<What, Job, Outputs, D>;
  using typename part::plan, typename part::memory, typename part::tile;

  __device__ explicit walk_encoder(const part& given) : part{given} {}

  static constexpr int eights = part::rows * (D / 8) / plan::readers;  // so many times eight channels has a thread
  /// The packed angles of these, four rows apart.
  struct angles {
    uint4 of_row[eights][2];
  };
  /// Those of a tile that begins at a position, on their way from memory.
  __device__ __forceinline__ angles angles_of(int first) const {
    angles read;
    const auto& at = part::line_.at;
    const int row = first_row(), last = part::line_.length - 1 - first;
    const std::uint32_t* const of_first = part::job_.packed(at, at.line.token(first)) + column();
    const std::int64_t step = at.line.step * part::job_.packed_words;
#pragma unroll
    for (int n = 0; n < eights; ++n) {
      const int r = row + 4 * n < last ? row + 4 * n : last;
      const auto* const from = reinterpret_cast<const uint4*>(of_first + r * step);
      read.of_row[n][0] = from[0];
      read.of_row[n][1] = from[1];
    }
    return read;
  }

  /// Encodes what the walk wants of a tile. Products read it once all that multiply have met.
  __device__ __forceinline__ void encode(const angles& of, int stage) const {
    const int row = first_row(), place = static_cast<int>(tile{nullptr}.part(row, column()) - tile{nullptr}.data);
    const unsigned char* const rest = part::shared_.rest(stage).data;
    const auto at = [&](int n) { return (n % 2 == 0 ? place : place ^ 64) + n * 4 * tile::row_bytes; };
    const auto each = [&](const auto& body) {
      if constexpr (plan::encodes_k) body(0, part::shared_.k(stage).data, part::shared_.sines_of_k().data);
      if constexpr (plan::encodes_q) body(kinds - 1, part::shared_.q(stage).data, part::shared_.sines_of_q().data);
    };
    eight given[kinds], next[kinds];  // the next ones are read before these are written
    each([&](int kind, const unsigned char* factors, unsigned char*) {
      given[kind] = eight::at(factors + at(0), rest + at(0));
    });
#pragma unroll
    for (int n = 0; n < eights; ++n) {
      if (n + 1 < eights) {
        each([&](int kind, const unsigned char* factors, unsigned char*) {
          next[kind] = eight::at(factors + at(n + 1), rest + at(n + 1));
        });
      }
      if constexpr (plan::joins_halves) {
        auto* const to = reinterpret_cast<uint4*>(part::shared_.turns + (row + 4 * n) * plan::extra_stride + column());
        to[0] = of.of_row[n][0];
        to[1] = of.of_row[n][1];
      }
      float2 turn[8];  // cosine and sine
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 packed = of.of_row[n][half];
        turn[half * 4] = both_float16(packed.x);
        turn[half * 4 + 1] = both_float16(packed.y);
        turn[half * 4 + 2] = both_float16(packed.z);
        turn[half * 4 + 3] = both_float16(packed.w);
      }
      each([&](int kind, unsigned char* factors, unsigned char* sines) {
        encode_eight(turn, given[kind], factors + at(n), sines + at(n));
        given[kind] = next[kind];
      });
    }
  }

  /// The sum of y of both halves, as walk_rows has them; where they are those of a gradient by encoded factors (Turns), the
  /// gradient by the factors. Whether this thread is one of those that have it.
  template <bool Turns>
  __device__ __forceinline__ bool join_halves(float (&y)[32]) const {
    const int thread = anew(static_cast<int>(threadIdx.x) % 128), lane = thread % 32;
    const int channel = thread / 32 * 16 + lane / 4, token = lane % 4 * 2;
    const bool first = threadIdx.x < 128;
    const auto each = [&](const auto& body) {
#pragma unroll
      for (int n = 0; n < 32; ++n) {
        body(y[n], (token + n / 4 * 8 + n % 2) * plan::extra_stride + channel + n / 2 % 2 * 8);
      }
    };
    each([&](float& x, int place) {
      if constexpr (Turns) {
        const float2 turn = both_float16(part::shared_.turns[place]);
        x *= first ? turn.x : turn.y;
      }
      if (!first) part::shared_.halves[place] = x;
    });
    memory::reading().meet();
    if (first) each([&](float& x, int place) { x += part::shared_.halves[place]; });
    return first;
  }

 private:
  static constexpr int kinds = plan::encodes_k && plan::encodes_q ? 2 : 1;  // of factors
  /// Eight factors, and what rounding left of them.
  struct eight {
    uint4 factors, rests;
    __device__ static eight at(const unsigned char* factors, const unsigned char* rests) {
      return {*reinterpret_cast<const uint4*>(factors),
              plan::has_rests ? *reinterpret_cast<const uint4*>(rests) : uint4{}};
    }
  };

  __device__ static int first_row() {
    const int thread = anew(static_cast<int>(threadIdx.x));
    return thread / 32 * (4 * eights) + thread % 32 / 8;
  }
  __device__ static int column() { return anew(static_cast<int>(threadIdx.x)) % 8 * 8; }

  __device__ __forceinline__ static void encode_eight(const float2 (&turn)[8], const eight& of, unsigned char* factors,
                                                      unsigned char* sines) {
    const std::uint32_t pairs[4] = {of.factors.x, of.factors.y, of.factors.z, of.factors.w},
                        rest[4] = {of.rests.x, of.rests.y, of.rests.z, of.rests.w};
    std::uint32_t cosine[4], sine[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float x = lower_bfloat16(pairs[i]), y = upper_bfloat16(pairs[i]);
      if constexpr (plan::has_rests) {
        x += lower_bfloat16(rest[i]);
        y += upper_bfloat16(rest[i]);
      }
      cosine[i] = pack_bfloat16(x * turn[2 * i].x, y * turn[2 * i + 1].x);
      sine[i] = pack_bfloat16(x * turn[2 * i].y, y * turn[2 * i + 1].y);
    }
    *reinterpret_cast<uint4*>(factors) = uint4{cosine[0], cosine[1], cosine[2], cosine[3]};
    *reinterpret_cast<uint4*>(sines) = uint4{sine[0], sine[1], sine[2], sine[3]};
  }
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
