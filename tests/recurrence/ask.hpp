// SPDX-License-Identifier: Apache-2.0
// How a case of the list asks the library, on any device. Only the files that make cases include this: it is what
// takes long to compile.
#pragma once

#include <lightnet/backend/cpu/amx.hpp>
#include <lightnet/recurrence.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "question.hpp"
#include "runner.hpp"
#include "storage.hpp"

namespace cases {

// The memory of a state, [S, H, ..]. T is the type of sums.
template <class R, class T, class Device>
struct state_memory {
  storage<T, Device> sum, input, weight;  // weight: Z, or the product of the decays
  storage<std::int32_t, Device> exponent;

  // Of NaN, to be written.
  state_memory(const problem& p, layout how, bool mergeable)
      : sum{matrix(p), how},
        input{has_input && mergeable ? storage<T, Device>(matrix(p), how) : storage<T, Device>()},
        weight{R::framed || mergeable ? storage<T, Device>(vector(p), how) : storage<T, Device>()},
        exponent{R::framed ? storage<std::int32_t, Device>(vector(p), how) : storage<std::int32_t, Device>()} {}
  state_memory(const problem& p, layout how, const raw_state& from)
      : sum{matrix(p), how, from.sum},
        input{from.input.empty() ? storage<T, Device>() : storage<T, Device>(matrix(p), how, from.input)},
        weight{R::framed             ? storage<T, Device>(vector(p), how, from.normaliser)
               : !from.decay.empty() ? storage<T, Device>(vector(p), how, from.decay)
                                     : storage<T, Device>()},
        exponent{R::framed ? storage<std::int32_t, Device>(vector(p), how, from.exponent)
                           : storage<std::int32_t, Device>()} {}

  typename R::template state<T, Device> view() {
    typename R::template state<T, Device> views{};
    views.sum = sum.template view<4>();
    if constexpr (R::framed) {
      views.exponent = exponent.template view<3>();
      views.normaliser = weight.template view<3>();
      if (input) views.input = input.template view<4>();
    } else if (weight) {
      views.decay = weight.template view<3>();
    }
    return views;
  }

  raw_state read() const {
    return {exponent.template read<std::int32_t>(), R::framed ? weight.read() : numbers{}, sum.read(), input.read(),
            R::framed ? numbers{} : weight.read()};
  }
  bool outside() const { return sum.outside() || input.outside() || weight.outside() || exponent.outside(); }

 private:
  static constexpr bool has_input = R::weight == ln::weight_of::running_sum;
  static std::vector<std::int64_t> matrix(const problem& p) { return {p.sequences(), p.heads, p.features(), p.values}; }
  static std::vector<std::int64_t> vector(const problem& p) { return {p.sequences(), p.heads, p.weights()}; }
};

template <class R, int Dims, class T, class Device>
struct asked {
  using sum_type = ln::accumulator<T>;
  static constexpr bool of_head = R::logits == ln::logits_from::head;
  static constexpr bool of_tokens = R::logits == ln::logits_from::tokens;
  static constexpr bool has_keys = R::kappa != ln::kappa_of::complement;

  const question& x;
  runner<Device> run;
  storage<T, Device> q, k, v, logits;
  storage<sum_type, Device> head_logits, theta;
  storage<bool, Device> mask;
  storage<std::int64_t, Device> lengths;
  std::optional<state_memory<R, sum_type, Device>> first;
  ln::scan_inputs<R, Dims, T, Device> inputs;

