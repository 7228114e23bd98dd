// SPDX-License-Identifier: Apache-2.0
// The same bits on the GPU however a recurrence and its gradients are run, and for each sequence and head inside a batch
// that fills the device and alone.
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/scan.hpp>
#include <lightnet/recurrence/signed_decay.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

#include <cmath>

#include "../cuda/same_bits.cuh"
#include "../layer/device_numbers.cuh"
#include "cases.hpp"
#include "random_question.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr std::int64_t batch = 3, heads = 5;

template <int Rank, class T>
class device_tensor {
 public:
  device_tensor() = default;
  // Normal numbers, each through a function.
  template <class Of>
  device_tensor(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& extents, std::uint64_t seed,
                const Of& of)
      : memory_{ln::rank<Rank>{extents}} {
    list<double> x = numbers::normal(memory_.size(), seed);
    for (double& a : x) a = of(a);
    const list<T> all = numbers::cast<T>(x);
    ln::cuda::copy(memory_.data(), all.data(), all.size() * sizeof(T));
  }
  explicit device_tensor(const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& extents)
      : memory_{ln::rank<Rank>{extents}} {}

  ln::dynamic_view<Rank, T, ln::cuda> view() { return memory_.view(); }

 private:
  ln::tensor<ln::rank<Rank>, T, ln::cuda> memory_;
};

// Everything that a recurrence may be given, forward and back; states or not, for without them faster kernels may do it. With a
// Width: heads of so many keys and values without a mask, as the copy engine reads them.
template <class R, class V, class P, int Dims, class T, bool States = V::stateful, std::int64_t Width = 0>
struct everything {
  static constexpr std::int64_t keys = Width > 0 ? Width : 19, values = Width > 0 ? Width : 37;
  using sum_type = ln::accumulator<T>;
  static constexpr bool of_tokens = R::logits == ln::logits_from::tokens;
  static constexpr std::int64_t stored = ln::state_keys<P>(keys);
  static constexpr std::int64_t weights = R::per_channel ? keys : 1;

  std::int64_t tokens;
  ln::grid<Dims> where{};
  device_tensor<4, T> q, k, v, logits, dout, o, dq, dk, dv, dlogits;
  device_tensor<2, sum_type> theta, dtheta;
  ln::tensor<ln::rank<2>, bool, ln::cuda> mask;
  device_tensor<4, sum_type> first_sum, sum, final_ds, ds;
  device_tensor<3, sum_type> first_weight, weight, final_dz, dz;
  ln::tensor<ln::rank<3>, std::int32_t, ln::cuda> first_exponent, exponent;

  explicit everything(const std::array<std::int64_t, static_cast<std::size_t>(Dims)>& grid) {
    where.extents = grid;
    tokens = where.size();
    const auto same = [](double x) { return x; };
    const std::array<std::int64_t, 4> of_keys{batch, tokens, heads, keys}, of_values{batch, tokens, heads, values};
    const std::array<std::int64_t, 4> of_sum{batch, heads, stored, values};
    const std::array<std::int64_t, 3> of_weight{batch, heads, weights};
    q = {of_keys, 1, same};
    k = {of_keys, 2, [](double x) { return 2 * x; }};
    v = {of_values, 3, same};
    dout = {of_values, 4, same};
    if (of_tokens) {
      const std::array<std::int64_t, 4> of_logits{batch, tokens, heads, weights};
      logits = {of_logits, 5, [](double x) { return R::with_sign ? std::tanh(2 * x) : -std::abs(x) / 4; }};
      dlogits = device_tensor<4, T>(of_logits);
    }
    if constexpr (P::encodes) {
      const std::array<std::int64_t, 2> of_theta{heads, P::share(keys, Dims)};
      theta = {of_theta, 6, same};
      dtheta = device_tensor<2, sum_type>(of_theta);
    }
    if (Width == 0) {
      mask = numbers::mask_of<ln::cuda>(batch, tokens, [](std::int64_t i) { return (i * i + 3) % 7 != 0; });
    }
    o = device_tensor<4, T>(of_values);
    dq = device_tensor<4, T>(of_keys);
    dk = device_tensor<4, T>(of_keys);
    dv = device_tensor<4, T>(of_values);
    if (!States) return;
    first_sum = {of_sum, 7, same};
    final_ds = {of_sum, 8, same};
    sum = device_tensor<4, sum_type>(of_sum);
    ds = device_tensor<4, sum_type>(of_sum);
    first_weight = {of_weight, 9, [](double x) { return 1 + std::abs(x) / 4; }};
    weight = device_tensor<3, sum_type>(of_weight);
    final_dz = {of_weight, 10, same};
    dz = device_tensor<3, sum_type>(of_weight);
    first_exponent.resize(ln::rank<3>{of_weight});
    exponent.resize(ln::rank<3>{of_weight});
  }

