// SPDX-License-Identifier: Apache-2.0
// Extents, views and tensors: what they hold, what they refuse, and what they cost.
#include <doctest/doctest.h>

#include <lightnet/backend/cpu/execution.hpp>
#include <lightnet/core/head_sequence.hpp>
#include <lightnet/core/tensor.hpp>

#include <cstdint>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace ln = lightnet;

namespace {

// Static extents are part of the type; dynamic ones cost a number each.
static_assert(ln::extents<2, ln::dynamic, 5>::rank == 3);
static_assert(ln::extents<2, ln::dynamic, 5>::static_extent(0) == 2);
static_assert(ln::extents<2, ln::dynamic, 5>::static_extent(1) == ln::dynamic);
static_assert(ln::extents<2, 3, 5>{}.size() == 30 && ln::extents<>{}.size() == 1);
static_assert(ln::extents<2, ln::dynamic>{}[1] == 0);
static_assert(ln::extents<2, ln::dynamic>{{2, 7}}.size() == 14);
static_assert(std::is_same_v<ln::rank<2>, ln::extents<ln::dynamic, ln::dynamic>>);
static_assert(ln::extents<2, ln::dynamic>{{2, 7}} == ln::extents<2, ln::dynamic>{{2, 7}});

// Views know what lies where at compile time.
constexpr int six[] = {10, 11, 12, 13, 14, 15};
constexpr ln::view<ln::extents<2, 3>, const int> table{six, {}};
static_assert(table(1, 2) == 15 && table.stride(0) == 3 && table.contiguous());
static_assert(ln::dynamic_view<2, const int>{table}.slice(1, 1, 2)(1, 0) == 14);
static_assert(table.reverse(0)(0, 0) == 13 && !table.reverse(0).contiguous());
static_assert(table.reshape<1>({6})(4) == 14);
static_assert(!ln::dynamic_view<2, int>{} && table);

// Conversions go from mutable to constant and from static to dynamic, never back.
static_assert(std::is_convertible_v<ln::dynamic_view<2, int>, ln::dynamic_view<2, const int>>);
static_assert(!std::is_convertible_v<ln::dynamic_view<2, const int>, ln::dynamic_view<2, int>>);
static_assert(!std::is_convertible_v<ln::dynamic_view<2, int>, ln::dynamic_view<3, int>>);
static_assert(!std::is_convertible_v<ln::dynamic_view<2, int>, ln::dynamic_view<2, const long>>);
static_assert(!std::is_convertible_v<ln::head_sequence<1, const float>, ln::head_sequence<1, float>>);
static_assert(std::is_convertible_v<ln::head_sequence<1, float>, ln::head_sequence<1, const float>>);
static_assert(std::is_trivially_copyable_v<ln::dynamic_view<4, float>>);

template <class Call>
std::string text_of_shape_error(const Call& call) {
  try {
    call();
  } catch (const ln::shape_error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A 1-D memory of its own numbers.
std::vector<float> counted(std::size_t size) {
  std::vector<float> x(size);
  std::iota(x.begin(), x.end(), 0.0F);
  return x;
}

}  // namespace

TEST_CASE("extents refuse what differs from the static ones, and negative ones") {
  const std::string differs = text_of_shape_error([] { ln::extents<2, ln::dynamic>{{3, 1}}; });
  CHECK(has(differs, "extent 0"));
  CHECK(has(differs, "expected 2"));
  CHECK(has(differs, "got 3"));
  CHECK(has(text_of_shape_error([] { ln::rank<2>{{4, -1}}; }), "extent 1"));
  const ln::dynamic_view<2, const int> any{six, {{3, 2}}};
  CHECK(has(text_of_shape_error([&] { ln::view<ln::extents<2, 3>, const int>{any}; }), "expected 2, got 3"));
}

TEST_CASE("views walk any strides") {
  std::vector<float> memory = counted(2 * 3 * 5);
  const ln::dynamic_view<3, float> x{memory.data(), {{2, 3, 5}}};
  CHECK(x(1, 2, 4) == 29);
  CHECK(x.size() == 30);
  const auto part = x.slice(2, 1, 3).slice(0, 1, 1);
  CHECK(part.extents() == std::array<std::int64_t, 3>{1, 3, 3});
  CHECK(part(0, 2, 0) == x(1, 2, 1));
  CHECK_FALSE(part.contiguous());
  const auto back = x.reverse(1).reverse(2);
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 5; ++j) CHECK(back(1, i, j) == x(1, 2 - i, 4 - j));
  }
  part(0, 0, 0) = -1;
  CHECK(memory[16] == -1);
  CHECK(x.slice(0, 1, 1).contiguous());  // an axis of one may have any stride
  CHECK(ln::dynamic_view<2, float>{memory.data(), {{0, 3}}, {7, 7}}.contiguous());
  CHECK(x.slice(1, 3, 0).size() == 0);
  CHECK_FALSE(x.repeats());
  CHECK(ln::dynamic_view<2, float>{memory.data(), {{4, 3}}, {0, 1}}.repeats());
  CHECK_FALSE(ln::dynamic_view<2, float>{memory.data(), {{1, 3}}, {0, 1}}.repeats());

