// SPDX-License-Identifier: Apache-2.0
// What scan and its relatives refuse: the class of the error, what it names, and that nothing was written.
#include <doctest/doctest.h>

#include <lightnet/recurrence.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace ln = lightnet;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

// B 2, N 6 (2 x 3), H 3, d 5, e 4, and everything that a call may be given.
struct arguments {
  using shape4 = ln::rank<4>;
  ln::tensor<shape4, float> q{{{2, 6, 3, 5}}}, k{{{2, 6, 3, 5}}}, v{{{2, 6, 3, 4}}}, incoming{{{2, 6, 3, 4}}};
  ln::tensor<shape4, float> o{{{2, 6, 3, 4}}}, dq{{{2, 6, 3, 5}}}, dk{{{2, 6, 3, 5}}}, dv{{{2, 6, 3, 4}}};
  ln::tensor<shape4, float> sum{{{2, 3, 5, 4}}}, dsum{{{2, 3, 5, 4}}};
  ln::tensor<ln::rank<3>, float> normaliser{{{2, 3, 5}}}, dz{{{2, 3, 5}}};
  ln::tensor<ln::rank<3>, std::int32_t> exponent{{{2, 3, 5}}};
  ln::tensor<ln::rank<1>, float> log_decay{{{3}}}, dlog_decay{{{3}}};
  ln::tensor<ln::rank<2>, float> theta{{{3, 3}}}, dtheta{{{3, 3}}};
  ln::tensor<ln::rank<2>, bool> mask{{{2, 6}}};
  ln::execution<ln::cpu> on{1};

  arguments() {
    for (auto* output : {&o, &dq, &dk, &dv, &dsum}) std::fill_n(output->data(), output->size(), nan_value);
    std::fill_n(dz.data(), dz.size(), nan_value);
    std::fill_n(dlog_decay.data(), dlog_decay.size(), nan_value);
    std::fill_n(dtheta.data(), dtheta.size(), nan_value);
  }

  bool untouched() const {
    const auto all_nan = [](const auto& output) {
      return std::all_of(output.data(), output.data() + output.size(), [](float x) { return std::isnan(x); });
    };
    return all_nan(o) && all_nan(dq) && all_nan(dk) && all_nan(dv) && all_nan(dsum) && all_nan(dz) &&
           all_nan(dlog_decay) && all_nan(dtheta);
  }

  template <class R, int Dims = 1>
  ln::scan_inputs<R, Dims, float> inputs() {
    ln::scan_inputs<R, Dims, float> in;
    in.q = q.view();
    in.k = k.view();
    in.v = v.view();
    if constexpr (Dims == 2) in.grid.extents = {2, 3};
    return in;
  }
  template <class R, int Dims = 1>
  ln::scan_outputs<R, Dims, float> outputs() {
    ln::scan_outputs<R, Dims, float> out;
    out.o = o.view();
    return out;
  }
  ln::framed_state<float> state() { return {exponent.view(), normaliser.view(), sum.view()}; }
};

// `call` throws an Error whose text has all the words, and nothing was written.
template <class Error, class Call>
void refuses(const arguments& all, const std::vector<std::string>& words, const Call& call) {
  std::string text = "nothing was thrown";
  bool right_class = false;
  try {
    call();
  } catch (const Error& error) {
    right_class = true;
    text = error.what();
  } catch (const ln::error& error) {
    text = error.what();
  }
  INFO(text);
  CHECK(right_class);
  for (const std::string& word : words) {
    INFO(word);
    CHECK(text.find(word) != std::string::npos);
  }
  CHECK(text.find(": expected ") != std::string::npos);
  CHECK(text.find(", got ") != std::string::npos);
  CHECK(all.untouched());
}

ln::tensor<ln::rank<4>, float> four(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  return ln::tensor<ln::rank<4>, float>{{{a, b, c, d}}};
}

template <class Error, class Change>
void scan_refuses(const std::vector<std::string>& words, const Change& change) {
  arguments all;
  auto in = all.inputs<ln::additive>();
  auto out = all.outputs<ln::additive>();
  change(all, in, out);
  std::vector<std::string> named = words;
  named.emplace_back("lightnet: scan: ");
  refuses<Error>(all, named, [&] { ln::scan<ln::additive, ln::causal>(all.on, in, out); });
}

