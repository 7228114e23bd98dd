// SPDX-License-Identifier: Apache-2.0
// The list of cases (recurrence x traversal x position x dims x dtype), and how a test puts a question to one of them.
// Questions and answers are in double whatever the dtype, so a test is compiled once and goes through the whole list.
#pragma once

#include <lightnet/recurrence.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../oracle/position.hpp"
#include "../oracle/problem.hpp"
#include "../oracle/tolerance.hpp"

namespace cases {

namespace ln = lightnet;
using oracle::problem;

using numbers = std::vector<double>;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Logits that break what is not careful: in every order of three they cut rows, empty channels and meet -inf.
inline const numbers& extreme_logits() {
  static const numbers some = {0, 1, -1, 30, -30, 88, -88, 200, -200, 1e4, -1e4, -inf};
  return some;
}

// --- Questions and answers

// Where the elements of a view lie: row-major; row-major with room after each row; or in no order, with negative
// strides, and a grid that does not flatten.
enum class layout { dense, gapped, tangled };

// A state as it is: (m, Z, U), or S alone.
struct raw_state {
  std::vector<std::int32_t> exponent = {};  // [B, H, d]
  numbers normaliser = {};                  // [B, H, d]
  numbers sum = {};                         // [B, H, d', e]

  friend bool operator==(const raw_state&, const raw_state&) = default;
};

struct question {
  problem p = {};
  oracle::grid where = {};
  numbers theta = {};              // [share] or [H, share]; empty: the default
  bool default_log_decay = false;  // log_decay is not given
  bool with_state = false;         // an initial state is given: p.z0 and p.s0, or `raw` where that is set
  raw_state raw = {};
  std::int64_t chunk = 64;
  int threads = 1;
  layout memory = layout::dense;
  bool flattened = false;  // [B, N, H, d] and a grid, instead of [B, n_1..n_M, H, d]
};

struct answer {
  numbers o = {};        // [B, N, H, e]
  raw_state state = {};  // final
  bool outside = false;  // something was written where no view is
};

// What comes back: gradients by o and by the final (z, S). Empty: not given.
struct incoming {
  numbers o = {}, z = {}, s = {};
};

struct gradients {
  numbers q = {}, k = {}, v = {}, z0 = {}, s0 = {}, log_decay = {}, theta = {};
};

// z = m ln 2 + log Z
inline numbers log_normaliser(const raw_state& state) {
  numbers z;
  for (std::size_t n = 0; n < state.normaliser.size(); ++n) {
    z.push_back(static_cast<double>(static_cast<long double>(state.exponent[n]) * std::log(2.0L) +
                                    std::log(static_cast<long double>(state.normaliser[n]))));
  }
  return z;
}

// S = U / Z, 0 in an empty channel; or S itself.
inline numbers mean_state(const raw_state& state, const problem& p) {
  if (state.normaliser.empty()) return state.sum;
  numbers s = state.sum;
  for (std::size_t n = 0; n < s.size(); ++n) {
    const auto row = static_cast<std::int64_t>(n) / p.values;
    const std::int64_t head = row / p.features(), channel = row % p.features() % p.keys;
    const double z = state.normaliser[static_cast<std::size_t>(head * p.keys + channel)];
    s[n] = z == 0 ? 0 : s[n] / z;
  }
  return s;
}

// (m, Z, U) of p.z0 and p.s0; S alone for a decay. The U of an empty channel is NaN, for nobody may read it.
inline raw_state raw_of(const problem& p) {
  raw_state state;
  state.sum = p.s0.empty() ? numbers(static_cast<std::size_t>(p.batch * p.heads * p.features() * p.values)) : p.s0;
  if (p.kind != oracle::recurrence::additive) return state;
  for (const double z : p.z0) {
    const bool empty = z == -inf;
    const double m = empty ? 0 : std::rint(z / std::log(2.0));
    state.exponent.push_back(empty ? ln::empty_exponent : static_cast<std::int32_t>(m));
    const long double rest = static_cast<long double>(z) - static_cast<long double>(m) * std::log(2.0L);
    state.normaliser.push_back(empty ? 0 : static_cast<double>(std::exp(rest)));
  }
  for (std::size_t n = 0; n < state.sum.size(); ++n) {
    const auto row = static_cast<std::int64_t>(n) / p.values;
    const std::int64_t head = row / p.features(), channel = row % p.features() % p.keys;
    const double z = state.normaliser[static_cast<std::size_t>(head * p.keys + channel)];
    state.sum[n] = z == 0 ? not_a_number : state.sum[n] * z;
  }
  return state;
}

// One entry of the list.
struct operation {
  std::string name;
  oracle::recurrence kind;
  oracle::traversal order;
  oracle::encoding position;
  int dims;
  bool sink, is_double, commutative, stateful;
  answer (*forward)(const question&);
  answer (*steps)(const question&);  // token by token; null where there is no such thing
  gradients (*backward)(const question&, const incoming&);

