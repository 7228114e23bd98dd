// SPDX-License-Identifier: Apache-2.0
// The matrix product on AMX: how operands are packed, values against double, bits, and what memory it touches.
#include <lightnet/backend/cpu/amx.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

namespace {

namespace ln = lightnet;
using ln::detail::amx_available;
using ln::detail::amx_session;
using ln::detail::packed_bytes;
using ln::detail::packed_left;
using ln::detail::packed_right;
using std::int64_t;

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

// Packing needs less of the processor than the product does.
bool can_pack() {
#if defined(__x86_64__) && defined(__linux__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

#define SKIP_UNLESS(condition)                                                \
  if (!(condition)) {                                                         \
    MESSAGE("skipped: needs a processor and a system for which " #condition); \
    return;                                                                   \
  }

// Scratch memory of which the end is watched.
class scratch {
 public:
  explicit scratch(int64_t bytes) : lines_(static_cast<std::size_t>(bytes / 64 + 2)), bytes_{bytes} {
    std::memset(data(), 0xa5, lines_.size() * 64);
  }
  std::byte* data() { return lines_[0].bytes; }
  bool end_untouched() {
    const auto is_mark = [](std::byte b) { return b == std::byte{0xa5}; };
    return std::all_of(data() + bytes_, data() + lines_.size() * 64, is_mark);
  }

 private:
  struct alignas(64) line {
    std::byte bytes[64];
  };
  std::vector<line> lines_;
  int64_t bytes_;
};

enum class layout { rows, columns, scattered };
constexpr layout layouts[] = {layout::rows, layout::columns, layout::scattered};

// A matrix with room around each line and NaN in it.
struct matrix {
  int64_t rows, columns, row_stride, column_stride;
  std::vector<float> memory;

  matrix(int64_t r, int64_t c, layout l, std::uint64_t seed)
      : rows{r},
        columns{c},
        row_stride{l == layout::rows      ? c + 7
                   : l == layout::columns ? 1
                                          : 3},
        column_stride{l == layout::rows      ? 1
                      : l == layout::columns ? r + 5
                                             : 3 * r + 2} {
    memory.assign(static_cast<std::size_t>(5 + r * row_stride + c * column_stride), not_a_number);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> draw;
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t j = 0; j < c; ++j) (*this)(i, j) = draw(random);
    }
  }
  float* data() { return memory.data() + 3; }
  float& operator()(int64_t i, int64_t j) { return data()[i * row_stride + j * column_stride]; }
};

// The nearest number of 8 binary digits, the even one of two; denormal numbers are zero.
float rounded(float x) {
  if (!std::isfinite(x)) return x;
  if (std::abs(x) < std::numeric_limits<float>::min()) return std::copysign(0.0f, x);
  int exponent = 0;
  const double mantissa = std::frexp(static_cast<double>(x), &exponent);
  const double y = std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
  if (std::abs(y) > static_cast<double>(std::numeric_limits<float>::max())) return std::copysign(infinity, x);
  return static_cast<float>(y);
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The bfloat16 at term s of row (column) x of a packed operand, by the layout that TDPBF16PS is documented with.
template <bool Right>
float packed_number(const ln::detail::packed_operand<Right>& p, int64_t x, int64_t s) {
  const int64_t tile = x / 16 * ((p.depth + 31) / 32) + s / 32;
  const int64_t word = Right ? s % 32 / 2 * 32 + x % 16 * 2 + s % 2 : x % 16 * 32 + s % 32;
  std::uint16_t half = 0;
  std::memcpy(&half, p.tiles + tile * 1024 + word * 2, 2);
  const auto bits = static_cast<std::uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, 4);
  return value;
}

template <bool Right>
bool packs_right(int64_t extent, int64_t depth, layout l) {
  matrix from(Right ? depth : extent, Right ? extent : depth, l, static_cast<std::uint64_t>(71 * extent + depth));
  scratch memory(packed_bytes(extent, depth));
  ln::detail::packed_operand<Right> packed{};
  if constexpr (Right) {
    packed = ln::detail::pack_right(from.data(), from.row_stride, from.column_stride, depth, extent, memory.data());
  } else {
    packed = ln::detail::pack_left(from.data(), from.row_stride, from.column_stride, extent, depth, memory.data());
  }
  bool right = memory.end_untouched() && packed.tiles == memory.data() && packed.extent == extent;
  right = right && packed.depth == depth && packed.band == (depth + 31) / 32 * 1024;
  for (int64_t x = 0; x < (extent + 15) / 16 * 16; ++x) {
    for (int64_t s = 0; s < (depth + 31) / 32 * 32; ++s) {
      const bool inside = x < extent && s < depth;
      const float wanted = inside ? rounded(Right ? from(s, x) : from(x, s)) : 0.0f;
      right = right && same_bits(packed_number(packed, x, s), wanted);
    }
  }
  return right;
}

// C (+)= A B of one size: in memory of its own, poisoned around, and the same in double.
struct question {
  int64_t m, n, k;
  layout of_a;
  bool accumulate;