template <class Error, class Change>
void placed_refuses(const std::vector<std::string>& words, const Change& change) {
  arguments all;
  auto in = all.inputs<ln::additive, 2>();
  auto out = all.outputs<ln::additive, 2>();
  change(all, in, out);
  refuses<Error>(all, words, [&] { ln::scan<ln::additive, ln::causal, ln::md_lrpe, 2>(all.on, in, out); });
}

template <class Error, class Change>
void decay_refuses(const std::vector<std::string>& words, const Change& change) {
  arguments all;
  auto in = all.inputs<ln::constant_decay>();
  auto out = all.outputs<ln::constant_decay>();
  change(all, in, out);
  refuses<Error>(all, words, [&] { ln::scan<ln::constant_decay, ln::bidirectional>(all.on, in, out); });
}

template <class Error, class Change>
void backward_refuses(const std::vector<std::string>& words, const Change& change) {
  arguments all;
  auto in = all.inputs<ln::constant_decay>();
  ln::scan_incoming<ln::constant_decay> incoming;
  incoming.o = all.incoming.view();
  ln::scan_gradients<ln::constant_decay> out;
  out.q = all.dq.view();
  out.k = all.dk.view();
  out.v = all.dv.view();
  change(all, in, incoming, out);
  std::vector<std::string> named = words;
  named.emplace_back("lightnet: scan_backward: ");
  refuses<Error>(all, named, [&] { ln::scan_backward<ln::constant_decay, ln::causal>(all.on, in, incoming, out); });
}

template <class Error, class Change>
void step_refuses(const std::vector<std::string>& words, const Change& change) {
  arguments all;
  ln::scan_inputs<ln::additive> in;
  in.q = all.q.view().slice(1, 3, 1);
  in.k = all.k.view().slice(1, 3, 1);
  in.v = all.v.view().slice(1, 3, 1);
  ln::scan_outputs<ln::additive> out;
  out.o = all.o.view().slice(1, 3, 1);
  out.state = all.state();
  change(all, in, out);
  std::vector<std::string> named = words;
  named.emplace_back("lightnet: scan_step: ");
  refuses<Error>(all, named, [&] { ln::scan_step<ln::additive>(all.on, in, out); });
}

}  // namespace

TEST_CASE("scan refuses missing arguments") {
  using ln::device_error;
  scan_refuses<device_error>({" q: "}, [](auto&, auto& in, auto&) { in.q = {}; });
  scan_refuses<device_error>({" k: "}, [](auto&, auto& in, auto&) { in.k = {}; });
  scan_refuses<device_error>({" v: "}, [](auto&, auto& in, auto&) { in.v = {}; });
  scan_refuses<device_error>({" o: "}, [](auto&, auto&, auto& out) { out.o = {}; });
  scan_refuses<device_error>({" state: "}, [](auto& all, auto& in, auto&) { in.state.sum = all.sum.view(); });
  scan_refuses<device_error>({" state: "},
                             [](auto& all, auto& in, auto&) { in.state.normaliser = all.normaliser.view(); });
  scan_refuses<device_error>({" outputs.state: "}, [](auto& all, auto&, auto& out) {
    out.state = all.state();
    out.state.exponent = {};
  });
  backward_refuses<device_error>({" incoming.o: "}, [](auto&, auto&, auto& incoming, auto&) { incoming.o = {}; });
  backward_refuses<ln::value_error>({" gradients.state: "}, [](auto& all, auto&, auto&, auto& out) {
    out.state.sum = all.dsum.view();
    out.state.z = all.dz.view();
  });
  step_refuses<device_error>({" outputs.state: "}, [](auto&, auto&, auto& out) { out.state = {}; });
}