  double epsilon() const { return is_double ? oracle::double_epsilon : oracle::float_epsilon; }
  double smallest() const { return is_double ? 0x1p-1022 : 0x1p-126; }
  double rounded(double x) const { return is_double ? x : static_cast<double>(static_cast<float>(x)); }
  bool additive() const { return kind == oracle::recurrence::additive; }
  bool rotates() const {
    return position == oracle::encoding::rotate_halves || position == oracle::encoding::rotate_neighbours;
  }
};

// --- How a case asks the library

// Elements of any layout. Numbers start as NaN, and so does the memory between them.
template <class T>
class storage {
 public:
  storage(std::vector<std::int64_t> extents, layout how) : extents_(std::move(extents)), strides_(extents_.size()) {
    const std::size_t rank = extents_.size();
    std::int64_t stride = how == layout::tangled ? 2 : 1;
    for (std::size_t n = 0; n < rank; ++n) {
      const std::size_t axis = how == layout::tangled ? n : rank - 1 - n;
      const bool backwards = how == layout::tangled && axis % 2 == 1;
      const std::int64_t steps = extents_[axis] > 0 ? extents_[axis] - 1 : 0;
      strides_[axis] = backwards ? -stride : stride;
      if (backwards) origin_ += steps * stride;
      stride *= extents_[axis] + (how == layout::dense ? 0 : 1);
    }
    size_ = std::max<std::int64_t>(stride, 1);
    memory_ = std::make_unique<T[]>(static_cast<std::size_t>(size_));
    std::fill_n(memory_.get(), size_, nothing());
  }

  storage(std::vector<std::int64_t> extents, layout how, const numbers& values) : storage(std::move(extents), how) {
    std::size_t n = 0;
    for_each([&](T& x) { x = static_cast<T>(values.at(n++)); });
  }

  numbers read() const {
    numbers values;
    for_each([&](T& x) { values.push_back(static_cast<double>(x)); });
    return values;
  }

  // Whether memory that is not in the view was written.
  bool outside() const {
    std::vector<bool> ours(static_cast<std::size_t>(size_));
    for_each([&](T& x) { ours[static_cast<std::size_t>(&x - memory_.get())] = true; });
    for (std::int64_t n = 0; n < size_; ++n) {
      const T x = memory_[static_cast<std::size_t>(n)];
      if (!ours[static_cast<std::size_t>(n)] && x == x && x != nothing()) return true;
    }
    return false;
  }

  template <int Rank>
  ln::dynamic_view<Rank, T> view() {
    std::array<std::int64_t, static_cast<std::size_t>(Rank)> shape{}, strides{};
    std::copy_n(extents_.begin(), Rank, shape.begin());
    std::copy_n(strides_.begin(), Rank, strides.begin());
    return {memory_.get() + origin_, shape, strides};
  }

  std::size_t rank() const { return extents_.size(); }

 private:
  static T nothing() { return std::numeric_limits<T>::has_quiet_NaN ? std::numeric_limits<T>::quiet_NaN() : T(77); }

  template <class Body>
  void for_each(const Body& body) const {
    std::vector<std::int64_t> at(extents_.size());
    const std::int64_t count =
        std::accumulate(extents_.begin(), extents_.end(), std::int64_t{1}, [](auto a, auto b) { return a * b; });
    for (std::int64_t n = 0; n < count; ++n) {
      std::int64_t rest = n, place = origin_;
      for (std::size_t axis = extents_.size(); axis-- > 0;) {
        place += rest % extents_[axis] * strides_[axis];
        rest /= extents_[axis];
      }
      body(memory_[static_cast<std::size_t>(place)]);
    }
  }

