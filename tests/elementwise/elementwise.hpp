// SPDX-License-Identifier: Apache-2.0
// The element-wise recurrence as the tests call it, and a naive oracle in long double: questions and answers in double,
// whatever the storage type, dense and in row-major order, whatever the layout of the views.
#pragma once

#include <lightnet/core/tensor.hpp>
#include <lightnet/recurrence/elementwise_scan.hpp>
#include <lightnet/traversal/global.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>

#include "../layer/numbers.hpp"

namespace elementwise {

namespace ln = lightnet;
using numbers::list;

using hgrn = ln::elementwise;
using signed_hgrn = ln::signed_decay<ln::elementwise>;

constexpr double infinity = std::numeric_limits<double>::infinity();

inline std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

template <std::size_t Rank>
std::int64_t product(const std::array<std::int64_t, Rank>& extents) {
  return std::accumulate(extents.begin(), extents.end(), std::int64_t{1}, std::multiplies<>{});
}

enum class layout {
  dense,
  tangled,  // the axes in the opposite order, every second one backwards, and room after each
  gapped    // dense channels, but room after each head
};

// The elements of a view, apart from what lies between them. For another device than the CPU they are here until they are
// viewed, and come back when they are read.
template <int Rank, class T, class Device = ln::cpu>
struct array {
  using indices = std::array<std::int64_t, static_cast<std::size_t>(Rank)>;
  indices extents{}, strides{};
  std::int64_t origin = 0;
  mutable list<T> memory;
  mutable std::shared_ptr<void> there;

  array() = default;
  array(const indices& shape, layout how) : extents{shape} {
    std::int64_t size = 1;
    for (std::size_t i = 0; i < Rank; ++i) {
      const std::size_t axis = how == layout::tangled ? i : Rank - 1 - i;
      strides[axis] = size * (how == layout::tangled && i % 2 == 1 ? -1 : 1);
      if (strides[axis] < 0) origin += std::max<std::int64_t>(shape[axis] - 1, 0) * size;
      size *= shape[axis] + (how == layout::tangled || (how == layout::gapped && i == 0) ? 2 : 0);
    }
    memory = numbers::unwritten<T>(size + origin + 1);
  }
  array(const indices& shape, layout how, const list<double>& values) : array(shape, how) {
    for (std::size_t i = 0; i < values.size(); ++i)
      memory[place(static_cast<std::int64_t>(i))] = static_cast<T>(values[i]);
  }

  // Where element `i`, counted in row-major order, lies.
  std::size_t place(std::int64_t i) const {
    std::int64_t at = origin;
    for (std::size_t axis = Rank; axis-- > 0;) {
      at += i % extents[axis] * strides[axis];
      i /= extents[axis];
    }
    return index(at);
  }
  list<double> values() const {
    if (there) Device::copy(memory.data(), there.get(), memory.size() * sizeof(T));
    list<double> all;
    for (std::int64_t i = 0; i < product(extents); ++i) all.push_back(static_cast<double>(memory[place(i)]));
    return all;
  }
  ln::dynamic_view<Rank, T, Device> view() { return {data() + origin, extents, strides}; }
  ln::dynamic_view<Rank, const T, Device> view() const { return {data() + origin, extents, strides}; }

 private:
  T* data() const {
    if constexpr (std::is_same_v<Device, ln::cpu>) {
      return memory.data();
    } else {
      if (!there) {
        there = {Device::allocate(memory.size() * sizeof(T)), Device::deallocate};
        Device::copy(there.get(), memory.data(), memory.size() * sizeof(T));
      }
      return static_cast<T*>(there.get());
    }
  }
};

struct result {
  list<double> o, h, decay;
};
struct incoming {
  list<double> o, h;
};
struct gradients {
  list<double> x, decay, h;
};

template <class Recurrence, class Traversal, int Dims = 1, class T = double, class Device = ln::cpu>
struct question {
  using policy = Recurrence;
  using sum_type = ln::accumulator<T>;
  using grid_extents = std::array<std::int64_t, static_cast<std::size_t>(Dims)>;
  static constexpr bool with_sign = Recurrence::with_sign;

  std::int64_t batch = 1, heads = 1, channels = 1;
  grid_extents extents{};
  list<double> x, decay;       // [B, N, H, d]; decay is its logarithm where it has no sign
  list<char> keep;             // [B, N]; empty keeps all
  list<std::int64_t> lengths;  // [S + 1]
  list<double> initial;        // [S, H, d]
  layout how = layout::dense;
  bool flattened = false;  // views [B, N, H, d], whatever Dims
  int threads = 1;