TEST_CASE("scan refuses wrong shapes") {
  using ln::shape_error;
  for (const auto& wrong : {four(3, 6, 3, 5), four(2, 7, 3, 5), four(2, 6, 4, 5), four(2, 6, 3, 6)}) {
    scan_refuses<shape_error>({" k: ", "[2, 6, 3, 5]"}, [&](auto&, auto& in, auto&) { in.k = wrong.view(); });
  }
  for (const auto& wrong : {four(3, 6, 3, 4), four(2, 7, 3, 4), four(2, 6, 4, 4)}) {
    scan_refuses<shape_error>({" v: "}, [&](auto&, auto& in, auto&) { in.v = wrong.view(); });
  }
  for (auto& wrong : {four(3, 6, 3, 4), four(2, 7, 3, 4), four(2, 6, 4, 4), four(2, 6, 3, 5)}) {
    auto memory = wrong;
    scan_refuses<shape_error>({" o: "}, [&](auto&, auto&, auto& out) { out.o = memory.view(); });
    backward_refuses<shape_error>({" incoming.o: "}, [&](auto&, auto&, auto& in, auto&) { in.o = memory.view(); });
    backward_refuses<shape_error>({" gradients.v: "}, [&](auto&, auto&, auto&, auto& out) { out.v = memory.view(); });
  }
  scan_refuses<shape_error>({" mask: ", "[2, 6]", "[2, 5]"},
                            [](auto& all, auto& in, auto&) { in.mask = all.mask.view().slice(1, 0, 5); });
  scan_refuses<shape_error>({" state: ", "[2, 3, 5, 4]"}, [](auto& all, auto& in, auto&) {
    in.state = all.state();
    in.state.sum = all.sum.view().slice(3, 0, 3);
  });
  scan_refuses<shape_error>({" outputs.state: ", "[2, 3, 5]"}, [](auto& all, auto&, auto& out) {
    out.state = all.state();
    out.state.exponent = all.exponent.view().slice(0, 0, 1);
  });
  scan_refuses<shape_error>({" grid"}, [](auto&, auto& in, auto&) { in.grid.extents = {5}; });
  scan_refuses<shape_error>({" grid"}, [](auto&, auto& in, auto&) { in.grid.prefix = 7; });
  placed_refuses<shape_error>({" grid", "[2, 2]"}, [](auto&, auto& in, auto&) { in.grid.extents = {2, 2}; });
  placed_refuses<shape_error>({" grid"}, [](auto&, auto& in, auto&) { in.grid.extents = {-2, -3}; });
  placed_refuses<shape_error>({" theta: "},
                              [](auto& all, auto& in, auto&) { in.theta = all.theta.view().slice(1, 0, 2); });
  placed_refuses<shape_error>({" theta: ", "1 or 3"},
                              [](auto& all, auto& in, auto&) { in.theta = all.theta.view().slice(0, 0, 2); });
  placed_refuses<shape_error>({" q: "}, [](auto& all, auto& in, auto&) {  // one channel is not enough for two axes
    in.q = all.q.view().slice(3, 0, 1);
    in.k = all.k.view().slice(3, 0, 1);
  });
  placed_refuses<shape_error>({" q: ", "prefix"}, [](auto& all, auto& in, auto&) {
    in.q = all.q.view().template reshape<5>({2, 2, 3, 3, 5});
    in.grid.prefix = 1;
  });
  placed_refuses<shape_error>({" k: "}, [](auto& all, auto& in, auto&) {  // 3 x 2 is not 2 x 3
    in.q = all.q.view().template reshape<5>({2, 2, 3, 3, 5});
    in.k = all.k.view().template reshape<5>({2, 3, 2, 3, 5});
  });
  placed_refuses<shape_error>({" grid.extents: "}, [](auto& all, auto& in, auto&) {
    in.q = all.q.view().template reshape<5>({2, 3, 2, 3, 5});
  });
  decay_refuses<shape_error>({" log_decay: ", "[3]", "[2]"},
                             [](auto& all, auto& in, auto&) { in.log_decay = all.log_decay.view().slice(0, 0, 2); });
  backward_refuses<shape_error>({" gradients.log_decay: "}, [](auto& all, auto& in, auto&, auto& out) {
    in.log_decay = all.log_decay.view();
    out.log_decay = all.dlog_decay.view().slice(0, 0, 2);
  });
  for (auto& wrong : {four(3, 6, 3, 5), four(2, 6, 3, 6)}) {
    auto memory = wrong;
    backward_refuses<shape_error>({" gradients.q: "}, [&](auto&, auto&, auto&, auto& out) { out.q = memory.view(); });
    backward_refuses<shape_error>({" gradients.k: "}, [&](auto&, auto&, auto&, auto& out) { out.k = memory.view(); });
  }
  backward_refuses<shape_error>(
      {" incoming.state: "}, [](auto& all, auto&, auto& in, auto&) { in.state.sum = all.sum.view().slice(2, 0, 4); });
  step_refuses<shape_error>({" q: ", "one token"}, [](auto& all, auto& in, auto& out) {
    in.q = all.q.view();
    in.k = all.k.view();
    in.v = all.v.view();
    out.o = all.o.view();
  });
}