  std::vector<std::int64_t> extents_, strides_;
  std::int64_t origin_ = 0, size_ = 0;
  std::unique_ptr<T[]> memory_;
};

template <class Recurrence, class Traversal, class Position, int Dims, class T>
struct asked {
  const question& x;
  ln::execution<ln::cpu> on;
  storage<T> q, k, v, theta, log_decay, sum, normaliser;
  storage<bool> mask;
  storage<std::int32_t> exponent;
  ln::scan_inputs<Recurrence, Dims, T> inputs;

  explicit asked(const question& from)
      : x{from},
        on{from.threads},
        q{sequence(from.p.keys), from.memory, from.p.q},
        k{sequence(from.p.keys), from.memory, from.p.k},
        v{sequence(from.p.values), from.memory, from.p.v},
        theta{theta_shape(from), from.memory, from.theta},
        log_decay{{static_cast<std::int64_t>(from.p.log_decay.size())}, from.memory, from.p.log_decay},
        sum{{}, layout::dense},
        normaliser{{}, layout::dense},
        mask{{from.p.mask.empty() ? 0 : from.p.batch, from.p.tokens}, from.memory, from.p.mask},
        exponent{{}, layout::dense} {
    const problem& p = x.p;
    inputs.q = head(q);
    inputs.k = head(k);
    inputs.v = head(v);
    inputs.chunk = x.chunk;
    if (!p.mask.empty()) inputs.mask = mask.template view<2>();
    if (!p.log_decay.empty() && !x.default_log_decay) inputs.log_decay = log_decay.template view<1>();
    if (!x.theta.empty()) inputs.theta = theta.template view<2>();
    if (x.flattened || (Dims == 1 && x.where.prefix > 0)) {
      for (std::size_t axis = 0; axis < Dims; ++axis) inputs.grid.extents[axis] = x.where.extents[axis];
      inputs.grid.prefix = x.where.prefix;
    }
    for (std::size_t axis = 0; axis < x.where.offsets.size(); ++axis) inputs.grid.offset[axis] = x.where.offsets[axis];
    if (x.with_state) inputs.state = state(x.raw.sum.empty() ? raw_of(p) : x.raw);
  }
  asked(const asked&) = delete;
  asked& operator=(const asked&) = delete;

  std::vector<std::int64_t> sequence(std::int64_t channels) const {
    std::vector<std::int64_t> shape = {x.p.batch};
    if (x.flattened || Dims == 1) {
      shape.push_back(x.p.tokens);
    } else {
      shape.insert(shape.end(), x.where.extents.begin(), x.where.extents.end());
    }
    shape.push_back(x.p.heads);
    shape.push_back(channels);
    return shape;
  }

  static std::vector<std::int64_t> theta_shape(const question& x) {
    if (x.theta.empty()) return {0, 0};
    const std::int64_t share = oracle::lrpe_share(x.p.position, x.p.keys, Dims);
    return {static_cast<std::int64_t>(x.theta.size()) / share, share};
  }

  ln::head_sequence<Dims, T> head(storage<T>& from) const {
    if (from.rank() == 4) return from.template view<4>();
    return from.template view<Dims + 3>();
  }

  storage<T> state_sum(layout how) const { return {{x.p.batch, x.p.heads, x.p.features(), x.p.values}, how}; }
  storage<T> state_normaliser(layout how) const { return {{x.p.batch, x.p.heads, x.p.keys}, how}; }

  typename Recurrence::template state<T, ln::cpu> state(const raw_state& from) {
    const problem& p = x.p;
    sum = {{p.batch, p.heads, p.features(), p.values}, x.memory, from.sum};
    if constexpr (Recurrence::framed) {
      normaliser = {{p.batch, p.heads, p.keys}, x.memory, from.normaliser};
      exponent = {{p.batch, p.heads, p.keys}, x.memory, numbers(from.exponent.begin(), from.exponent.end())};
      return {exponent.template view<3>(), normaliser.template view<3>(), sum.template view<4>()};
    } else {
      return {sum.template view<4>()};
    }
  }