  explicit asked(const question& from)
      : x{from},
        run{from},
        q{sequence(from.p.keys), from.memory, from.p.q},
        v{sequence(from.p.values), from.memory, from.p.v} {
    const problem& p = x.p;
    inputs.q = head(q);
    if (has_keys) {
      k = {sequence(p.keys), x.memory, p.k};
      inputs.k = head(k);
    }
    inputs.v = head(v);
    inputs.chunk = x.chunk;
    if constexpr (of_tokens) {
      logits = {sequence(p.weights()), x.memory, logits_of(p)};
      (R::framed ? inputs.logits : R::with_sign ? inputs.decay : inputs.log_decay) = head(logits);
    } else if constexpr (of_head) {
      head_logits = {{p.heads}, x.memory, p.log_decay};
      if (!x.default_log_decay) (R::with_sign ? inputs.decay : inputs.log_decay) = head_logits.template view<1>();
    }
    if (!p.mask.empty()) {
      mask = {{p.batch, p.tokens}, x.memory, p.mask};
      inputs.mask = mask.template view<2>();
    }
    if (!p.cumulative_lengths.empty()) {
      lengths = {{static_cast<std::int64_t>(p.cumulative_lengths.size())}, x.memory, p.cumulative_lengths};
      inputs.cumulative_lengths = lengths.template view<1>();
    }
    if (!x.theta.empty()) {
      theta = {theta_shape(x), x.memory, x.theta};
      inputs.theta = theta.template view<2>();
    }
    if (x.flattened || (Dims == 1 && x.where.prefix > 0)) {
      for (std::size_t axis = 0; axis < Dims; ++axis) inputs.grid.extents[axis] = x.where.extents[axis];
      inputs.grid.prefix = x.where.prefix;
    }
    for (std::size_t axis = 0; axis < x.where.offsets.size(); ++axis) inputs.grid.offset[axis] = x.where.offsets[axis];
    if (x.with_state) inputs.state = first.emplace(p, x.memory, x.raw.sum.empty() ? raw_of(p) : x.raw).view();
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
    const std::int64_t share = oracle::lrpe_share(x.p.position, x.p.keys, Dims);
    return {static_cast<std::int64_t>(x.theta.size()) / share, share};
  }

  ln::head_sequence<Dims, T, Device> head(storage<T, Device>& from) const {
    if (from.rank() == 4) return from.template view<4>();
    return from.template view<Dims + 3>();
  }
};

using md_lrpe_neighbours = ln::basic_md_lrpe<ln::lrpe_form::rotate, ln::lrpe_pairs::neighbours>;

template <class R, class V, class P>
constexpr bool keeps_state = V::stateful && !(R::per_channel && P::mixes_channels);

template <class R, class V, class P, int Dims, class T, class Device>
answer forward(const question& x) {
  asked<R, Dims, T, Device> in{x};
  storage<T, Device> o{in.sequence(x.p.values), x.memory};
  state_memory<R, ln::accumulator<T>, Device> state{x.p, x.memory, x.mergeable};
  ln::scan_outputs<R, Dims, T, Device> outputs;
  outputs.o = in.head(o);
  if constexpr (keeps_state<R, V, P>) {
    if (x.final_state) outputs.state = state.view();
  }
  ln::scan<R, V, P, Dims, T>(in.run.on, in.inputs, outputs);
  in.run.finish();
  answer result;
  result.o = o.read();
  result.outside = o.outside() || state.outside();
  if (keeps_state<R, V, P> && x.final_state) result.state = state.read();
  return result;
}

// Token t of every sequence of the batch, a call of its own. `bare` is the question without arrays and state.
inline question token_of(const question& x, const question& bare, std::int64_t t) {
  const problem& p = x.p;
  question one = bare;
  one.p.tokens = 1;
  const auto part = [&](numbers& to, const numbers& from, std::int64_t width) {
    for (std::int64_t b = 0; b < p.batch && !from.empty(); ++b) {
      const auto at = from.begin() + static_cast<std::ptrdiff_t>((b * p.tokens + t) * width);
      to.insert(to.end(), at, at + static_cast<std::ptrdiff_t>(width));
    }
  };
  part(one.p.q, p.q, p.heads * p.keys);
  part(one.p.k, p.k, p.heads * p.keys);
  part(one.p.v, p.v, p.heads * p.values);
  part(one.p.mask, p.mask, 1);
  if (logit_width(p) > 0) part(logits_of(one.p), logits_of(p), logit_width(p));
  const auto axes = static_cast<std::size_t>(x.where.axes());
  const bool placed = t >= x.where.prefix;
  one.where.extents.assign(axes, placed ? 1 : 0);
  one.where.offsets.assign(axes, 0);
  one.where.prefix = placed ? 0 : 1;
  one.flattened = x.flattened || !placed;
  for (std::size_t axis = 0; axis < axes && placed; ++axis) {
    const auto along = static_cast<std::int64_t>(axis);
    one.where.offsets[axis] = x.where.coordinate(t, along) + x.where.offset(along);
  }
  return one;
}

template <class R, class P, int Dims, class T, class Device>
answer steps(const question& x) {
  const problem& p = x.p;
  answer result;
  result.o.resize(p.v.size());
  raw_state begin = first_state(x, R::sink);
  if (!x.mergeable) begin.input = begin.decay = {};
  state_memory<R, ln::accumulator<T>, Device> state{p, x.memory, begin};
  question bare = x;
  bare.raw = {};
  bare.with_state = false;
  for (numbers* array : {&bare.p.q, &bare.p.k, &bare.p.v, &bare.p.mask, &bare.p.logits, &bare.p.z0, &bare.p.s0})
    array->clear();
  if (logit_width(p) > 0) bare.p.log_decay.clear();
  bare.p.angles.clear();
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const question one = token_of(x, bare, t);
    asked<R, Dims, T, Device> in{one};
    storage<T, Device> o{in.sequence(p.values), x.memory};
    ln::scan_outputs<R, Dims, T, Device> outputs;
    outputs.o = in.head(o);
    outputs.state = state.view();
    ln::scan_step<R, P, Dims, T>(in.run.on, in.inputs, outputs);
    in.run.finish();
    const numbers came = o.read();
    const auto width = static_cast<std::size_t>(p.heads * p.values);
    for (std::size_t n = 0; n < came.size(); ++n)
      result.o[(n / width * static_cast<std::size_t>(p.tokens) + static_cast<std::size_t>(t)) * width + n % width] =
          came[n];
    result.outside = result.outside || o.outside();
  }
  result.state = state.read();
  result.outside = result.outside || state.outside();
  return result;
}

