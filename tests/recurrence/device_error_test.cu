// SPDX-License-Identifier: Apache-2.0
// What scan and its gradients refuse on the GPU: memory of the host by the argument's name, launches that fail by the
// operation's; and contents that no call can refuse, which execution.check() tells of.
#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/recurrence/scan.hpp>

#include <cmath>

#include "../layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using numbers::list;

constexpr std::int64_t tokens = 26, heads = 3, keys = 5, values = 7;
constexpr std::int64_t guard = 301;  // elements before and behind what is asked for, not to be touched

// Numbers in memory of the device, with a margin on both sides.
template <class T>
class guarded {
 public:
  explicit guarded(const list<T>& from) : before_(padded(from)), memory_(before_) {}
  T* data() { return memory_.data() + guard; }
  list<T> read(ln::execution<ln::cuda>& on) const {
    const list<T> all = memory_.read(on);
    return list<T>(all.begin() + guard, all.end() - guard);
  }
  bool untouched(ln::execution<ln::cuda>& on) const { return numbers::same_bits(memory_.read(on), before_); }
  bool margins_untouched(ln::execution<ln::cuda>& on) const {
    list<T> all = memory_.read(on);
    std::copy(before_.begin() + guard, before_.end() - guard, all.begin() + guard);
    return numbers::same_bits(all, before_);
  }

 private:
  static list<T> padded(const list<T>& from) {
    list<T> all(static_cast<std::size_t>(2 * guard) + from.size(), T(77));
    std::copy(from.begin(), from.end(), all.begin() + guard);
    return all;
  }
  list<T> before_;
  numbers::array<T, ln::cuda> memory_;
};

template <class T = float>
guarded<T> normal(std::int64_t count, std::uint64_t seed, double shift = 0) {
  return guarded<T>(numbers::cast<T>(numbers::normal(count, seed, 1, shift)));
}
guarded<float> unwritten(std::int64_t count) { return guarded<float>(numbers::unwritten<float>(count)); }

// A batch of one with everything that a call may be given. `sequences` are packed into it where there are lengths.
template <class R, class P>
struct arguments {
  static constexpr bool framed = R::framed;
  using in_type = ln::scan_inputs<R, 1, float, ln::cuda>;
  using out_type = ln::scan_outputs<R, 1, float, ln::cuda>;
  using incoming_type = ln::scan_incoming<R, 1, float, ln::cuda>;
  using gradients_type = ln::scan_gradients<R, 1, float, ln::cuda>;
  using matrix = ln::dynamic_view<4, float, ln::cuda>;
  static constexpr std::int64_t stored = ln::state_keys<P>(keys), weights = framed ? keys : 1;

  std::int64_t sequences;
  guarded<std::int64_t> lengths;
  guarded<float> q = normal(tokens * heads * keys, 1), k = normal(tokens * heads * keys, 2),
                 v = normal(tokens * heads * values, 3), dout = normal(tokens * heads * values, 4);
  guarded<float> rates, theta = normal(3 * keys, 5);
  guarded<float> first, weight, dsum;
  guarded<std::int32_t> exponent;
  guarded<float> o = unwritten(tokens * heads * values), dq = unwritten(tokens * heads * keys),
                 dk = unwritten(tokens * heads * keys), dv = unwritten(tokens * heads * values);
  guarded<float> sum, last_weight, ds, dz, drates = unwritten(heads), dtheta = unwritten(keys * 3);
  guarded<std::int32_t> last_exponent;
  ln::tensor<ln::rank<2>, bool, ln::cuda> mask =
      numbers::mask_of<ln::cuda>(1, tokens, [](std::int64_t i) { return i % 5 != 2; });
  ln::execution<ln::cuda> on;

  explicit arguments(const list<std::int64_t>& cumulative = {}, const list<float>& log_decays = {-0.5F, -0.1F, -2.0F})
      : sequences{cumulative.empty() ? 1 : static_cast<std::int64_t>(cumulative.size()) - 1},
        lengths{cumulative},
        rates{log_decays},
        first{normal(of_sum(), 6)},
        weight{normal(of_weights(), 7, 9)},
        dsum{normal(of_sum(), 8)},
        exponent{list<std::int32_t>(static_cast<std::size_t>(of_weights()), 1)},
        sum{unwritten(of_sum())},
        last_weight{unwritten(of_weights())},
        ds{unwritten(of_sum())},
        dz{unwritten(of_weights())},
        last_exponent{list<std::int32_t>(static_cast<std::size_t>(of_weights()), 7)} {}