  raw_state read_state() const {
    raw_state to;
    to.sum = sum.read();
    if constexpr (Recurrence::framed) {
      to.normaliser = normaliser.read();
      for (const double m : exponent.read()) to.exponent.push_back(static_cast<std::int32_t>(m));
    }
    return to;
  }

  // A state of NaN, to be written.
  typename Recurrence::template state<T, ln::cpu> fresh_state() {
    const problem& p = x.p;
    sum = state_sum(x.memory);
    if constexpr (Recurrence::framed) {
      normaliser = state_normaliser(x.memory);
      exponent = {{p.batch, p.heads, p.keys}, x.memory};
      return {exponent.template view<3>(), normaliser.template view<3>(), sum.template view<4>()};
    } else {
      return {sum.template view<4>()};
    }
  }
};

template <class R, class V, class P, int Dims, class T>
answer forward(const question& x) {
  using ask = asked<R, V, P, Dims, T>;
  constexpr bool stateful = V::stateful && !(R::per_channel && P::mixes_channels);
  ask in{x}, out{x};
  storage<T> o{in.sequence(x.p.values), x.memory};
  ln::scan_outputs<R, Dims, T> outputs;
  outputs.o = in.head(o);
  if constexpr (stateful) outputs.state = out.fresh_state();
  ln::scan<R, V, P, Dims, T>(in.on, in.inputs, outputs);
  answer result;
  result.o = o.read();
  result.outside = o.outside() || out.sum.outside() || out.normaliser.outside() || out.exponent.outside();
  if constexpr (stateful) result.state = out.read_state();
  return result;
}

// A state without a token, from which a walk that is given none starts.
template <class R>
raw_state first_state(const problem& p) {
  raw_state state;
  state.sum.resize(static_cast<std::size_t>(p.batch * p.heads * p.features() * p.values));
  if (R::framed) {
    state.normaliser.assign(static_cast<std::size_t>(p.batch * p.heads * p.keys), R::sink ? 1 : 0);
    state.exponent.assign(state.normaliser.size(), R::sink ? 0 : ln::empty_exponent);
  }
  return state;
}

template <class R, class P, int Dims, class T>
answer steps(const question& x) {
  const problem& p = x.p;
  answer result;
  result.o.resize(p.v.size());
  result.state = !x.with_state ? first_state<R>(p) : x.raw.sum.empty() ? raw_of(p) : x.raw;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    question one = x;
    one.with_state = false;
    one.p.tokens = 1;
    const auto part = [&](numbers& to, const numbers& from, std::int64_t width) {
      to.clear();
      for (std::int64_t b = 0; b < p.batch; ++b) {
        const auto at = from.begin() + static_cast<std::ptrdiff_t>((b * p.tokens + t) * width);
        to.insert(to.end(), at, at + static_cast<std::ptrdiff_t>(width));
      }
    };
    part(one.p.q, p.q, p.heads * p.keys);
    part(one.p.k, p.k, p.heads * p.keys);
    part(one.p.v, p.v, p.heads * p.values);
    if (!p.mask.empty()) part(one.p.mask, p.mask, 1);
    const bool placed = t >= x.where.prefix;
    one.where.extents.assign(Dims, placed ? 1 : 0);
    one.where.offsets.assign(Dims, 0);
    one.where.prefix = placed ? 0 : 1;
    one.flattened = x.flattened || !placed;
    for (std::int64_t axis = 0; axis < Dims && placed; ++axis) {
      one.where.offsets[static_cast<std::size_t>(axis)] = x.where.coordinate(t, axis) + x.where.offset(axis);
    }
    using ask = asked<R, ln::causal, P, Dims, T>;
    ask in{one}, out{one};
    storage<T> o{in.sequence(p.values), x.memory};
    ln::scan_outputs<R, Dims, T> outputs;
    outputs.o = in.head(o);
    outputs.state = out.state(result.state);
    ln::scan_step<R, P, Dims, T>(in.on, in.inputs, outputs);
    const numbers came = o.read();
    for (std::size_t n = 0; n < came.size(); ++n) {
      const auto width = static_cast<std::size_t>(p.heads * p.values);
      const std::size_t b = n / width;
      result.o[(b * static_cast<std::size_t>(p.tokens) + static_cast<std::size_t>(t)) * width + n % width] = came[n];
    }
    result.state = out.read_state();
    result.outside = result.outside || o.outside();
  }
  return result;
}