template <class R, class V, class P, int Dims, class T, class Device>
gradients backward(const question& x, const incoming& from) {
  using ask = asked<R, Dims, T, Device>;
  using sum_type = ln::accumulator<T>;
  ask in{x};
  const problem& p = x.p;
  const std::vector<std::int64_t> matrix = {p.sequences(), p.heads, p.features(), p.values},
                                  vector = {p.sequences(), p.heads, p.weights()};
  storage<T, Device> o{in.sequence(p.values), x.memory, from.o};
  storage<sum_type, Device> final_s, final_z;
  ln::scan_incoming<R, Dims, T, Device> incoming;
  incoming.o = in.head(o);
  if (!from.s.empty() || !from.z.empty()) {
    final_s = {matrix, x.memory, from.s};
    incoming.state.sum = final_s.template view<4>();
  }
  if (!from.z.empty()) {
    final_z = {vector, x.memory, from.z};
    incoming.state.z = final_z.template view<3>();
  }
  storage<T, Device> dq{in.sequence(p.keys), x.memory}, dk, dv{in.sequence(p.values), x.memory}, dlogits;
  storage<sum_type, Device> ds, dz, dhead_logits, dtheta;
  ln::scan_gradients<R, Dims, T, Device> to;
  to.q = in.head(dq);
  if (ask::has_keys) {
    dk = {in.sequence(p.keys), x.memory};
    to.k = in.head(dk);
  }
  to.v = in.head(dv);
  if constexpr (ask::of_tokens) {
    dlogits = {in.sequence(p.weights()), x.memory};
    (R::framed ? to.logits : R::with_sign ? to.decay : to.log_decay) = in.head(dlogits);
  } else if constexpr (ask::of_head) {
    dhead_logits = {{p.heads}, x.memory};
    if (!x.default_log_decay) (R::with_sign ? to.decay : to.log_decay) = dhead_logits.template view<1>();
  }
  if (x.with_state) {
    ds = {matrix, x.memory};
    to.state.sum = ds.template view<4>();
    if (R::framed) {
      dz = {vector, x.memory};
      to.state.z = dz.template view<3>();
    }
  }
  if (!x.theta.empty()) {
    dtheta = {ask::theta_shape(x), x.memory};
    to.theta = dtheta.template view<2>();
  }
  ln::scan_backward<R, V, P, Dims, T>(in.run.on, in.inputs, incoming, to);
  in.run.finish();
  gradients result{dq.read(), dk.read(), dv.read(), dlogits.read(), dz.read(), ds.read(), dtheta.read()};
  if (ask::of_head && !x.default_log_decay) result.logits = dhead_logits.read();
  result.outside = dq.outside() || dk.outside() || dv.outside() || dlogits.outside() || dz.outside() || ds.outside() ||
                   dhead_logits.outside() || dtheta.outside();
  return result;
}

