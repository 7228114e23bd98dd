// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__CUDA_ARCH__)
#define LIGHTNET_AMX 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define LIGHTNET_AMX 0
#endif

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

// C[m, n] (+)= A[m, k] B[k, n] on the matrix unit of x86 processors (AMX). Operands are rounded to bfloat16, to nearest
// even; sums are float; denormal numbers become zero, in C too. Three steps: pack A, pack B, multiply what is packed.
//
// A tile of A is 16 rows of 32 terms; one of B is 16 pairs of terms by 16 columns, the two terms of a pair together;
// what they hold beyond the matrix is zero. An element of C adds up its terms in runs of 32, so its bits depend on its
// row of A and its column of B alone.

namespace amx {

inline constexpr std::int64_t tile_rows = 16;   // of A and C; columns of B and C
inline constexpr std::int64_t tile_terms = 32;  // of the sum
inline constexpr std::int64_t tile_bytes = 1024;

constexpr std::int64_t tiles_over(std::int64_t count, std::int64_t size) noexcept { return (count + size - 1) / size; }

/// 16 rows of a block of C.
struct row_of_tiles {
  float* data;
  std::int64_t stride;
};

}  // namespace amx

/// The bytes of one packed operand, A[extent, depth] or B[depth, extent].
constexpr std::int64_t packed_bytes(std::int64_t extent, std::int64_t depth) noexcept {
  return amx::tiles_over(extent, amx::tile_rows) * amx::tiles_over(depth, amx::tile_terms) * amx::tile_bytes;
}

/// The scratch memory of `multiply_amx`, in bytes; what is enough for some sizes is enough for smaller ones.
constexpr std::int64_t amx_scratch_bytes(std::int64_t m, std::int64_t n, std::int64_t k) noexcept {
  return packed_bytes(m, k) + packed_bytes(n, k);
}

/// A view of a packed operand: A[extent, depth], or where `Right` B[depth, extent].
template <bool Right>
struct packed_operand {
  const std::byte* tiles;  // [extent / 16, depth / 32], rounded up
  std::int64_t extent, depth;
  std::int64_t band;  // bytes from 16 rows of A (columns of B) to the next 16

  /// `count` rows of A (columns of B) from `first` on, a multiple of 16.
  packed_operand part(std::int64_t first, std::int64_t count) const noexcept {
    return {tiles + first / amx::tile_rows * band, count, depth, band};
  }
};
using packed_left = packed_operand<false>;
using packed_right = packed_operand<true>;

#if LIGHTNET_AMX

// Only these functions are compiled for AMX: a program that holds them runs on every x86 processor.
#define LIGHTNET_AMX_LEAF __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))
#define LIGHTNET_AMX_INLINE LIGHTNET_AMX_LEAF __attribute__((always_inline)) inline

/// Whether processor and system let this process use AMX. The first call asks the system for it.
inline bool amx_available() noexcept {
  static const bool available = [] {
    const auto has = [](unsigned flags, unsigned wanted) { return (flags & wanted) == wanted; };
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 1u << 27)) return false;  // OSXSAVE
    unsigned saved = 0, saved_high = 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(saved_high) : "c"(0));
    if (!has(saved, 0b110'0000'0000'1110'0110u)) return false;  // registers of SSE, AVX, AVX-512 and AMX
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!has(b, 1u << 16 | 1u << 30 | 1u << 31) || !has(d, 1u << 22 | 1u << 24)) return false;  // AVX512F BW VL, AMX
    if (a < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !has(a, 1u << 5)) return false;    // AVX512_BF16
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return available;
}

namespace amx {

// The instructions are spelled out: where compilers have functions for them, those of GCC 12 tell it neither that tiles
// are loaded from memory nor how many bytes a configuration has.

struct alignas(64) tile_configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(tile_configuration) == 64);

LIGHTNET_AMX_LEAF inline void configure_tiles() noexcept {
  static constexpr tile_configuration eight_full_tiles;
  __asm__ volatile("ldtilecfg\t%0" : : "m"(eight_full_tiles) : "memory");
}

LIGHTNET_AMX_LEAF inline void release_tiles() noexcept { __asm__ volatile("tilerelease" : : : "memory"); }

template <int Tile>
LIGHTNET_AMX_INLINE void clear_tile() noexcept {
  __asm__ volatile("{tilezero\t%%tmm%c0|tilezero\ttmm%c0}" : : "i"(Tile));
}

template <int Tile>
LIGHTNET_AMX_INLINE void load_tile(const void* from, std::int64_t row_bytes) noexcept {
  __asm__ volatile("{tileloadd\t(%1,%2,1), %%tmm%c0|tileloadd\ttmm%c0, [%1+%2*1]}"
                   :
                   : "i"(Tile), "r"(from), "r"(row_bytes)
                   : "memory");
}