  std::int64_t of_sum() const { return sequences * heads * stored * values; }
  std::int64_t of_weights() const { return sequences * heads * weights; }
  static matrix rows(float* data, std::int64_t channels) { return {data, {{{1, tokens, heads, channels}}}}; }
  matrix state(float* data) const { return {data, {{{sequences, heads, stored, values}}}}; }
  template <class T>
  ln::dynamic_view<3, T, ln::cuda> weights_of(T* data) const {
    return {data, {{{sequences, heads, weights}}}};
  }

  in_type inputs() {
    in_type in;
    in.q = rows(q.data(), keys);
    in.k = rows(k.data(), keys);
    in.v = rows(v.data(), values);
    in.mask = mask.view();
    if (lengths.read(on).size() > 0) {
      in.cumulative_lengths = {lengths.data(), {{{sequences + 1}}}};
    }
    if constexpr (R::logits == ln::logits_from::head) in.log_decay = {rates.data(), {{{heads}}}};
    if constexpr (P::encodes) in.theta = {theta.data(), {{{1, P::share(keys, 1)}}}};
    in.state.sum = state(first.data());
    if constexpr (framed) {
      in.state.exponent = weights_of(exponent.data());
      in.state.normaliser = weights_of(weight.data());
    } else {
      in.state.decay = weights_of(weight.data());
    }
    return in;
  }
  out_type outputs() {
    out_type out;
    out.o = rows(o.data(), values);
    out.state.sum = state(sum.data());
    if constexpr (framed) {
      out.state.exponent = weights_of(last_exponent.data());
      out.state.normaliser = weights_of(last_weight.data());
    } else {
      out.state.decay = weights_of(last_weight.data());
    }
    return out;
  }
  incoming_type incoming() {
    incoming_type in;
    in.o = rows(dout.data(), values);
    in.state.sum = state(dsum.data());
    if constexpr (framed) in.state.z = weights_of(weight.data());
    return in;
  }
  gradients_type gradients() {
    gradients_type to;
    to.q = rows(dq.data(), keys);
    to.k = rows(dk.data(), keys);
    to.v = rows(dv.data(), values);
    to.state.sum = state(ds.data());
    if constexpr (framed) to.state.z = weights_of(dz.data());
    if constexpr (R::logits == ln::logits_from::head) to.log_decay = {drates.data(), {{{heads}}}};
    if constexpr (P::encodes) to.theta = {dtheta.data(), {{{1, P::share(keys, 1)}}}};
    return to;
  }

  void forward(const in_type& in, const out_type& out) { ln::scan<R, ln::causal, P, 1, float>(on, in, out); }
  void backward(const in_type& in, const incoming_type& from, const gradients_type& to) {
    ln::scan_backward<R, ln::causal, P, 1, float>(on, in, from, to);
  }

  template <class Check>
  void each_output(const Check& check) {
    check(o), check(dq), check(dk), check(dv), check(sum), check(last_weight), check(ds), check(dz), check(drates);
    check(dtheta), check(last_exponent);
  }
  bool untouched() {
    bool all = true;
    each_output([&](const auto& one) { all = all && one.untouched(on); });
    return all;
  }
  bool margins_untouched() {
    bool all = true;
    each_output([&](const auto& one) { all = all && one.margins_untouched(on); });
    return all;
  }
};

using decay = arguments<ln::constant_decay, ln::no_position>;
using weighed = arguments<ln::additive, ln::md_lrpe>;

// The call names the argument, and writes nothing.
template <class Arguments, class Call>
void refuses(Arguments& all, const std::string& operation, const std::string& argument, const Call& call) {
  CHECK(numbers::message_of<ln::device_error>(call) ==
        "lightnet: " + operation + ": " + argument +
            ": expected memory of the device that works on it, got memory of another place");
  CHECK(all.untouched());
}