  same_bits::places written() {
    same_bits::places all;
    const auto add = [&](const std::string& name, auto& tensor) { same_bits::add_place(all, name, tensor.view()); };
    add("o", o);
    add("dq", dq);
    add("dk", dk);
    add("dv", dv);
    add("dlogits", dlogits);
    add("dtheta", dtheta);
    if (!States) return all;
    add("state", sum);
    add("gradient of the state", ds);
    add("weights of the state", weight);
    if (!R::framed) return all;
    add("exponents of the state", exponent);
    add("gradient of the weights", dz);
    return all;
  }

  void operator()(ln::execution<ln::cuda>& on) {
    ln::scan_inputs<R, Dims, T, ln::cuda> in;
    in.q = q.view();
    in.k = k.view();
    in.v = v.view();
    if (Width == 0) in.mask = mask.view();
    in.grid = where;
    ln::scan_outputs<R, Dims, T, ln::cuda> out;
    out.o = o.view();
    ln::scan_incoming<R, Dims, T, ln::cuda> incoming;
    incoming.o = dout.view();
    ln::scan_gradients<R, Dims, T, ln::cuda> to;
    to.q = dq.view();
    to.k = dk.view();
    to.v = dv.view();
    if constexpr (of_tokens) {
      (R::with_sign ? in.decay : in.log_decay) = logits.view();
      (R::with_sign ? to.decay : to.log_decay) = dlogits.view();
    }
    if constexpr (P::encodes) {
      in.theta = theta.view();
      to.theta = dtheta.view();
    }
    if constexpr (States) {
      in.state.sum = first_sum.view();
      out.state.sum = sum.view();
      incoming.state.sum = final_ds.view();
      to.state.sum = ds.view();
      if constexpr (R::framed) {
        in.state.exponent = first_exponent.view();
        in.state.normaliser = first_weight.view();
        out.state.exponent = exponent.view();
        out.state.normaliser = weight.view();
        incoming.state.z = final_dz.view();
        to.state.z = dz.view();
      } else {
        in.state.decay = first_weight.view();
        out.state.decay = weight.view();
      }
    }
    ln::scan<R, V, P, Dims, T>(on, in, out);
    ln::scan_backward<R, V, P, Dims, T>(on, in, incoming, to);
  }
};

}  // namespace

TEST_CASE("cuda bits: additive, causal") {
  constexpr std::array<std::int64_t, 1> tokens{213};
  same_bits::check<everything<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16>>(tokens);
  same_bits::check<everything<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16, false>>(tokens);
}

TEST_CASE("cuda bits: additive in heads of 64 and 128, causal and global") {
  constexpr std::array<std::int64_t, 1> tokens{213};
  same_bits::check<everything<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16, false, 64>>(tokens);
  same_bits::check<everything<ln::additive, ln::causal, ln::no_position, 1, ln::bfloat16, false, 128>>(tokens);
  same_bits::check<everything<ln::additive, ln::global, ln::no_position, 1, ln::bfloat16, false, 64>>(tokens);
  same_bits::check<everything<ln::additive, ln::global, ln::no_position, 1, ln::bfloat16, false, 128>>(tokens);
}

TEST_CASE("cuda bits: additive, global, with MD-LRPE") {
  same_bits::check<everything<ln::additive, ln::global, ln::md_lrpe, 2, float>>(std::array<std::int64_t, 2>{61, 23});
}

TEST_CASE("cuda bits: vector decay, causal, with MD-LRPE") {
  same_bits::check<everything<ln::vector_decay, ln::causal, ln::md_lrpe, 1, float>>(std::array<std::int64_t, 1>{131});
}