template <int Tile>
LIGHTNET_AMX_INLINE void store_tile(void* to, std::int64_t row_bytes) noexcept {
  __asm__ volatile("{tilestored\t%%tmm%c0, (%1,%2,1)|tilestored\t[%1+%2*1], tmm%c0}"
                   :
                   : "i"(Tile), "r"(to), "r"(row_bytes)
                   : "memory");
}

/// C += A B, tiles by number.
template <int C, int A, int B>
LIGHTNET_AMX_INLINE void multiply_tile() noexcept {
  __asm__ volatile("{tdpbf16ps\t%%tmm%c2, %%tmm%c1, %%tmm%c0|tdpbf16ps\ttmm%c0, tmm%c1, tmm%c2}"
                   :
                   : "i"(C), "i"(A), "i"(B));
}

/// A block of C of Rows x Columns tiles, numbers 0 to 3; tiles of A are 4 and 5, of B 6 and 7.
template <int Rows, int Columns>
LIGHTNET_AMX_LEAF void multiply_tiles(const packed_left& a, const packed_right& b, const row_of_tiles& upper,
                                      const row_of_tiles& lower, bool accumulate) noexcept {
  const std::int64_t upper_bytes = upper.stride * 4, lower_bytes = lower.stride * 4;
  if (accumulate) {
    load_tile<0>(upper.data, upper_bytes);
    if constexpr (Columns == 2) load_tile<1>(upper.data + 16, upper_bytes);
    if constexpr (Rows == 2) load_tile<2>(lower.data, lower_bytes);
    if constexpr (Rows == 2 && Columns == 2) load_tile<3>(lower.data + 16, lower_bytes);
  } else {
    clear_tile<0>();
    clear_tile<1>();
    clear_tile<2>();
    clear_tile<3>();
  }
  const std::byte* left = a.tiles;
  const std::byte* right = b.tiles;
  for (std::int64_t s = 0; s < a.depth; s += tile_terms) {
    load_tile<4>(left, 64);
    load_tile<6>(right, 64);
    multiply_tile<0, 4, 6>();
    if constexpr (Columns == 2) {
      load_tile<7>(right + b.band, 64);
      multiply_tile<1, 4, 7>();
    }
    if constexpr (Rows == 2) {
      load_tile<5>(left + a.band, 64);
      multiply_tile<2, 5, 6>();
    }
    if constexpr (Rows == 2 && Columns == 2) multiply_tile<3, 5, 7>();
    left += tile_bytes;
    right += tile_bytes;
  }
  store_tile<0>(upper.data, upper_bytes);
  if constexpr (Columns == 2) store_tile<1>(upper.data + 16, upper_bytes);
  if constexpr (Rows == 2) store_tile<2>(lower.data, lower_bytes);
  if constexpr (Rows == 2 && Columns == 2) store_tile<3>(lower.data + 16, lower_bytes);
}

/// Numbers that interleave two halves of a row, or two rows: first, first + 16, first + 1, first + 17, ...
template <class T>
struct alignas(64) interleaving {
  T number[64 / sizeof(T)];

  constexpr explicit interleaving(int first) noexcept : number{} {
    for (int i = 0; i < static_cast<int>(64 / sizeof(T)); ++i) number[i] = static_cast<T>(first + i / 2 + i % 2 * 16);
  }
};

using eight = std::make_integer_sequence<std::int64_t, 8>;
using sixteen = std::make_integer_sequence<std::int64_t, 16>;

/// Rows i and i + 8, interleaved, become rows 2 i and 2 i + 1.
template <std::int64_t... I>
LIGHTNET_AMX_INLINE void interleave_rows(const __m512i (&row)[16], __m512i (&to)[16],
                                         std::integer_sequence<std::int64_t, I...>) noexcept {
  static constexpr interleaving<std::int32_t> front{0}, back{8};
  const __m512i low = _mm512_load_si512(front.number), high = _mm512_load_si512(back.number);
  ((to[2 * I] = _mm512_permutex2var_epi32(row[I], low, row[I + 8])), ...);
  ((to[2 * I + 1] = _mm512_permutex2var_epi32(row[I], high, row[I + 8])), ...);
}

/// Transposes 16 x 16 pairs: interleaving moves the highest bit of the row to the lowest bit of the column.
LIGHTNET_AMX_INLINE void transpose_pairs(__m512i (&row)[16]) noexcept {
  __m512i other[16];
  interleave_rows(row, other, eight{});
  interleave_rows(other, row, eight{});
  interleave_rows(row, other, eight{});
  interleave_rows(other, row, eight{});
}