template <class Arguments, class Change>
void scan_refuses(const std::string& argument, const Change& change) {
  Arguments all;
  auto in = all.inputs();
  auto out = all.outputs();
  change(in, out);
  refuses(all, "scan", argument, [&] { all.forward(in, out); });
}
template <class Arguments, class Change>
void backward_refuses(const std::string& argument, const Change& change) {
  Arguments all;
  auto in = all.inputs();
  auto from = all.incoming();
  auto to = all.gradients();
  change(in, from, to);
  refuses(all, "scan_backward", argument, [&] { all.backward(in, from, to); });
}

// The same view, of memory of the host.
template <class View>
void move_to_host(View& view) {
  static list<double> here(4096);
  view = View{reinterpret_cast<typename View::element_type*>(here.data()), view.extents()};
}
template <class T>
void move_to_host(ln::head_sequence<1, T, ln::cuda>& sequence) {
  static list<float> here(4096);
  sequence = ln::dynamic_view<4, T, ln::cuda>{
      here.data(), {{{sequence.batch(), sequence.tokens(), sequence.heads(), sequence.channels()}}}};
}

__global__ void nothing() {}

}  // namespace

TEST_CASE("scan on the GPU names an argument in host memory and writes nothing") {
  scan_refuses<decay>("q", [](auto& in, auto&) { move_to_host(in.q); });
  scan_refuses<decay>("k", [](auto& in, auto&) { move_to_host(in.k); });
  scan_refuses<decay>("v", [](auto& in, auto&) { move_to_host(in.v); });
  scan_refuses<decay>("mask", [](auto& in, auto&) { move_to_host(in.mask); });
  scan_refuses<decay>("log_decay", [](auto& in, auto&) { move_to_host(in.log_decay); });
  scan_refuses<decay>("state", [](auto& in, auto&) { move_to_host(in.state.sum); });
  scan_refuses<decay>("state", [](auto& in, auto&) { move_to_host(in.state.decay); });
  scan_refuses<decay>("o", [](auto&, auto& out) { move_to_host(out.o); });
  scan_refuses<decay>("outputs.state", [](auto&, auto& out) { move_to_host(out.state.sum); });
  scan_refuses<decay>("outputs.state", [](auto&, auto& out) { move_to_host(out.state.decay); });
  scan_refuses<weighed>("theta", [](auto& in, auto&) { move_to_host(in.theta); });
  scan_refuses<weighed>("state", [](auto& in, auto&) { move_to_host(in.state.exponent); });
  scan_refuses<weighed>("state", [](auto& in, auto&) { move_to_host(in.state.normaliser); });
  scan_refuses<weighed>("outputs.state", [](auto&, auto& out) { move_to_host(out.state.exponent); });
  scan_refuses<weighed>("outputs.state", [](auto&, auto& out) { move_to_host(out.state.normaliser); });
}

TEST_CASE("scan_backward on the GPU names an argument in host memory and writes nothing") {
  backward_refuses<decay>("q", [](auto& in, auto&, auto&) { move_to_host(in.q); });
  backward_refuses<decay>("incoming.o", [](auto&, auto& from, auto&) { move_to_host(from.o); });
  backward_refuses<decay>("incoming.state", [](auto&, auto& from, auto&) { move_to_host(from.state.sum); });
  backward_refuses<decay>("gradients.q", [](auto&, auto&, auto& to) { move_to_host(to.q); });
  backward_refuses<decay>("gradients.k", [](auto&, auto&, auto& to) { move_to_host(to.k); });
  backward_refuses<decay>("gradients.v", [](auto&, auto&, auto& to) { move_to_host(to.v); });
  backward_refuses<decay>("gradients.log_decay", [](auto&, auto&, auto& to) { move_to_host(to.log_decay); });
  backward_refuses<decay>("gradients.state", [](auto&, auto&, auto& to) { move_to_host(to.state.sum); });
  backward_refuses<weighed>("incoming.state", [](auto&, auto& from, auto&) { move_to_host(from.state.z); });
  backward_refuses<weighed>("gradients.state", [](auto&, auto&, auto& to) { move_to_host(to.state.z); });
  backward_refuses<weighed>("gradients.theta", [](auto&, auto&, auto& to) { move_to_host(to.theta); });
}

