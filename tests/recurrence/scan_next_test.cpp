// SPDX-License-Identifier: Apache-2.0
// Tokens that arrive in parts, for a recurrence of either kind of state.
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/recurrence/scan_next.hpp>

#include <doctest/doctest.h>

#include "../layer/numbers.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr std::int64_t batch = 3, tokens = 67, heads = 2, keys = 5, values = 7;

// Rows of all sequences; a part is a view of some tokens of each.
ln::dynamic_view<4, const double> part(const list<double>& all, std::int64_t first, std::int64_t count,
                                       std::int64_t width) {
  return numbers::view_of<4>(all, {batch, tokens, heads, width}).slice(1, first, count);
}
ln::dynamic_view<4, double> part(list<double>& all, std::int64_t first, std::int64_t count) {
  return numbers::view_of<4>(all, {batch, tokens, heads, values}).slice(1, first, count);
}

template <class Recurrence, class Position>
void check() {
  const list<double> q = numbers::normal(batch * tokens * heads * keys, 1),
                     k = numbers::normal(batch * tokens * heads * keys, 2),
                     v = numbers::normal(batch * tokens * heads * values, 3);
  ln::execution<ln::cpu> on(2);
  const auto inputs = [&](std::int64_t first, std::int64_t count) {
    return ln::scan_inputs<Recurrence, 1, double>{.q = part(q, first, count, keys),
                                                  .k = part(k, first, count, keys),
                                                  .v = part(v, first, count, values),
                                                  .grid = {{count}, 0, {first}}};
  };
  list<double> whole = numbers::unwritten(batch * tokens * heads * values);
  ln::scan<Recurrence, ln::causal, Position, 1, double>(on, inputs(0, tokens), {.o = part(whole, 0, tokens)});
  for (const list<std::int64_t>& parts : {list<std::int64_t>{40, 1, 1, 24, 1}, {1, 1, 65}}) {
    list<double> o = numbers::unwritten(batch * tokens * heads * values);
    std::optional<ln::state_tensors<Recurrence, double>> state;
    std::int64_t at = 0;
    for (const std::int64_t count : parts) {
      ln::scan_next<Recurrence, Position, 1, double>(on, inputs(at, count), part(o, at, count), state);
      at += count;
    }
    CHECK(at == tokens);
    CHECK(numbers::largest_difference(o, whole) <= 1e-13);
  }

  // Another number of sequences than before: the state stays as it was.
  std::optional<ln::state_tensors<Recurrence, double>> state;
  list<double> o = numbers::unwritten(batch * tokens * heads * values);
  ln::scan_next<Recurrence, Position, 1, double>(on, inputs(0, 30), part(o, 0, 30), state);
  for (const std::int64_t count : {1, 4}) {
    auto fewer = inputs(30, count);
    fewer.q = part(q, 30, count, keys).slice(0, 0, 2);
    fewer.k = part(k, 30, count, keys).slice(0, 0, 2);
    fewer.v = part(v, 30, count, values).slice(0, 0, 2);
    CHECK_THROWS_AS(
        (ln::scan_next<Recurrence, Position, 1, double>(on, fewer, part(o, 30, count).slice(0, 0, 2), state)),
        ln::shape_error);
  }
  ln::scan_next<Recurrence, Position, 1, double>(on, inputs(30, 37), part(o, 30, 37), state);
  CHECK(numbers::largest_difference(o, whole) <= 1e-13);
}

}  // namespace

TEST_CASE("scan_next: parts are the whole") {
  check<ln::additive, ln::md_lrpe>();
  check<ln::constant_decay, ln::no_position>();
}