/// 16 pairs of terms, from one line of 32 (`Along`) or from two lines of 16.
template <bool Along>
LIGHTNET_AMX_INLINE __m512i load_pairs(const float* from, std::int64_t stride) noexcept {
  const __m512 first = _mm512_loadu_ps(from), second = _mm512_loadu_ps(from + (Along ? 16 : stride));
  const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  if constexpr (Along) return rounded;
  static constexpr interleaving<std::int16_t> halves{0};
  return _mm512_permutexvar_epi16(_mm512_load_si512(halves.number), rounded);
}

/// Packs the full tile whose lines begin at `from` and are `stride` apart.
template <bool Right, bool Along, std::int64_t... I>
LIGHTNET_AMX_LEAF void pack_tile(const float* from, std::int64_t stride, std::byte* to,
                                 std::integer_sequence<std::int64_t, I...>) noexcept {
  __m512i row[16];
  ((row[I] = load_pairs<Along>(from + (Along ? I : 2 * I) * stride, stride)), ...);
  if constexpr (Right == Along) transpose_pairs(row);
  (_mm512_store_si512(to + I * 64, row[I]), ...);
}

/// Packs a matrix kept in lines `stride` apart: its terms lie side by side (`Along`), or else its rows of A (columns of
/// B) do. Reads the matrix alone, line after line, and fills the last tiles with zeros.
template <bool Right, bool Along>
LIGHTNET_AMX_LEAF void pack_tiles(const float* from, std::int64_t stride, std::int64_t extent, std::int64_t depth,
                                  std::byte* to) noexcept {
  constexpr std::int64_t width = Along ? tile_terms : tile_rows, height = Along ? tile_rows : tile_terms;
  const std::int64_t length = Along ? depth : extent, lines = Along ? extent : depth;
  const std::int64_t deep = tiles_over(depth, tile_terms);
  alignas(64) float edge[width * height];
  for (std::int64_t y = 0; y < lines; y += height) {
    for (std::int64_t x = 0; x < length; x += width) {
      std::byte* const tile = to + tile_bytes * (Along ? y / height * deep + x / width : x / width * deep + y / height);
      const float* const corner = from + y * stride + x;
      if (y + height <= lines && x + width <= length) {
        pack_tile<Right, Along>(corner, stride, tile, sixteen{});
        continue;
      }
      for (std::int64_t j = 0; j < width; j += 16) {
        const std::int64_t inside = std::clamp<std::int64_t>(length - x - j, 0, 16);
        const auto mask = static_cast<__mmask16>((1 << inside) - 1);
        for (std::int64_t i = 0; i < height; ++i) {
          const bool read = inside > 0 && y + i < lines;
          _mm512_store_ps(edge + i * width + j,
                          read ? _mm512_maskz_loadu_ps(mask, corner + i * stride + j) : _mm512_setzero_ps());
        }
      }
      pack_tile<Right, Along>(edge, width, tile, sixteen{});
    }
  }
}

}  // namespace amx

#undef LIGHTNET_AMX_INLINE
#undef LIGHTNET_AMX_LEAF

#else

inline bool amx_available() noexcept { return false; }

namespace amx {

// Where AMX is never available, these are never called.
inline void configure_tiles() noexcept {}
inline void release_tiles() noexcept {}

template <int, int>
void multiply_tiles(const packed_left&, const packed_right&, const row_of_tiles&, const row_of_tiles&, bool) noexcept {}

template <bool, bool>
void pack_tiles(const float*, std::int64_t, std::int64_t, std::int64_t, std::byte*) noexcept {}

}  // namespace amx

#endif

/// The tiles of the calling thread are configured as long as this lives. Only where AMX is available, and one a thread.
class amx_session {
 public:
  amx_session() noexcept { amx::configure_tiles(); }
  ~amx_session() { amx::release_tiles(); }
  amx_session(const amx_session&) = delete;
  amx_session& operator=(const amx_session&) = delete;
};

namespace amx {

/// Packs a matrix of which neither stride is 1, tile by tile.
template <bool Right>
void pack_scattered(const float* from, std::int64_t outer, std::int64_t inner, std::int64_t extent, std::int64_t depth,
                    std::byte* to) noexcept {
  float dense[tile_rows * tile_terms];
  for (std::int64_t x = 0; x < extent; x += tile_rows) {
    for (std::int64_t s = 0; s < depth; s += tile_terms) {
      const std::int64_t rows = std::min(extent - x, tile_rows), terms = std::min(depth - s, tile_terms);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < terms; ++j) dense[i * terms + j] = from[(x + i) * outer + (s + j) * inner];
      }
      pack_tiles<Right, true>(dense, terms, rows, terms, to);
      to += tile_bytes;
    }
  }
}