template <class R, class V, class P, int Dims, class T>
gradients backward(const question& x, const incoming& from) {
  using ask = asked<R, V, P, Dims, T>;
  ask in{x};
  const problem& p = x.p;
  storage<T> o{in.sequence(p.values), x.memory, from.o};
  ln::scan_incoming<Dims, T> incoming;
  incoming.o = in.head(o);
  storage<T> final_z = in.state_normaliser(x.memory), final_s = in.state_sum(x.memory);
  if (!from.s.empty()) {
    final_s = {{p.batch, p.heads, p.features(), p.values}, x.memory, from.s};
    incoming.state.sum = final_s.template view<4>();
  }
  if (!from.z.empty()) {
    final_z = {{p.batch, p.heads, p.keys}, x.memory, from.z};
    incoming.state.z = final_z.template view<3>();
  }
  storage<T> dq{in.sequence(p.keys), x.memory}, dk{in.sequence(p.keys), x.memory}, dv{in.sequence(p.values), x.memory};
  storage<T> dz = in.state_normaliser(x.memory), ds = in.state_sum(x.memory);
  storage<T> dlog_decay{{p.heads}, x.memory}, dtheta{ask::theta_shape(x), x.memory};
  ln::scan_gradients<Dims, T> to;
  to.q = in.head(dq);
  to.k = in.head(dk);
  to.v = in.head(dv);
  if (x.with_state) {
    to.state.sum = ds.template view<4>();
    if (R::framed) to.state.z = dz.template view<3>();
  }
  if (in.inputs.log_decay) to.log_decay = dlog_decay.template view<1>();
  if (in.inputs.theta) to.theta = dtheta.template view<2>();
  ln::scan_backward<R, V, P, Dims, T>(in.on, in.inputs, incoming, to);
  gradients result{dq.read(), dk.read(), dv.read(), {}, {}, {}, {}};
  if (x.with_state) {
    result.s0 = ds.read();
    if (R::framed) result.z0 = dz.read();
  }
  if (in.inputs.log_decay) result.log_decay = dlog_decay.read();
  if (in.inputs.theta) result.theta = dtheta.read();
  return result;
}

// --- The list

using md_lrpe_neighbours = ln::basic_md_lrpe<ln::lrpe_form::rotate, ln::lrpe_pairs::neighbours>;

template <class Position>
constexpr oracle::encoding encoding_of() {
  if constexpr (!Position::encodes) {
    return oracle::encoding::none;
  } else if constexpr (!Position::mixes_channels) {
    return oracle::encoding::cosine;
  } else {
    return std::is_same_v<Position, md_lrpe_neighbours> ? oracle::encoding::rotate_neighbours
                                                        : oracle::encoding::rotate_halves;
  }
}

template <class R, class V, class P, int Dims, class T>
operation make() {
  operation made{};
  made.name = std::string(R::name) + " " + V::name + " " + P::name + " " + std::to_string(Dims) + " " +
              (sizeof(T) == 4 ? "float" : "double");
  made.kind = R::framed ? oracle::recurrence::additive : oracle::recurrence::constant_decay;
  made.order = V::scans == 2 ? oracle::traversal::bidirectional
               : V::ordered  ? oracle::traversal::causal
                             : oracle::traversal::global;
  made.position = encoding_of<P>();
  made.dims = Dims;
  made.sink = R::sink;
  made.is_double = sizeof(T) == 8;
  made.commutative = R::commutative;
  made.stateful = V::stateful && !(R::per_channel && P::mixes_channels);
  made.forward = forward<R, V, P, Dims, T>;
  made.backward = backward<R, V, P, Dims, T>;
  if constexpr (std::is_same_v<V, ln::causal>) made.steps = steps<R, P, Dims, T>;
  return made;
}