// The state of `left`, then `right`.
template <class R, class T, class Device>
raw_state merge(const question& x, const raw_state& left, const raw_state& right, merge_into where) {
  using sum_type = ln::accumulator<T>;
  runner<Device> run{x};
  state_memory<R, sum_type, Device> one{x.p, x.memory, left}, two{x.p, x.memory, right},
      other{x.p, x.memory, x.mergeable};
  auto& to = where == merge_into::left ? one : where == merge_into::right ? two : other;
  ln::merge_states<R, sum_type>(run.on, one.view(), two.view(), to.view());
  run.finish();
  return to.read();
}

template <class R>
struct name_of {
  static std::string text() { return R::name; }
};
template <class Decay>
struct name_of<ln::signed_decay<Decay>> {
  static std::string text() { return std::string("signed ") + Decay::name; }
};

template <class R>
constexpr oracle::recurrence kind_of() {
  using oracle::recurrence;
  if (R::framed) {
    if (R::logits == ln::logits_from::keys) return recurrence::additive;
    return R::weight == ln::weight_of::running_sum ? recurrence::additive_plain : recurrence::additive_gated;
  }
  if (R::logits == ln::logits_from::none) return recurrence::no_decay;
  if (R::logits == ln::logits_from::head) return recurrence::constant_decay;
  if (R::kappa == ln::kappa_of::complement) return recurrence::hgrn2;
  return R::per_channel ? recurrence::vector_decay : recurrence::scalar_decay;
}

template <class P>
constexpr oracle::encoding encoding_of() {
  if (!P::encodes) return oracle::encoding::none;
  if (!P::mixes_channels) return oracle::encoding::cosine;
  return std::is_same_v<P, ln::md_lrpe_rotate> ? oracle::encoding::rotate_halves : oracle::encoding::rotate_neighbours;
}

template <class R, class V, class P, int Dims, class T, class Device = ln::cpu>
operation make() {
  constexpr bool is_double = std::is_same_v<T, double>, is_float = std::is_same_v<T, float>,
                 is_bfloat16 = std::is_same_v<T, ln::bfloat16>;
  operation made{};
  made.type = is_double ? dtype::float64 : is_float ? dtype::float32 : is_bfloat16 ? dtype::bfloat16 : dtype::float16;
  made.name = name_of<R>::text() + " " + V::name + " " + P::name + " " + std::to_string(Dims) + " " +
              (is_double     ? "double"
               : is_float    ? "float"
               : is_bfloat16 ? "bfloat16"
                             : "float16");
  made.like.kind = kind_of<R>();
  made.like.per_head = made.like.has_logits() && !R::per_channel;
  made.like.with_sign = R::with_sign;
  made.like.order = V::along_axes         ? oracle::traversal::axial
                    : V::scans(Dims) == 2 ? oracle::traversal::bidirectional
                    : V::ordered          ? oracle::traversal::causal
                                          : oracle::traversal::global;
  made.like.position = encoding_of<P>();
  made.dims = Dims;
  made.sink = R::sink;
  made.framed = R::framed;
  made.stateful = keeps_state<R, V, P>;
  made.runs_on = std::is_same_v<Device, ln::cpu> ? device::cpu : device::cuda;
  made.uses_tiles = is_bfloat16 && ln::detail::amx_available();
#if defined(LIGHTNET_HAS_CUDA)
  if (made.runs_on == device::cuda) {
    const bool hopper = std::getenv("LIGHTNET_TEST_AMPERE") == nullptr;
    made.uses_tiles = ln::detail::takes_causal_tiles<R, P, T> || (ln::detail::takes_encoding_walks<R, P, T> && hopper);
  }
#endif
  made.forward = forward<R, V, P, Dims, T, Device>;
  made.backward = backward<R, V, P, Dims, T, Device>;
  if constexpr (std::is_same_v<V, ln::causal>) made.steps = steps<R, P, Dims, T, Device>;
  if constexpr (keeps_state<R, V, P>) made.merge = merge<R, T, Device>;
  return made;
}

}  // namespace cases