  question(std::int64_t sequences, const grid_extents& shape, std::int64_t h, std::int64_t d, std::uint64_t seed = 1)
      : batch{sequences}, heads{h}, channels{d}, extents{shape} {
    x = rounded(numbers::normal(size(), seed));
    decay = numbers::normal(size(), seed + 1, with_sign ? 0.5 : 1.0);
    for (double& a : decay) a = with_sign ? std::clamp(a, -0.95, 0.95) : -0.125 - std::abs(a);
    // Resets, which no gradient may divide by.
    for (std::size_t i = 3; i < decay.size(); i += 17) decay[i] = with_sign ? 0 : -infinity;
    decay = rounded(decay);
  }
  std::int64_t tokens() const { return product(extents); }
  std::int64_t row() const { return heads * channels; }
  std::int64_t size() const { return batch * tokens() * row(); }
  std::int64_t sequences() const { return lengths.empty() ? batch : static_cast<std::int64_t>(lengths.size()) - 1; }
  std::int64_t state_size() const { return sequences() * row(); }
  std::size_t at(std::int64_t b, std::int64_t t, std::int64_t c) const { return index((b * tokens() + t) * row() + c); }
  bool on(std::int64_t b, std::int64_t t) const { return keep.empty() || keep[index(b * tokens() + t)] != 0; }

  // Deletes some tokens, and leaves NaN where they were.
  question& masked() {
    keep.clear();
    for (std::int64_t i = 0; i < batch * tokens(); ++i) {
      keep.push_back((i * i + 3) % 7 != 0 ? 1 : 0);
      for (std::int64_t c = 0; c < row() && keep.back() == 0; ++c) {
        x[index(i * row() + c)] = decay[index(i * row() + c)] = numbers::not_a_number;
      }
    }
    return *this;
  }
  question& from_state(std::uint64_t seed = 5) {
    initial = numbers::cast<double>(numbers::cast<sum_type>(numbers::normal(state_size(), seed)));
    return *this;
  }
  question& packed(const list<std::int64_t>& cumulative) {
    lengths = cumulative;
    return *this;
  }
  question& laid_out(layout other, bool flat = false) {
    how = other;
    flattened = flat;
    return *this;
  }
  question& on_threads(int count) {
    threads = count;
    return *this;
  }
  // The tokens [first, first + count) of sequence b alone, for one dimension.
  question part(std::int64_t b, std::int64_t first, std::int64_t count) const {
    question some(1, {count}, heads, channels);
    for (std::int64_t i = 0; i < count * row(); ++i) {
      some.x[index(i)] = x[at(b, first, i)];
      some.decay[index(i)] = decay[at(b, first, i)];
    }
    if (!keep.empty()) {
      const auto begin = keep.begin() + b * tokens() + first;
      some.keep.assign(begin, begin + count);
    }
    some.how = how;
    return some;
  }

  incoming random_incoming(std::uint64_t seed = 7) const {
    incoming some{rounded(numbers::normal(size(), seed)), {}};
    if (Traversal::stateful) some.h = numbers::normal(state_size(), seed + 1);
    return some;
  }

  result forward() const {
    return flattened && Dims > 1 ? forward_of<4>(flat_shape()) : forward_of<Dims + 3>(whole_shape());
  }
  gradients backward(const incoming& from) const {
    return flattened && Dims > 1 ? backward_of<4>(flat_shape(), from) : backward_of<Dims + 3>(whole_shape(), from);
  }

  // What forward should give, and the size of the terms that every output sums.
  struct expected {
    list<long double> o, h;
    list<double> unit, state_unit;
  };
  expected naive() const {
    expected e;
    e.o.assign(index(size()), 0);
    e.unit.assign(index(size()), 0);
    e.h.assign(index(state_size()), 0);
    e.state_unit.assign(index(state_size()), 0);
    for (std::size_t i = 0; i < initial.size(); ++i) e.h[i] = initial[i];
    for (std::size_t i = 0; i < initial.size(); ++i) e.state_unit[i] = std::abs(initial[i]);
    for (int axis = 0; axis < (Traversal::along_axes ? Dims : 1); ++axis) {
      for (int way = 0; way < (std::is_same_v<Traversal, ln::causal> ? 1 : 2); ++way) {
        for (std::int64_t s = 0; s < sequences(); ++s) {
          for (const list<std::int64_t>& line : lines(s, axis)) walk(e, s, line, way == 1);
        }
      }
    }
    return e;
  }