TEST_CASE("scan on the GPU takes host memory that the device reaches") {
  decay all;
  all.forward(all.inputs(), all.outputs());
  const list<float> expected = all.o.read(all.on);
  float* pinned = nullptr;
  const std::size_t bytes = static_cast<std::size_t>(tokens * heads * keys) * sizeof(float);
  REQUIRE(cudaMallocHost(&pinned, bytes) == cudaSuccess);
  ln::cuda::copy(pinned, all.q.data(), bytes);
  auto in = all.inputs();
  in.q = decay::rows(pinned, keys);
  all.forward(in, all.outputs());
  CHECK(numbers::same_bits(all.o.read(all.on), expected));
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
}

TEST_CASE("a launch that fails is told of by the operation's name, and the next one works") {
  ln::execution<ln::cuda> on;
  const auto message = [&](const ln::detail::launch_shape& shape) {
    return numbers::message_of<ln::device_error>([&] { ln::detail::launch(on, "this operation", shape, nothing); });
  };
  const auto names = [](const std::string& text, const std::string& word) {
    INFO(text);
    CHECK(text.find("lightnet: this operation: ") == 0);
    CHECK(text.find(word) != std::string::npos);
  };
  names(message({1, 4096}), "its kernel: expected success, got cudaErrorInvalid");
  names(message({1, 32, std::size_t{1} << 20}), "cudaFuncSetAttribute: expected success, got cudaErrorInvalidValue");
  names(message({std::int64_t{1} << 31, 32}), "blocks: expected at most 2147483647, got 2147483648");
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(message({0, 32}).empty());
  CHECK(message({-1, 32}).empty());
  CHECK(message({70000, 32}).empty());
  on.synchronize();
  on.check();
}

TEST_CASE("a workspace that does not fit is told of, nothing is written, and the execution goes on") {
  decay all;
  all.forward(all.inputs(), all.outputs());
  const list<float> expected = all.o.read(all.on);
  // Inputs of one token, read 2^40 times.
  constexpr std::int64_t many = std::int64_t{1} << 40;
  const auto in = all.inputs();
  const auto repeated = [](const auto& sequence, std::int64_t channels) {
    return ln::dynamic_view<4, const float, ln::cuda>{
        sequence.token(0, 0, 0), {{{1, many, heads, channels}}}, {0, 0, channels, 1}};
  };
  decay::in_type large;
  large.q = repeated(in.q, keys);
  large.k = repeated(in.k, keys);
  large.v = repeated(in.v, values);
  large.log_decay = in.log_decay;
  decay::out_type out;
  out.o = ln::dynamic_view<4, float, ln::cuda>{all.o.data(), {{{1, many, heads, values}}}};
  const std::string text = numbers::message_of<ln::device_error>([&] { all.forward(large, out); });
  INFO(text);
  CHECK(text.find("cudaMalloc: expected success, got cudaErrorMemoryAllocation") != std::string::npos);
  CHECK(numbers::same_bits(all.o.read(all.on), expected));
  all.forward(all.inputs(), all.outputs());
  CHECK(numbers::same_bits(all.o.read(all.on), expected));
  all.on.check();
}