TEST_CASE("scan refuses outputs whose elements share a place, and reads inputs that do") {
  using ln::shape_error;
  const ln::dynamic_view<4, float>::indices heads_shared = {6 * 3 * 4, 3 * 4, 0, 1};
  scan_refuses<shape_error>({" o: ", "a stride of 0"}, [&](auto& all, auto&, auto& out) {
    out.o = ln::dynamic_view<4, float>{all.o.data(), all.o.extents(), heads_shared};
  });
  scan_refuses<shape_error>({" outputs.state: ", "a stride of 0"}, [&](auto& all, auto&, auto& out) {
    out.state = all.state();
    out.state.sum = ln::dynamic_view<4, float>{all.sum.data(), all.sum.extents(), {0, 20, 4, 1}};
  });
  backward_refuses<shape_error>({" gradients.v: ", "a stride of 0"}, [&](auto& all, auto&, auto&, auto& out) {
    out.v = ln::dynamic_view<4, float>{all.dv.data(), all.dv.extents(), {0, 3 * 4, 4, 1}};
  });
  arguments all, full;
  auto in = all.inputs<ln::additive>();
  auto same_everywhere = full.inputs<ln::additive>();
  for (std::int64_t n = 0; n < 4; ++n) all.v.data()[n] = 0.5F + static_cast<float>(n);
  for (std::int64_t n = 0; n < full.v.size(); ++n) full.v.data()[n] = all.v.data()[n % 4];
  in.v = ln::dynamic_view<4, float>{all.v.data(), all.v.extents(), {0, 0, 0, 1}};
  ln::scan<ln::additive, ln::causal>(all.on, in, all.outputs<ln::additive>());
  ln::scan<ln::additive, ln::causal>(full.on, same_everywhere, full.outputs<ln::additive>());
  CHECK(std::equal(all.o.data(), all.o.data() + all.o.size(), full.o.data()));
}

TEST_CASE("scan refuses wrong values and what is not for it") {
  using ln::value_error;
  scan_refuses<value_error>({" chunk: ", "zero or more", "-1"}, [](auto&, auto& in, auto&) { in.chunk = -1; });
  scan_refuses<value_error>({" grid.prefix: ", "-1"}, [](auto&, auto& in, auto&) { in.grid.prefix = -1; });
  scan_refuses<value_error>({" log_decay: "}, [](auto& all, auto& in, auto&) { in.log_decay = all.q.view(); });
  scan_refuses<value_error>({" logits: "}, [](auto& all, auto& in, auto&) { in.logits = all.q.view(); });
  scan_refuses<value_error>({" theta: "}, [](auto& all, auto& in, auto&) { in.theta = all.theta.view(); });
  for (const float wrong : {nan_value, 0.5F, std::numeric_limits<float>::infinity()}) {
    decay_refuses<value_error>({" log_decay: ", "zero or less", "head 1"}, [&](auto& all, auto& in, auto&) {
      all.log_decay.data()[1] = wrong;
      in.log_decay = all.log_decay.view();
    });
  }
  decay_refuses<value_error>({" state: ", "traversal"},
                             [](auto& all, auto& in, auto&) { in.state = {all.sum.view()}; });
  decay_refuses<value_error>({" outputs.state: "}, [](auto& all, auto&, auto& out) { out.state = {all.dsum.view()}; });
  backward_refuses<value_error>({" gradients.log_decay: ", "not given"},
                                [](auto& all, auto&, auto&, auto& out) { out.log_decay = all.dlog_decay.view(); });
  backward_refuses<value_error>({" gradients.theta: "},
                                [](auto& all, auto&, auto&, auto& out) { out.theta = all.dtheta.view(); });
  backward_refuses<value_error>({" incoming.state: ", "z"}, [](auto& all, auto&, auto& in, auto&) {
    in.state.sum = all.sum.view();
    in.state.z = all.normaliser.view();
  });
  step_refuses<value_error>({" state: ", "outputs.state"}, [](auto& all, auto& in, auto&) { in.state = all.state(); });

  // Rotated weights are normalised once and for all: no state.
  arguments all;
  auto in = all.inputs<ln::additive>();
  auto out = all.outputs<ln::additive>();
  out.state = all.state();
  refuses<value_error>(all, {"lightnet: scan: outputs.state: "},
                       [&] { ln::scan<ln::additive, ln::global, ln::md_lrpe_rotate>(all.on, in, out); });
}