 private:
  static list<double> rounded(const list<double>& some) { return numbers::cast<double>(numbers::cast<T>(some)); }

  // The tokens of the lines of a sequence, in order.
  list<list<std::int64_t>> lines(std::int64_t s, int axis) const {
    list<list<std::int64_t>> all;
    if (!lengths.empty() || !Traversal::along_axes) {
      list<std::int64_t> line(index(lengths.empty() ? tokens() : lengths[index(s + 1)] - lengths[index(s)]));
      std::iota(line.begin(), line.end(), lengths.empty() ? 0 : lengths[index(s)]);
      all.push_back(line);
      return all;
    }
    const auto coordinates = [&](std::int64_t t) {
      grid_extents place{};
      for (std::size_t i = Dims; i-- > 0;) {
        place[i] = t % extents[i];
        t /= extents[i];
      }
      return place;
    };
    for (std::int64_t start = 0; start < tokens(); ++start) {
      if (coordinates(start)[index(axis)] != 0) continue;
      list<std::int64_t> line;
      for (std::int64_t t = 0; t < tokens(); ++t) {
        grid_extents place = coordinates(t);
        place[index(axis)] = 0;
        if (place == coordinates(start)) line.push_back(t);
      }
      all.push_back(line);
    }
    return all;
  }

  void walk(expected& e, std::int64_t s, const list<std::int64_t>& line, bool reversed) const {
    const std::int64_t b = lengths.empty() ? s : 0;
    for (std::int64_t c = 0; c < row(); ++c) {
      const std::size_t state = index(s * row() + c);
      long double h = e.h[state];
      double unit = e.state_unit[state];
      for (std::size_t i = 0; i < line.size(); ++i) {
        const std::int64_t t = line[reversed ? line.size() - 1 - i : i];
        if (!on(b, t)) continue;
        const std::size_t place = at(b, t, c);
        const long double a =
            with_sign ? static_cast<long double>(decay[place]) : std::exp(static_cast<long double>(decay[place]));
        h = a * h + x[place];
        unit = static_cast<double>(std::abs(a)) * unit + std::abs(x[place]);
        e.o[place] += h;
        e.unit[place] += unit;
      }
      if (!Traversal::stateful) continue;
      e.h[state] = h;
      e.state_unit[state] = unit;
    }
  }

  std::array<std::int64_t, 4> flat_shape() const { return {batch, tokens(), heads, channels}; }
  std::array<std::int64_t, Dims + 3> whole_shape() const {
    std::array<std::int64_t, Dims + 3> shape{};
    shape[0] = batch;
    std::copy(extents.begin(), extents.end(), shape.begin() + 1);
    shape[Dims + 1] = heads;
    shape[Dims + 2] = channels;
    return shape;
  }

  ln::execution<Device> opened() const {
    if constexpr (std::is_same_v<Device, ln::cpu>) {
      return ln::execution<Device>(threads);
    } else {
      return ln::execution<Device>();
    }
  }
  // Waits for what was asked.
  static void finish(ln::execution<Device>& on) {
    if constexpr (!std::is_same_v<Device, ln::cpu>) on.check();
  }

  template <int Rank>
  struct arrays {
    array<Rank, T, Device> x, decay;
    array<3, sum_type, Device> h;
    ln::tensor<ln::rank<2>, bool, Device> mask;             // [N, B]
    ln::tensor<ln::rank<1>, std::int64_t, Device> lengths;  // [S + 1]
  };
  template <int Rank>
  arrays<Rank> arguments(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& shape) const {
    arrays<Rank> all{{shape, how, x}, {shape, how, decay}, {{sequences(), heads, channels}, how, initial}, {}, {}};
    if (!keep.empty()) {
      const auto on_host = std::make_unique<bool[]>(keep.size());
      for (std::int64_t i = 0; i < batch * tokens(); ++i) {
        on_host[index(i % tokens() * batch + i / tokens())] = keep[index(i)] != 0;
      }
      all.mask.resize({{tokens(), batch}});
      Device::copy(all.mask.data(), on_host.get(), keep.size());
    }
    if (!lengths.empty()) {
      all.lengths.resize({{sequences() + 1}});
      Device::copy(all.lengths.data(), lengths.data(), lengths.size() * sizeof(std::int64_t));
    }
    return all;
  }
  template <int Rank>
  ln::scan_inputs<Recurrence, Dims, T, Device> inputs(const arrays<Rank>& from) const {
    ln::scan_inputs<Recurrence, Dims, T, Device> in{.x = from.x.view()};
    (with_sign ? in.decay : in.log_decay) = from.decay.view();
    if (!keep.empty()) in.mask = {from.mask.data(), {{batch, tokens()}}, {1, batch}};
    if (!lengths.empty()) in.cumulative_lengths = from.lengths.view();
    if (!initial.empty()) in.state.h = from.h.view();
    if (Rank == 4 && Dims > 1) in.grid.extents = extents;
    return in;
  }