template <bool Right>
packed_operand<Right> pack_operand(const float* from, std::int64_t outer, std::int64_t inner, std::int64_t extent,
                                   std::int64_t depth, void* scratch) noexcept {
  const auto to = static_cast<std::byte*>(scratch);
  if (inner == 1) {
    pack_tiles<Right, true>(from, outer, extent, depth, to);
  } else if (outer == 1) {
    pack_tiles<Right, false>(from, inner, extent, depth, to);
  } else {
    pack_scattered<Right>(from, outer, inner, extent, depth, to);
  }
  return {to, extent, depth, tiles_over(depth, tile_terms) * tile_bytes};
}

}  // namespace amx

/// Packs A[m, k] into packed_bytes(m, k) bytes of scratch memory, aligned to 64.
inline packed_left pack_left(const float* a, std::int64_t a_row, std::int64_t a_column, std::int64_t m, std::int64_t k,
                             void* scratch) noexcept {
  return amx::pack_operand<false>(a, a_row, a_column, m, k, scratch);
}

/// Packs B[k, n] into packed_bytes(n, k) bytes of scratch memory, aligned to 64.
inline packed_right pack_right(const float* b, std::int64_t b_row, std::int64_t b_column, std::int64_t k,
                               std::int64_t n, void* scratch) noexcept {
  return amx::pack_operand<true>(b, b_column, b_row, n, k, scratch);
}

/// C (+)= A B for packed A[m, k] and B[k, n], n a multiple of 16; rows of C are dense. B may have more terms than A:
/// they are not read, but for the rest of a run of 32, which has to be finite.
inline void multiply_packed(const amx_session&, const packed_left& a, const packed_right& b, float* c,
                            std::int64_t c_row, bool accumulate) noexcept {
  alignas(64) float edge[amx::tile_rows * 2 * amx::tile_rows];  // stands in for the last rows of C, fewer than 16
  const std::int64_t whole = a.extent / amx::tile_rows * amx::tile_rows;
  for (std::int64_t j = 0; j < b.extent; j += 2 * amx::tile_rows) {
    const std::int64_t columns = std::min(b.extent - j, 2 * amx::tile_rows);
    const packed_right right = b.part(j, columns);
    const auto copy_edge = [&](bool out) {
      for (std::int64_t i = whole; i < a.extent; ++i) {
        float* const row = c + i * c_row + j;
        float* const copy = edge + (i - whole) * 2 * amx::tile_rows;
        std::copy_n(out ? copy : row, columns, out ? row : copy);
      }
    };
    const auto target = [&](std::int64_t i) {
      return i < whole ? amx::row_of_tiles{c + i * c_row + j, c_row} : amx::row_of_tiles{edge, 2 * amx::tile_rows};
    };
    if (accumulate) copy_edge(false);
    for (std::int64_t i = 0; i < a.extent; i += 2 * amx::tile_rows) {
      const std::int64_t rows = std::min(a.extent - i, 2 * amx::tile_rows);
      const packed_left left = a.part(i, rows);
      const amx::row_of_tiles upper = target(i), lower = target(i + amx::tile_rows);
      if (rows > amx::tile_rows && columns > amx::tile_rows) {
        amx::multiply_tiles<2, 2>(left, right, upper, lower, accumulate);
      } else if (rows > amx::tile_rows) {
        amx::multiply_tiles<2, 1>(left, right, upper, lower, accumulate);
      } else if (columns > amx::tile_rows) {
        amx::multiply_tiles<1, 2>(left, right, upper, lower, accumulate);
      } else {
        amx::multiply_tiles<1, 1>(left, right, upper, lower, accumulate);
      }
    }
    copy_edge(true);
  }
}

/// `multiply` with operands rounded to bfloat16, in amx_scratch_bytes(m, n, k) bytes of scratch memory, aligned to 64.
inline void multiply_amx(const amx_session& session, const float* a, std::int64_t a_row, std::int64_t a_column,
                         const float* b, std::int64_t b_row, float* c, std::int64_t c_row, std::int64_t m,
                         std::int64_t n, std::int64_t k, bool accumulate, void* scratch) noexcept {
  const packed_left left = pack_left(a, a_row, a_column, m, k, scratch);
  const packed_right right = pack_right(b, b_row, 1, k, n, static_cast<std::byte*>(scratch) + packed_bytes(m, k));
  multiply_packed(session, left, right, c, c_row, accumulate);
}

}  // namespace detail

LIGHTNET_END_NAMESPACE

#undef LIGHTNET_AMX