namespace {

// A call with all that the recurrence needs, but for one change.
template <class R, class V, int Dims = 1, class Error, class Give, class Change>
void one_refuses(const std::vector<std::string>& words, const Give& give, const Change& change) {
  arguments all;
  auto in = all.inputs<R, Dims>();
  auto out = all.outputs<R, Dims>();
  give(all, in);
  change(all, in, out);
  refuses<Error>(all, words, [&] { ln::scan<R, V, ln::no_position, Dims>(all.on, in, out); });
}

}  // namespace

TEST_CASE("scan refuses logits and decays that do not fit") {
  using ln::device_error, ln::shape_error, ln::value_error;
  const auto logits = [](auto& all, auto& in) { in.logits = all.k.view(); };
  const auto of_head = [](auto& all, auto& in) { in.logits = all.k.view().slice(3, 2, 1); };
  const auto decays = [](auto& all, auto& in) { in.log_decay = all.k.view(); };
  const auto signed_decays = [](auto& all, auto& in) { in.decay = all.k.view().slice(3, 0, 1); };
  one_refuses<ln::additive_gated, ln::global, 1, device_error>({" logits: "}, logits,
                                                               [](auto&, auto& in, auto&) { in.logits = {}; });
  one_refuses<ln::additive_gated, ln::global, 1, shape_error>(
      {" logits: ", "5 channels", "[2, 6, 3, 1]"}, logits,
      [](auto& all, auto& in, auto&) { in.logits = all.k.view().slice(3, 0, 1); });
  one_refuses<ln::additive_plain_per_head, ln::causal, 1, shape_error>(
      {" logits: ", "1 channels"}, of_head, [](auto& all, auto& in, auto&) { in.logits = all.k.view(); });
  one_refuses<ln::additive_gated, ln::global, 1, value_error>(
      {" decay: "}, logits, [](auto& all, auto& in, auto&) { in.decay = all.k.view(); });
  one_refuses<ln::vector_decay, ln::causal, 1, device_error>({" log_decay: "}, decays,
                                                             [](auto&, auto& in, auto&) { in.log_decay = {}; });
  one_refuses<ln::vector_decay, ln::axial, 1, shape_error>(
      {" log_decay: "}, decays, [](auto& all, auto& in, auto&) { in.log_decay = all.k.view().slice(1, 0, 5); });
  one_refuses<ln::vector_decay, ln::causal, 1, value_error>(
      {" decay: "}, decays, [](auto& all, auto& in, auto&) { in.decay = all.k.view(); });
  one_refuses<ln::signed_decay<ln::scalar_decay>, ln::causal, 1, device_error>(
      {" decay: "}, signed_decays, [](auto&, auto& in, auto&) { in.decay = {}; });
  one_refuses<ln::signed_decay<ln::scalar_decay>, ln::causal, 1, value_error>(
      {" log_decay: "}, signed_decays, [](auto& all, auto& in, auto&) { in.log_decay = all.k.view().slice(3, 0, 1); });
  one_refuses<ln::signed_decay<ln::scalar_decay>, ln::causal, 1, shape_error>(
      {" decay: "}, signed_decays, [](auto& all, auto& in, auto&) { in.decay = all.k.view(); });
  for (const float wrong : {nan_value, 1.25F, -1.5F}) {
    one_refuses<ln::signed_decay<ln::constant_decay>, ln::causal, 1, value_error>(
        {" decay: ", "-1 to 1", "head 2"}, [](auto& all, auto& in) { in.decay = all.log_decay.view(); },
        [&](auto& all, auto&, auto&) { all.log_decay.data()[2] = wrong; });
  }
  one_refuses<ln::hgrn2, ln::causal, 1, value_error>({" k: ", "1 - a"}, decays, [](auto&, auto&, auto&) {});
  one_refuses<ln::no_decay, ln::causal, 1, value_error>(
      {" log_decay: "}, [](auto&, auto&) {}, [](auto& all, auto& in, auto&) { in.log_decay = all.k.view(); });
}