// A recurrence of your own, a traversal, an encoding: one line here.
// clang-format off
#define LIGHTNET_CASES_ADDITIVE(X)                                   \
  X(ln::additive, ln::causal, ln::no_position, 1),                   \
  X(ln::additive, ln::causal, ln::md_lrpe, 2),                       \
  X(ln::additive, ln::bidirectional, ln::md_lrpe, 1),                \
  X(ln::additive_with_sink, ln::causal, ln::md_lrpe, 3)
#define LIGHTNET_CASES_GLOBAL(X)                                     \
  X(ln::additive, ln::global, ln::no_position, 1),                   \
  X(ln::additive, ln::global, ln::md_lrpe, 2),                       \
  X(ln::additive, ln::global, ln::md_lrpe_rotate, 3),                \
  X(ln::additive, ln::global, md_lrpe_neighbours, 1),                \
  X(ln::additive_with_sink, ln::global, ln::no_position, 2)
#define LIGHTNET_CASES_DECAY(X)                                      \
  X(ln::constant_decay, ln::causal, ln::no_position, 1),             \
  X(ln::constant_decay, ln::causal, ln::md_lrpe_rotate, 2),          \
  X(ln::constant_decay, ln::bidirectional, md_lrpe_neighbours, 3),   \
  X(ln::constant_decay, ln::bidirectional, ln::md_lrpe, 2)
// clang-format on

// Each is made in a file of its own, cases_*_test.cpp, so that two cores share the work.
std::vector<operation> additive_float();
std::vector<operation> additive_double();
std::vector<operation> global_float();
std::vector<operation> global_double();
std::vector<operation> decay_float();
std::vector<operation> decay_double();

inline const std::vector<operation>& operations() {
  static const std::vector<operation> all = [] {
    std::vector<operation> list;
    for (auto* part : {additive_float, additive_double, global_float, global_double, decay_float, decay_double}) {
      for (operation& one : part()) list.push_back(std::move(one));
    }
    return list;
  }();
  return all;
}

inline const operation& find(const std::string& name) {
  for (const operation& one : operations()) {
    if (one.name == name) return one;
  }
  throw std::invalid_argument("no such case: " + name);
}

// --- Random questions

struct generator {
  std::mt19937_64 engine;
  explicit generator(std::uint64_t seed) : engine(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(engine() >> 11) * 0x1p-53);
  }
  std::int64_t integer(std::int64_t count) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(count));
  }
  bool coin() { return integer(2) == 1; }
  template <class X>
  const X& one_of(const std::vector<X>& from) {
    return from[static_cast<std::size_t>(integer(static_cast<std::int64_t>(from.size())))];
  }
  numbers many(std::int64_t count, double range) {
    numbers x;
    for (std::int64_t n = 0; n < count; ++n) x.push_back(uniform(-range, range));
    return x;
  }
  numbers choices(std::int64_t count, const numbers& from) {
    numbers x;
    for (std::int64_t n = 0; n < count; ++n) x.push_back(one_of(from));
    return x;
  }
};

// The angles of the oracles. They are computed in double, theta first: at position 200 an angle has no more digits.
inline void give_angles(question& x) {
  problem& p = x.p;
  if (p.position == oracle::encoding::none) return;
  std::vector<long double> theta(x.theta.begin(), x.theta.end());
  if (theta.empty()) theta = oracle::lrpe_theta(p.position, p.keys, x.where.axes());
  for (long double& rate : theta) rate = static_cast<double>(rate);
  p.angles = oracle::lrpe_angles(x.where, p.position, p.heads, p.keys, theta);
  for (long double& angle : p.angles) angle = static_cast<double>(angle);
}

struct options {
  bool masked = false, with_state = false, extreme = false;
  double logits = 3;                                        // their range
  std::int64_t keys = 0, values = 0, batch = 0, heads = 0;  // 0: any
  std::vector<std::int64_t> grid = {};                      // empty: any
  std::int64_t prefix = -1;                                 // -1: any
};