  template <int Rank>
  result forward_of(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& shape) const {
    ln::execution<Device> on = opened();
    const auto from = arguments<Rank>(shape);
    array<Rank, T, Device> o(shape, how);
    const std::array<std::int64_t, 3> state_shape{sequences(), heads, channels};
    array<3, sum_type, Device> h(state_shape, how), product_of_decays(state_shape, how);
    ln::scan_outputs<Recurrence, Dims, T, Device> out{.o = o.view()};
    if (Traversal::stateful) out.state = {h.view(), product_of_decays.view()};
    ln::scan<Recurrence, Traversal, ln::no_position, Dims, T>(on, inputs<Rank>(from), out);
    finish(on);
    return {o.values(), h.values(), product_of_decays.values()};
  }

  template <int Rank>
  gradients backward_of(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& shape,
                        const incoming& weights) const {
    ln::execution<Device> on = opened();
    const auto from = arguments<Rank>(shape);
    const std::array<std::int64_t, 3> state_shape{sequences(), heads, channels};
    const array<Rank, T, Device> dout(shape, how, weights.o);
    const array<3, sum_type, Device> dlast(state_shape, how, weights.h);
    array<Rank, T, Device> dx(shape, how), ddecay(shape, how);
    array<3, sum_type, Device> dinitial(state_shape, how);
    ln::scan_incoming<Recurrence, Dims, T, Device> in{.o = dout.view()};
    if (!weights.h.empty()) in.state = dlast.view();
    ln::scan_gradients<Recurrence, Dims, T, Device> out{.x = dx.view()};
    (with_sign ? out.decay : out.log_decay) = ddecay.view();
    if (Traversal::stateful) out.state = dinitial.view();
    ln::scan_backward<Recurrence, Traversal, ln::no_position, Dims, T>(on, inputs<Rank>(from), in, out);
    finish(on);
    return {dx.values(), ddecay.values(), dinitial.values()};
  }
};

template <class T>
constexpr double epsilon = std::is_same_v<T, double> ? 0x1p-53 : 0x1p-24;
// Half a unit in the last place of what is stored, where that is not the accumulator.
template <class T>
constexpr double rounding = std::is_same_v<T, ln::bfloat16> ? 0x1p-8 : (std::is_same_v<T, ln::float16> ? 0x1p-11 : 0);

// The largest error of o and the state, in units of the tolerance of spec section 1 with, for o, the rounding to the
// storage type; and what the accumulator cannot hold below its range.
template <class Recurrence, class Traversal, int Dims, class T, class Device>
double worst_error(const question<Recurrence, Traversal, Dims, T, Device>& q) {
  const auto got = q.forward();
  const auto expected = q.naive();
  const double tokens = static_cast<double>(q.tokens());
  const double nothing = tokens * static_cast<double>(std::numeric_limits<ln::accumulator<T>>::denorm_min());
  double worst = 0;
  const auto compare = [&](const list<double>& a, const list<long double>& b, const list<double>& unit, double last,
                           double least) {
    CHECK(a.size() == b.size());
    for (std::size_t i = 0; i < b.size(); ++i) {
      const auto difference = static_cast<double>(std::abs(a[i] - b[i])), size = static_cast<double>(std::abs(b[i]));
      const double bound = (32 + tokens / 32) * epsilon<T> * unit[i] + last * size + least;
      if (difference != 0) worst = std::max(worst, std::isfinite(difference) ? difference / bound : infinity);
    }
  };
  const auto least = static_cast<double>(std::numeric_limits<T>::denorm_min());
  compare(got.o, expected.o, expected.unit, rounding<T>, std::max(nothing, least));
  if (Traversal::stateful) compare(got.h, expected.h, expected.state_unit, 0, nothing);
  return worst;
}

template <class Question>
bool same_answer(const Question& a, const Question& b) {
  const auto left = a.forward(), right = b.forward();
  return numbers::same_bits(left.o, right.o) && numbers::same_bits(left.h, right.h) &&
         numbers::same_bits(left.decay, right.decay);
}

}  // namespace elementwise