TEST_CASE("scan refuses states, prefixes and packed lengths that do not fit") {
  using ln::shape_error, ln::value_error;
  const auto nothing = [](auto&, auto&) {};
  one_refuses<ln::additive, ln::causal, 1, value_error>({" outputs.state: ", "additive_plain"}, nothing,
                                                        [](auto& all, auto&, auto& out) {
                                                          out.state = all.state();
                                                          out.state.input = all.dsum.view();
                                                        });
  one_refuses<ln::constant_decay, ln::causal, 1, shape_error>({" outputs.state: ", "[2, 3, 1]"}, nothing,
                                                              [](auto& all, auto&, auto& out) {
                                                                out.state.sum = all.dsum.view();
                                                                out.state.decay = all.dz.view();
                                                              });
  one_refuses<ln::additive_gated_per_head, ln::causal, 1, shape_error>(
      {" outputs.state: ", "[2, 3, 1]"}, [](auto& all, auto& in) { in.logits = all.k.view().slice(3, 0, 1); },
      [](auto& all, auto&, auto& out) { out.state = all.state(); });
  one_refuses<ln::additive, ln::axial, 1, value_error>({" grid.prefix: "}, nothing, [](auto&, auto& in, auto&) {
    in.grid.prefix = 2;
    in.grid.extents = {4};
  });
  one_refuses<ln::additive, ln::axial, 1, value_error>({" outputs.state: ", "traversal"}, nothing,
                                                       [](auto& all, auto&, auto& out) { out.state = all.state(); });

  ln::tensor<ln::rank<1>, std::int64_t> lengths{{{4}}};
  const auto pack = [&](std::initializer_list<std::int64_t> ends) {
    return [&lengths, ends](auto& all, auto& in) {
      std::copy(ends.begin(), ends.end(), lengths.data());
      for (auto* sequence : {&in.q, &in.k}) *sequence = all.q.view().slice(0, 0, 1);
      in.v = all.v.view().slice(0, 0, 1);
      in.cumulative_lengths = lengths.view();
    };
  };
  const auto one_o = [](auto& all, auto&, auto& out) { out.o = all.o.view().slice(0, 0, 1); };
  const std::vector<std::string> named = {" cumulative_lengths: ", "do not fall"};
  one_refuses<ln::additive, ln::causal, 1, value_error>(named, pack({0, 2, 4, 5}), one_o);
  one_refuses<ln::additive, ln::causal, 1, value_error>(named, pack({1, 2, 4, 6}), one_o);
  one_refuses<ln::additive, ln::causal, 1, value_error>(named, pack({0, 4, 2, 6}), one_o);
  one_refuses<ln::additive, ln::causal, 1, value_error>({" grid.prefix: "}, pack({0, 2, 4, 6}),
                                                        [&](auto& all, auto& in, auto& out) {
                                                          one_o(all, in, out);
                                                          in.grid.prefix = 1;
                                                          in.grid.extents = {5};
                                                        });
  one_refuses<ln::additive, ln::causal, 1, shape_error>(
      {" q: ", "a batch of 1"}, nothing, [&](auto&, auto& in, auto&) { in.cumulative_lengths = lengths.view(); });
  one_refuses<ln::additive, ln::causal, 2, value_error>(
      {" cumulative_lengths: "}, nothing, [&](auto&, auto& in, auto&) { in.cumulative_lengths = lengths.view(); });
  one_refuses<ln::additive, ln::causal, 1, shape_error>({" outputs.state: ", "[3, 3, 5, 4]"}, pack({0, 2, 4, 6}),
                                                        [&](auto& all, auto& in, auto& out) {
                                                          one_o(all, in, out);
                                                          out.state = all.state();  // of two sequences
                                                        });
}