inline question random_question(const operation& op, generator& random, const options& want = {}) {
  static const std::vector<std::vector<std::int64_t>> grids[] = {{{1}, {2}, {19}, {67}, {131}, {213}},
                                                                 {{1, 1}, {3, 5}, {13, 7}, {1, 17}, {9, 1}},
                                                                 {{1, 1, 1}, {2, 3, 5}, {5, 1, 3}}};
  question x;
  problem& p = x.p;
  p.kind = op.kind;
  p.order = op.order;
  p.position = op.position;
  x.memory = random.one_of<layout>({layout::dense, layout::gapped, layout::tangled});
  x.flattened = op.dims > 1 && random.coin();
  x.chunk = random.one_of<std::int64_t>({1, 2, 5, 16, 37, 64, 128});
  x.where.extents = want.grid.empty() ? random.one_of(grids[op.dims - 1]) : want.grid;
  x.where.prefix = want.prefix >= 0 ? want.prefix : x.flattened || op.dims == 1 ? random.integer(4) : 0;
  if (x.where.prefix > 0 && op.dims > 1) x.flattened = true;
  for (int axis = 0; axis < op.dims; ++axis) x.where.offsets.push_back(random.integer(1000));
  p.tokens = x.where.tokens();
  p.batch = want.batch ? want.batch : 1 + random.integer(3);
  p.heads = want.heads ? want.heads : 1 + random.integer(3);
  p.keys = want.keys ? want.keys : random.one_of<std::int64_t>({1, 3, 7, 11, 17, 33, 40});
  while (op.position == oracle::encoding::cosine ? (op.dims - 1) * ((p.keys + op.dims - 1) / op.dims) >= p.keys
                                                 : op.rotates() && p.keys < 2 * op.dims) {
    ++p.keys;
  }
  p.values = want.values ? want.values : random.one_of<std::int64_t>({1, 2, 5, 9, 13, 39});
  const auto round = [&](numbers values) {
    for (double& value : values) value = op.rounded(value);
    return values;
  };
  const std::int64_t rows = p.batch * p.tokens * p.heads;
  p.q = round(random.many(rows * p.keys, 2));
  p.v = round(random.many(rows * p.values, 2));
  const bool extreme = want.extreme && op.additive();
  p.k = extreme ? random.choices(rows * p.keys, extreme_logits()) : round(random.many(rows * p.keys, want.logits));
  if (want.masked) p.mask = random.choices(p.batch * p.tokens, {0, 1, 1});
  if (!op.additive()) {
    const std::int64_t rates = random.integer(4);
    x.default_log_decay = rates == 0;
    for (std::int64_t h = 0; h < p.heads; ++h) {
      p.log_decay.push_back(op.rounded(rates == 0   ? ln::constant_decay::tnl(h, p.heads)
                                       : rates == 1 ? ln::constant_decay::retnet(h, p.heads)
                                                    : random.one_of<double>({-0.01, -1.7, -90, -3000, 0, -inf})));
    }
  }
  if (op.sink) p.z0.assign(static_cast<std::size_t>(p.batch * p.heads * p.keys), 0);
  if (want.with_state && op.stateful) {
    x.with_state = true;
    p.s0 = round(random.many(p.batch * p.heads * p.features() * p.values, 2));
    if (op.additive()) {
      p.z0 = extreme ? random.choices(p.batch * p.heads * p.keys, extreme_logits())
                     : round(random.many(p.batch * p.heads * p.keys, want.logits));
    }
  }
  if (op.position != oracle::encoding::none) {
    const std::int64_t share = oracle::lrpe_share(op.position, p.keys, op.dims);
    const std::int64_t kind = random.integer(3);
    if (kind > 0) x.theta = round(random.many(kind == 1 ? share : share * p.heads, 1));
  }
  give_angles(x);
  return x;
}

// Equal bits, NaN being equal to NaN.
inline bool same(const numbers& a, const numbers& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return x == y ? std::signbit(x) == std::signbit(y) : x != x && y != y; });
}

inline std::string describe(const operation& op, const question& x) {
  std::string text = op.name + ", grid";
  for (const std::int64_t extent : x.where.extents) text.append(" ").append(std::to_string(extent));
  text += ", prefix " + std::to_string(x.where.prefix) + ", d " + std::to_string(x.p.keys) + ", e " +
          std::to_string(x.p.values) + ", chunk " + std::to_string(x.chunk) + ", layout " +
          std::to_string(static_cast<int>(x.memory)) + (x.flattened ? ", flattened" : "") +
          (x.p.mask.empty() ? "" : ", masked") + (x.with_state ? ", with state" : "");
  return text;
}

}  // namespace cases