TEST_CASE("a log decay of a head above zero is bad content, and leaves other heads as they are") {
  decay good;
  good.forward(good.inputs(), good.outputs());
  good.backward(good.inputs(), good.incoming(), good.gradients());
  good.on.check();
  const auto same_beside = [](const list<float>& got, const list<float>& expected, std::int64_t channels) {
    bool same = true;
    for (std::int64_t i = 0; i < tokens * heads * channels; ++i) {
      const auto at = static_cast<std::size_t>(i);
      same = same && (i / channels % heads == 1 || got[at] == expected[at]);
    }
    return same;
  };
  for (const float wrong :
       {0x1p-20F, 0.5F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    CAPTURE(wrong);
    decay bad({}, {-0.5F, wrong, -2.0F});
    bad.forward(bad.inputs(), bad.outputs());
    CHECK(numbers::message_of<ln::value_error>([&] { bad.on.check(); }).find("lightnet: execution::check: ") == 0);
    CHECK_NOTHROW(bad.on.check());
    bad.backward(bad.inputs(), bad.incoming(), bad.gradients());
    CHECK_THROWS_AS(bad.on.check(), ln::value_error);
    CHECK(bad.margins_untouched());
    CHECK(same_beside(bad.o.read(bad.on), good.o.read(good.on), values));
    CHECK(same_beside(bad.dq.read(bad.on), good.dq.read(good.on), keys));
    CHECK(same_beside(bad.dk.read(bad.on), good.dk.read(good.on), keys));
    CHECK(same_beside(bad.dv.read(bad.on), good.dv.read(good.on), values));
  }
}

namespace {

// Lengths that are not in order are told of, count as the nearest that are, and nothing is written outside.
template <class Arguments>
void check_lengths() {
  struct lengths {
    list<std::int64_t> given, accepted;
  };
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  for (const lengths& one : {
           lengths{{0, 9, 4, 26}, {0, 9, 9, 26}},        // they fall
           lengths{{0, 9, 13, 27}, {0, 9, 13, 26}},      // beyond the last token
           lengths{{0, 9, 13, 25}, {0, 9, 13, 26}},      // before it
           lengths{{3, 9, 13, 26}, {0, 9, 13, 26}},      // not from the first
           lengths{{-3, 9, 13, 26}, {0, 9, 13, 26}},     //
           lengths{{0, -9, 13, 26}, {0, 0, 13, 26}},     //
           lengths{{0, 9, huge, 26}, {0, 9, 26, 26}},    //
           lengths{{0, -huge, huge, 5}, {0, 0, 26, 26}}  //
       }) {
    CAPTURE(one.given[1]);
    CAPTURE(one.given[2]);
    Arguments bad(one.given), good(one.accepted);
    const auto ask = [](Arguments& all) {
      all.forward(all.inputs(), all.outputs());
      all.backward(all.inputs(), all.incoming(), all.gradients());
    };
    ask(bad);
    ask(good);
    CHECK_THROWS_AS(bad.on.check(), ln::value_error);
    CHECK_NOTHROW(bad.on.check());
    CHECK_NOTHROW(good.on.check());
    CHECK(bad.margins_untouched());
    CHECK(good.margins_untouched());
    CHECK(numbers::same_bits(bad.o.read(bad.on), good.o.read(good.on)));
    CHECK(numbers::same_bits(bad.sum.read(bad.on), good.sum.read(good.on)));
    CHECK(numbers::same_bits(bad.dq.read(bad.on), good.dq.read(good.on)));
    CHECK(numbers::same_bits(bad.dk.read(bad.on), good.dk.read(good.on)));
    CHECK(numbers::same_bits(bad.dv.read(bad.on), good.dv.read(good.on)));
    CHECK(numbers::same_bits(bad.ds.read(bad.on), good.ds.read(good.on)));
  }
  // Sequences of no tokens are none of it.
  Arguments empty({0, 0, 13, 13, 26, 26});
  empty.forward(empty.inputs(), empty.outputs());
  CHECK_NOTHROW(empty.on.check());
}

}  // namespace

TEST_CASE("cumulative lengths that are not in order are bad content, and nothing is written outside") {
  check_lengths<decay>();
  check_lengths<weighed>();
}

TEST_CASE("tokens without a sequence are refused or bad content") {
  decay none({0});
  CHECK_THROWS_AS((none.forward(none.inputs(), none.outputs()), none.on.check()), ln::value_error);
}

// The last: were they read, there would be no more calls in this process.
TEST_CASE("cumulative lengths in host memory are refused") {
  for (const bool forward : {true, false}) {
    weighed all({0, 9, 13, 26});
    auto in = all.inputs();
    move_to_host(in.cumulative_lengths);
    refuses(all, forward ? "scan" : "scan_backward", "cumulative_lengths",
            [&] { forward ? all.forward(in, all.outputs()) : all.backward(in, all.incoming(), all.gradients()); });
  }
}