TEST_CASE("merge_states refuses what does not fit") {
  using ln::device_error, ln::shape_error;
  arguments all;
  ln::framed_state<float> one = all.state(), two = all.state();
  one.sum = all.dsum.view();
  const auto merge = [&](const auto& left, const auto& right, const auto& to) {
    return [&all, left, right, to] { ln::merge_states<ln::additive, float>(all.on, left, right, to); };
  };
  two.normaliser = {};
  refuses<device_error>(all, {"lightnet: merge_states: normaliser: "}, merge(one, two, one));
  two = all.state();
  two.sum = all.sum.view().slice(3, 0, 3);
  refuses<shape_error>(all, {"lightnet: merge_states: sum: ", "[2, 3, 5, 4]", "[2, 3, 5, 3]"}, merge(one, two, one));
  ln::matrix_state<float> decay{all.sum.view(), {}}, to{all.dsum.view(), {}};
  refuses<device_error>(all, {"lightnet: merge_states: right.decay: "},
                        [&] { ln::merge_states<ln::constant_decay, float>(all.on, decay, decay, to); });
  refuses<device_error>(all, {"lightnet: merge_states: right.input: "},
                        [&] { ln::merge_states<ln::additive_plain, float>(all.on, all.state(), all.state(), one); });
}

TEST_CASE("scan takes extents of zero") {
  for (const auto& empty : {four(0, 6, 3, 5), four(2, 0, 3, 5), four(2, 6, 0, 5)}) {
    const auto& n = empty.extents();
    auto v = four(n[0], n[1], n[2], 4), o = v;
    ln::scan<ln::additive, ln::causal>(empty.view(), empty.view(), v.view(), o.view());
  }
  arguments all;
  auto in = all.inputs<ln::additive>();
  auto out = all.outputs<ln::additive>();
  auto nothing = four(2, 6, 3, 0), also = nothing;
  in.v = nothing.view();
  out.o = also.view();
  ln::scan<ln::additive, ln::causal>(all.on, in, out);  // no values
  CHECK(all.untouched());
  in = all.inputs<ln::additive>();
  in.q = nothing.view();
  in.k = nothing.view();
  out.o = all.o.view();
  ln::scan<ln::additive, ln::causal>(all.on, in, out);  // no keys: a sum of nothing
  CHECK(std::all_of(all.o.data(), all.o.data() + all.o.size(), [](float x) { return x == 0; }));

  // No tokens: the state passes through, and so does its gradient.
  arguments some;
  for (std::int64_t n = 0; n < some.sum.size(); ++n) some.sum.data()[n] = static_cast<float>(n);
  auto no_tokens = some.inputs<ln::constant_decay>();
  no_tokens.q = some.q.view().slice(1, 0, 0);
  no_tokens.k = some.k.view().slice(1, 0, 0);
  no_tokens.v = some.v.view().slice(1, 0, 0);
  no_tokens.state = {some.sum.view()};
  ln::scan_outputs<ln::constant_decay> passed;
  passed.o = some.o.view().slice(1, 0, 0);
  passed.state = {some.dsum.view()};
  ln::scan<ln::constant_decay, ln::causal>(some.on, no_tokens, passed);
  CHECK(std::equal(some.sum.data(), some.sum.data() + some.sum.size(), some.dsum.data()));
  ln::scan_incoming<ln::constant_decay> incoming;
  incoming.o = some.incoming.view().slice(1, 0, 0);
  incoming.state.sum = some.sum.view();
  ln::scan_gradients<ln::constant_decay> gradients;
  std::fill_n(some.dsum.data(), some.dsum.size(), nan_value);
  gradients.state.sum = some.dsum.view();
  ln::scan_backward<ln::constant_decay, ln::causal>(some.on, no_tokens, incoming, gradients);
  CHECK(std::equal(some.sum.data(), some.sum.data() + some.sum.size(), some.dsum.data()));
}

TEST_CASE("scan: the short form is the full form") {
  arguments all, full;
  for (arguments* one : {&all, &full}) {
    for (auto* input : {&one->q, &one->k, &one->v}) {
      for (std::int64_t n = 0; n < input->size(); ++n) input->data()[n] = std::sin(static_cast<float>(n * n));
    }
  }
  const auto& q = all.q;  // a view of constant elements, too
  ln::scan<ln::additive, ln::causal>(q.view(), all.k.view(), all.v.view(), all.o.view());
  ln::scan<ln::additive, ln::causal>(full.on, full.inputs<ln::additive>(), full.outputs<ln::additive>());
  CHECK(std::equal(all.o.data(), all.o.data() + all.o.size(), full.o.data()));
}