TEST_CASE("cuda bits: signed decay, bidirectional") {
  same_bits::check<everything<ln::signed_decay<ln::vector_decay>, ln::bidirectional, ln::no_position, 1, float>>(
      std::array<std::int64_t, 1>{67});
}

namespace {

cases::incoming incoming_of(const cases::operation& op, const cases::question& x, cases::generator& random,
                            bool states) {
  cases::incoming to = cases::random_incoming(op, x, random);
  if (!states) to.s.clear(), to.z.clear();
  return to;
}

}  // namespace

// A batch is laid over the device in another way than one sequence: more columns of a head to a block.
TEST_CASE("cuda bits: a sequence and head has the bits alone that it has in a batch of many") {
  cases::generator random(61);
  for (const cases::operation& op : cases::operations()) {
    const std::vector<std::int64_t> grids[] = {{71}, {5, 13}, {3, 5, 4}, {3, 2, 5, 2}};
    const bool states = random.coin();
    const cases::question x = cases::random_question(op, random,
                                                     {.masked = random.coin(),
                                                      .with_state = states,
                                                      .keys = random.one_of<std::int64_t>({3, 7, 33}),
                                                      .values = random.one_of<std::int64_t>({39, 130}),
                                                      .batch = 45,
                                                      .heads = 3,
                                                      .grid = grids[op.dims - 1]});
    const cases::problem& p = x.p;
    INFO(cases::describe(op, x));
    const cases::incoming to = incoming_of(op, x, random, states);
    const cases::answer whole = op.forward(x);
    const cases::gradients gradient = op.backward(x, to);
    for (const std::int64_t b : {std::int64_t{0}, random.integer(p.batch), p.batch - 1}) {
      const std::int64_t h = random.integer(p.heads);
      const cases::question one = cases::alone(x, b, h);
      const auto part = [&](const cases::numbers& all, std::int64_t outer, std::int64_t width) {
        return cases::picked(all, p, b, h, outer, width);
      };
      const cases::answer came = op.forward(one);
      CHECK(cases::same(came.o, part(whole.o, p.tokens, p.values)));
      CHECK(cases::same(came.state.sum, part(whole.state.sum, 1, p.features() * p.values)));
      CHECK(cases::same(came.state.normaliser, part(whole.state.normaliser, 1, p.weights())));
      CHECK(cases::same(came.state.decay, part(whole.state.decay, 1, p.weights())));
      const cases::gradients d = op.backward(
          one, {part(to.o, p.tokens, p.values), part(to.z, 1, p.weights()), part(to.s, 1, p.features() * p.values)});
      CHECK(cases::same(d.q, part(gradient.q, p.tokens, p.keys)));
      CHECK(cases::same(d.k, part(gradient.k, p.tokens, p.keys)));
      CHECK(cases::same(d.v, part(gradient.v, p.tokens, p.values)));
      if (cases::logit_width(p) > 0) CHECK(cases::same(d.logits, part(gradient.logits, p.tokens, p.weights())));
      CHECK(cases::same(d.z0, part(gradient.z0, 1, p.weights())));
      CHECK(cases::same(d.s0, part(gradient.s0, 1, p.features() * p.values)));
    }
  }
}

TEST_CASE("cuda bits: every case has the same bits in a hundred runs") {
  cases::generator random(62);
  for (const cases::operation& op : cases::operations()) {
    const std::vector<std::int64_t> grids[] = {{67}, {3, 23}, {5, 3, 4}, {3, 2, 5, 2}};
    const bool states = random.coin();
    const cases::question x = cases::random_question(op, random,
                                                     {.masked = true,
                                                      .with_state = states,
                                                      .packed = op.dims == 1 && random.coin(),
                                                      .keys = 11,
                                                      .values = 13,
                                                      .batch = 2,
                                                      .heads = 2,
                                                      .grid = grids[op.dims - 1]});
    INFO(cases::describe(op, x));
    const cases::incoming to = incoming_of(op, x, random, states);
    const cases::answer expected = op.forward(x);
    const cases::gradients gradient = op.backward(x, to);
    bool kept = true;
    for (int run = 1; run < 100; ++run) {
      const cases::answer came = op.forward(x);
      kept = kept && cases::same(came.o, expected.o) && cases::same(came.state, expected.state) &&
             cases::same(op.backward(x, to), gradient);
    }
    CHECK(kept);
  }
}