  CHECK(has(text_of_shape_error([&] { x.slice(1, 2, 2); }), "[2, 3, 5]"));
  CHECK(has(text_of_shape_error([&] { x.slice(3, 0, 0); }), "axis 3"));
  CHECK(has(text_of_shape_error([&] { x.slice(1, -1, 1); }), "axis 1"));
  CHECK(has(text_of_shape_error([&] { x.slice(1, INT64_MAX, 2); }), "axis 1"));
  CHECK(has(text_of_shape_error([&] { x.reverse(3); }), "less than 3"));
  CHECK(has(text_of_shape_error([&] { x.reshape<2>({5, 7}); }), "[5, 7]"));
  CHECK(has(text_of_shape_error([&] { x.reverse(0).reshape<1>({30}); }), "strides"));
}

TEST_CASE("head_sequence finds every token, whatever the strides") {
  std::vector<float> memory = counted(2 * 3 * 5 * 7 * 2);
  const ln::dynamic_view<5, float> x{memory.data(), {{2, 3, 5, 7, 2}}};
  // Memory order: axes as they are; the grid transposed; walked backwards.
  const ln::dynamic_view<5, float> transposed{memory.data(), {{2, 5, 3, 7, 2}}, {210, 14, 70, 2, 1}};
  for (const auto& form : {x, transposed, x.reverse(1).reverse(4), x.slice(2, 1, 3), x.slice(2, 4, 1)}) {
    const ln::head_sequence<2, const float> sequence = form;
    CHECK(sequence.tokens() == form.extent(1) * form.extent(2));
    CHECK(sequence.gridded());
    for (std::int64_t t = 0; t < sequence.tokens(); ++t) {
      const std::int64_t i = t / form.extent(2), j = t % form.extent(2);
      CHECK(sequence.token(1, 3, t) == &form(1, i, j, 3, 0));
    }
    CHECK(sequence.channel_stride() == form.stride(4));
  }
  const ln::head_sequence<2, float> flattened = ln::dynamic_view<4, float>{memory.data(), {{2, 15, 7, 2}}};
  CHECK_FALSE(flattened.gridded());
  CHECK(flattened.tokens() == 15);
  CHECK(flattened.token(1, 2, 9) == memory.data() + (15 + 9) * 14 + 4);
  CHECK(flattened.describe() == "[2, 15, 7, 2]");
  CHECK_FALSE(ln::head_sequence<3, float>{});
}

TEST_CASE("grids say where tokens lie") {
  const ln::grid<3> where{{2, 3, 5}, 4, {10, 20, 30}};
  CHECK(where.size() == 34);
  CHECK(where.coordinates(4) == ln::grid<3>::indices{10, 20, 30});
  CHECK(where.coordinates(4 + 15 + 5 * 2 + 3) == ln::grid<3>::indices{11, 22, 33});
}

TEST_CASE("tensors own their memory") {
  using matrix = ln::tensor<ln::rank<2>, double>;
  matrix x{{{3, 5}}};
  CHECK(x.size() == 15);
  CHECK(reinterpret_cast<std::uintptr_t>(x.data()) % 64 == 0);
  for (std::int64_t n = 0; n < x.size(); ++n) CHECK(x.data()[n] == 0);
  x.view()(2, 4) = 7;

  matrix copy = x;
  CHECK(copy.data() != x.data());
  CHECK(copy.view()(2, 4) == 7);
  copy.view()(2, 4) = 8;
  CHECK(std::as_const(x).view()(2, 4) == 7);

  const double* const place = copy.data();
  const matrix moved = std::move(copy);
  CHECK(moved.data() == place);
  x = moved;
  CHECK(x.view()(2, 4) == 8);
  matrix& itself = x;
  x = itself;
  CHECK(x.view()(2, 4) == 8);

  const double* const before = x.data();
  x.resize({{2, 2}});  // smaller: the same memory, cleared
  CHECK(x.data() == before);
  CHECK(x.view()(1, 1) == 0);
  x.resize({{100, 3}});
  CHECK(x.extent(0) == 100);
  CHECK(x.view()(99, 2) == 0);

  matrix none;
  CHECK(none.size() == 0);
  const matrix also_none = none;
  CHECK(also_none.size() == 0);
  const matrix empty{{{0, 5}}};
  CHECK(empty.view());  // given, but without elements
  CHECK_THROWS_AS(matrix({{-1, 5}}), ln::shape_error);
}

TEST_CASE("execution: scratch memory nests, is aligned, and is not allocated again") {
  CHECK_THROWS_AS(ln::execution<ln::cpu>{-1}, ln::value_error);
  CHECK(ln::execution<ln::cpu>{}.threads() >= 1);
  ln::execution<ln::cpu> on{1};
  CHECK(on.threads() == 1);
  float* first = nullptr;
  {
    ln::execution<ln::cpu>::scope outer{on};
    first = outer.take<float>(1000);
    first[999] = 3;
    double* inner_place = nullptr;
    {
      ln::execution<ln::cpu>::scope inner{on};
      inner_place = inner.take<double>(100000);  // does not fit the first block
      inner_place[99999] = 1;
      CHECK(reinterpret_cast<std::uintptr_t>(inner_place) % 64 == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(inner.take<char>(1)) % 64 == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(inner.take<char>(1)) % 64 == 0);
    }
    ln::execution<ln::cpu>::scope again{on};
    CHECK(again.take<double>(100000) == inner_place);  // what the inner scope gave back
    CHECK(first[999] == 3);
  }
  // Now one block holds it all.
  float* joined = nullptr;
  for (int round = 0; round < 3; ++round) {
    ln::execution<ln::cpu>::scope scope{on};
    float* const small = scope.take<float>(1000);
    double* const large = scope.take<double>(100000);
    CHECK(reinterpret_cast<std::byte*>(large) == reinterpret_cast<std::byte*>(small) + 4032);
    if (round > 0) CHECK(small == joined);
    joined = small;
  }
}