  matrix a() const { return {m, k, of_a, 1}; }
  matrix b() const { return {k, n, layout::rows, 2}; }
  matrix c() const {
    matrix x(m, n, layout::rows, 3);
    for (int64_t i = 0; i < m && !accumulate; ++i) std::fill_n(&x(i, 0), n, not_a_number);
    return x;
  }
};

// What `multiply_amx` makes of it.
matrix answer(const question& q) {
  matrix a = q.a(), b = q.b(), c = q.c();
  scratch memory(ln::detail::amx_scratch_bytes(q.m, q.n, q.k));
  const amx_session session;
  ln::detail::multiply_amx(session, a.data(), a.row_stride, a.column_stride, b.data(), b.row_stride, c.data(),
                           c.row_stride, q.m, q.n, q.k, q.accumulate, memory.data());
  CHECK(memory.end_untouched());
  return c;
}

// The largest error, as a share of what the documented order of sums allows: a term is rounded at most 16 times in its
// chain, once where the two chains meet, and once for each run of 32 that follows; an element of C only the latter.
double error_of(const question& q) {
  matrix a = q.a(), b = q.b(), c = q.c(), got = answer(q);
  const auto runs = static_cast<double>((q.k + 31) / 32);
  double worst = 0;
  for (int64_t i = 0; i < q.m; ++i) {
    for (int64_t j = 0; j < q.n; ++j) {
      const double start = q.accumulate ? static_cast<double>(c(i, j)) : 0;
      double sum = start, size = 0;
      for (int64_t s = 0; s < q.k; ++s) {
        const double term = static_cast<double>(rounded(a(i, s))) * static_cast<double>(rounded(b(s, j)));
        sum += term;
        size += std::abs(term);
      }
      const double allowed = std::ldexp((17 + runs) * size + runs * std::abs(start), -24);
      const double error = std::abs(static_cast<double>(got(i, j)) - sum);
      if (error == 0) continue;
      worst = std::isfinite(error) ? std::max(worst, error / allowed) : std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

// Whether all but the elements of C is as it was.
bool surroundings_untouched(const question& q) {
  matrix before = q.c(), after = answer(q);
  for (int64_t i = 0; i < q.m; ++i) {
    std::fill_n(&before(i, 0), q.n, 0.0f);
    std::fill_n(&after(i, 0), q.n, 0.0f);
  }
  return std::memcmp(before.memory.data(), after.memory.data(), before.memory.size() * sizeof(float)) == 0;
}

TEST_CASE("an operand is packed as tiles of bfloat16, with zeros beyond it") {
  SKIP_UNLESS(can_pack());
  for (const int64_t extent : {1, 2, 15, 16, 17, 31, 33, 48, 70}) {
    for (const int64_t depth : {1, 2, 3, 15, 16, 17, 31, 32, 33, 47, 49, 64, 65, 70, 131}) {
      for (const layout l : layouts) {
        CAPTURE(extent);
        CAPTURE(depth);
        CAPTURE(static_cast<int>(l));
        CHECK(packs_right<false>(extent, depth, l));
        CHECK(packs_right<true>(extent, depth, l));
      }
    }
  }
}

TEST_CASE("packing rounds to nearest even, keeps infinity and NaN, and takes denormal numbers as zero") {
  SKIP_UNLESS(can_pack());
  const float numbers[] = {1.0f,
                           0x1.01p0f,      // half way between 0x1p0 and 0x1.02p0: down to even
                           0x1.03p0f,      // half way between 0x1.02p0 and 0x1.04p0: up to even
                           0x1.010002p0f,  // just above half way
                           0x1.02fffep0f,  // just below half way
                           -0x1.03p0f,
                           -0.0f,
                           0x1p-126f,
                           0x1.fffffcp-127f,  // denormal
                           -0x1p-149f,
                           std::numeric_limits<float>::max(),
                           -0x1.fep127f,
                           infinity,
                           -infinity,
                           not_a_number};
  const float wanted[] = {1.0f, 1.0f,  0x1.04p0f, 0x1.02p0f,    0x1.02p0f, -0x1.04p0f, -0.0f,       0x1p-126f,
                          0.0f, -0.0f, infinity,  -0x1.fep127f, infinity,  -infinity,  not_a_number};
  constexpr int64_t count = std::size(numbers);
  scratch memory(packed_bytes(1, count));
  const packed_left left = ln::detail::pack_left(numbers, count, 1, 1, count, memory.data());
  for (int64_t s = 0; s < count; ++s) {
    CAPTURE(s);
    const float got = packed_number(left, 0, s);
    CHECK((same_bits(got, wanted[s]) || (std::isnan(got) && std::isnan(wanted[s]))));
  }
}

TEST_CASE("a product on AMX is that of the rounded operands, and writes nothing but C") {
  SKIP_UNLESS(amx_available());
  std::vector<int64_t> depths(70);
  for (std::size_t i = 0; i < depths.size(); ++i) depths[i] = static_cast<int64_t>(i) + 1;
  depths.insert(depths.end(), {0, 96, 127, 128, 131, 256});
  constexpr int64_t widths[] = {16, 32, 48, 80, 128};
  std::size_t number = 0;
  double worst = 0;
  for (const int64_t m : {1, 2, 7, 15, 16, 17, 31, 32, 33, 48, 63, 70, 128}) {
    for (const int64_t k : depths) {
      const question q{m, widths[number % 5], k, layouts[number % 3], number % 2 == 0};
      ++number;
      CAPTURE(m);
      CAPTURE(q.n);
      CAPTURE(k);
      CAPTURE(static_cast<int>(q.of_a));
      CAPTURE(q.accumulate);
      const double error = error_of(q);
      CHECK(error <= 1);
      CHECK(surroundings_untouched(q));
      worst = std::max(worst, error);
    }
  }
  MESSAGE("the largest error is ", worst, " of what is allowed");
}

TEST_CASE("an element of a product has the same bits whatever surrounds it") {
  SKIP_UNLESS(amx_available());
  const question whole{70, 80, 131, layout::rows, true};
  matrix expected = answer(whole);
  matrix a = whole.a(), b = whole.b();
  for (const int64_t first : {0, 1, 16, 37, 69}) {
    for (const int64_t m : {1, 15, 33}) {
      if (first + m > whole.m) continue;
      for (const int64_t column : {0, 16, 48}) {
        matrix c = whole.c();
        scratch memory(ln::detail::amx_scratch_bytes(m, 32, whole.k));
        const amx_session session;
        ln::detail::multiply_amx(session, &a(first, 0), a.row_stride, 1, &b(0, column), b.row_stride, &c(first, column),
                                 c.row_stride, m, 32, whole.k, true, memory.data());
        bool same = true;
        for (int64_t i = first; i < first + m; ++i) {
          same = same && std::memcmp(&c(i, column), &expected(i, column), 32 * sizeof(float)) == 0;
        }
        CAPTURE(first);
        CAPTURE(m);
        CAPTURE(column);
        CHECK(same);
      }
    }
  }
}

TEST_CASE("parts of packed operands multiply as the matrices they are") {
  SKIP_UNLESS(amx_available());
  const int64_t m = 70, n = 112, k = 131, shorter = 75;
  matrix a(m, k, layout::columns, 1), b(k, n, layout::columns, 2);
  scratch of_left(packed_bytes(m, shorter)), of_right(packed_bytes(n, k)),
      memory(ln::detail::amx_scratch_bytes(m, n, k));
  // fewer terms than the right operand has
  const packed_left left =
      ln::detail::pack_left(a.data(), a.row_stride, a.column_stride, m, shorter, of_left.data()).part(32, 38);
  const packed_right right =
      ln::detail::pack_right(b.data(), b.row_stride, b.column_stride, k, n, of_right.data()).part(16, 48);
  matrix c(38, 48, layout::rows, 3), expected = c, b_in_rows(k, n, layout::rows, 2);
  const amx_session session;
  ln::detail::multiply_packed(session, left, right, c.data(), c.row_stride, true);
  ln::detail::multiply_amx(session, &a(32, 0), a.row_stride, a.column_stride, &b_in_rows(0, 16), b_in_rows.row_stride,
                           expected.data(), expected.row_stride, 38, 48, shorter, true, memory.data());
  CHECK(std::memcmp(c.memory.data(), expected.memory.data(), c.memory.size() * sizeof(float)) == 0);
}

TEST_CASE("NaN stays in its row and its column") {
  SKIP_UNLESS(amx_available());
  const int64_t m = 37, n = 48, k = 45;
  matrix a(m, k, layout::rows, 1), b(k, n, layout::rows, 2), c(m, n, layout::rows, 3);
  a(35, 44) = not_a_number;
  b(44, 17) = infinity;
  scratch memory(ln::detail::amx_scratch_bytes(m, n, k));
  const amx_session session;
  ln::detail::multiply_amx(session, a.data(), a.row_stride, 1, b.data(), b.row_stride, c.data(), c.row_stride, m, n, k,
                           false, memory.data());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      CAPTURE(i);
      CAPTURE(j);
      CHECK(std::isfinite(c(i, j)) == (i != 35 && j != 17));
      CHECK(std::isnan(c(i, j)) == (i == 35));
    }
  }
}

TEST_CASE("each thread has tiles of its own") {
  SKIP_UNLESS(amx_available());
  const question q{70, 80, 131, layout::columns, false};
  const matrix expected = answer(q);
  bool same[4] = {};
  std::vector<std::thread> threads;
  for (bool& result : same) {
    threads.emplace_back([&result, &q, &expected] {
      result = true;
      for (int time = 0; time < 50; ++time) {
        const matrix got = answer(q);
        result = result && std::memcmp(got.memory.data(), expected.memory.data(), got.memory.size() * 4) == 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const bool result : same) CHECK(result);
}

}  // namespace
