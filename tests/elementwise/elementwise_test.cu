// SPDX-License-Identifier: Apache-2.0
// The element-wise recurrence on the GPU: against the naive one and the CPU's gradients, and what it promises bit for bit.
#include <doctest/doctest.h>

#include <cmath>

#include "../layer/device_numbers.cuh"
#include "elementwise.hpp"

namespace {

namespace ln = lightnet;
using elementwise::hgrn;
using elementwise::index;
using elementwise::infinity;
using elementwise::layout;
using elementwise::same_answer;
using elementwise::signed_hgrn;
using elementwise::worst_error;
using numbers::list;

template <class Recurrence, class Traversal, int Dims = 1, class T = double>
using question = elementwise::question<Recurrence, Traversal, Dims, T, ln::cuda>;

// Shorter than the 16 tokens of a warp, about them, about the 128 and 256 of a tile, and more tiles than a block looks back
// at.
constexpr std::int64_t lengths_of_lines[] = {1, 2, 15, 16, 17, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1301, 5003};

list<double> part_of(const list<double>& all, std::int64_t first, std::int64_t count) {
  return {all.begin() + first, all.begin() + first + count};
}

template <class Recurrence, class Traversal, class T, int Dims>
void check_values(const std::array<std::int64_t, static_cast<std::size_t>(Dims)>& extents) {
  std::uint64_t seed = 1;
  for (const layout how : {layout::dense, layout::tangled, layout::gapped}) {
    for (const bool masked : {false, true}) {
      CAPTURE(Dims);
      CAPTURE(Traversal::name);
      CAPTURE(static_cast<int>(how));
      CAPTURE(masked);
      question<Recurrence, Traversal, Dims, T> q(2, extents, 3, 5, seed++);
      q.laid_out(how, masked);
      if (masked) q.masked();
      if (Traversal::stateful && how != layout::dense) q.from_state();
      CHECK(worst_error(q) <= 1);
      if (!masked) continue;
      const auto o = q.forward().o;
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < q.size(); ++i) wrong += q.keep[index(i / q.row())] == 0 && o[index(i)] != 0 ? 1 : 0;
      CHECK(wrong == 0);
    }
  }
}

// The largest difference, as a part of the largest number.
double relative(const list<double>& got, const list<double>& expected) {
  double largest = 1e-30;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  return numbers::largest_difference(got, expected) / largest;
}

// The gradients against those of the CPU in double, which finite differences confirm.
template <class Recurrence, class Traversal, int Dims, class T>
void check_gradients(const question<Recurrence, Traversal, Dims, T>& q) {
  using oracle_type = elementwise::question<Recurrence, Traversal, Dims>;
  oracle_type oracle(q.batch, q.extents, q.heads, q.channels);
  oracle.x = q.x;
  oracle.decay = q.decay;
  oracle.keep = q.keep;
  oracle.lengths = q.lengths;
  oracle.initial = q.initial;
  const auto weights = q.random_incoming();
  const auto got = q.backward(weights), expected = oracle.backward(weights);
  const double sums = sizeof(ln::accumulator<T>) == 8 ? 1e-12 : 1e-5;
  const double stored = std::is_same_v<T, ln::bfloat16> ? 0x1p-8 : std::is_same_v<T, ln::float16> ? 0x1p-11 : 0;
  CAPTURE(Dims);
  CAPTURE(Traversal::name);
  CAPTURE(q.tokens());
  CHECK(relative(got.x, expected.x) <= sums + stored);
  CHECK(relative(got.decay, expected.decay) <= sums + stored);
  if (Traversal::stateful) CHECK(relative(got.h, expected.h) <= sums);
}

template <class Recurrence, class T>
void check_all_gradients() {
  check_gradients(question<Recurrence, ln::causal, 1, T>(2, {7}, 3, 5).from_state());
  check_gradients(question<Recurrence, ln::causal, 1, T>(2, {11}, 2, 3).masked().laid_out(layout::tangled));
  check_gradients(question<Recurrence, ln::causal, 1, T>(1, {19}, 2, 3).packed({0, 5, 5, 6, 19}).from_state());
  check_gradients(question<Recurrence, ln::causal, 2, T>(2, {3, 5}, 3, 2).laid_out(layout::gapped, true));
  check_gradients(question<Recurrence, ln::causal, 3, T>(1, {2, 3, 4}, 1, 5).masked().from_state());
  check_gradients(question<Recurrence, ln::bidirectional, 1, T>(1, {17}, 1, 3).packed({0, 3, 11, 17}));
  check_gradients(question<Recurrence, ln::bidirectional, 2, T>(1, {3, 4}, 2, 5).laid_out(layout::tangled));
  check_gradients(question<Recurrence, ln::axial, 2, T>(2, {3, 5}, 2, 3).masked().laid_out(layout::tangled, true));
  check_gradients(question<Recurrence, ln::axial, 4, T>(1, {2, 3, 1, 4}, 1, 5).laid_out(layout::gapped));
  for (const std::int64_t tokens : lengths_of_lines) {
    check_gradients(question<Recurrence, ln::causal, 1, T>(2, {tokens}, 1, 35, 100).from_state());
    check_gradients(question<Recurrence, ln::bidirectional, 1, T>(1, {tokens}, 2, 3, 200).masked());
  }
  check_gradients(question<Recurrence, ln::causal, 2, T>(1, {31, 29}, 1, 33).laid_out(layout::tangled).from_state());
  check_gradients(question<Recurrence, ln::causal, 1, T>(1, {1301}, 1, 5).packed({0, 256, 256, 257, 385, 900, 1301}));
}

}  // namespace

TEST_CASE_TEMPLATE("the element-wise recurrence on the GPU is the naive one", T, double, float, ln::bfloat16,
                   ln::float16) {
  check_values<hgrn, ln::causal, T, 1>({37});
  check_values<hgrn, ln::bidirectional, T, 1>({19});
  check_values<signed_hgrn, ln::axial, T, 1>({11});
  check_values<hgrn, ln::causal, T, 2>({5, 7});
  check_values<signed_hgrn, ln::bidirectional, T, 2>({7, 3});
  check_values<hgrn, ln::axial, T, 2>({4, 9});
  check_values<signed_hgrn, ln::causal, T, 3>({3, 4, 5});
  check_values<hgrn, ln::axial, T, 3>({4, 3, 5});
  check_values<hgrn, ln::bidirectional, T, 4>({2, 3, 1, 5});
}

TEST_CASE("lines of any length and rows of any width keep the tolerance on the GPU") {
  for (const std::int64_t tokens : lengths_of_lines) {
    CAPTURE(tokens);
    CHECK(worst_error(question<hgrn, ln::causal, 1, float>(2, {tokens}, 1, 37)) <= 1);
    CHECK(worst_error(question<signed_hgrn, ln::causal>(1, {tokens}, 3, 5).masked().from_state()) <= 1);
    CHECK(worst_error(question<hgrn, ln::bidirectional, 1, ln::bfloat16>(2, {tokens}, 2, 3)) <= 1);
  }
  for (const std::int64_t channels : {1, 2, 31, 32, 33, 65, 513, 1031}) {
    CAPTURE(channels);
    CHECK(worst_error(question<hgrn, ln::causal, 1, float>(1, {300}, 1, channels)) <= 1);
    CHECK(worst_error(question<hgrn, ln::axial, 1, ln::bfloat16>(1, {5}, 3, channels).laid_out(layout::gapped)) <= 1);
  }
  CHECK(worst_error(question<hgrn, ln::causal, 2, float>(1, {41, 37}, 2, 17).laid_out(layout::tangled)) <= 1);
  CHECK(worst_error(question<hgrn, ln::axial, 2, float>(1, {300, 3}, 2, 17).laid_out(layout::tangled)) <= 1);
  // Decays near one remember, over several tiles.
  question<hgrn, ln::causal, 1, float> slow(1, {3001}, 1, 5);
  for (double& a : slow.decay) a = static_cast<double>(static_cast<float>(-0x1p-9 * std::abs(slow.x[0])));
  CHECK(worst_error(slow) <= 1);
}

TEST_CASE("gradients of the element-wise recurrence on the GPU are those of the CPU") {
  check_all_gradients<hgrn, double>();
  check_all_gradients<signed_hgrn, double>();
  check_all_gradients<hgrn, float>();
  check_all_gradients<hgrn, ln::bfloat16>();
  check_all_gradients<signed_hgrn, ln::float16>();
}

TEST_CASE("again, alone, packed and in any layout: the same bits on the GPU") {
  const auto same_gradients = [](const auto& a, const auto& b) {
    const auto weights = a.random_incoming();
    const auto left = a.backward(weights), right = b.backward(weights);
    return numbers::same_bits(left.x, right.x) && numbers::same_bits(left.decay, right.decay) &&
           numbers::same_bits(left.h, right.h);
  };
  const auto check = [&](auto q) {
    auto other = q;
    for (int run = 0; run < 5; ++run) CHECK((same_answer(q, other) && same_gradients(q, other)));
    for (const layout how : {layout::tangled, layout::gapped}) {
      other.laid_out(how, how == layout::gapped);
      CHECK((same_answer(q, other) && same_gradients(q, other)));
    }
  };
  check(question<hgrn, ln::causal, 1, float>(3, {1301}, 3, 39).from_state());
  check(question<signed_hgrn, ln::axial, 2, float>(2, {4, 311}, 3, 23).masked());
  check(question<hgrn, ln::bidirectional, 3, ln::bfloat16>(3, {7, 3, 25}, 1, 7));

  const question<hgrn, ln::causal, 1, float> batch(3, {1301}, 3, 7);
  const auto weights = batch.random_incoming();
  const auto all = batch.forward();
  const auto all_gradients = batch.backward(weights);
  const std::int64_t size = 1301 * 21;
  for (std::int64_t b = 0; b < 3; ++b) {
    const auto one = batch.part(b, 0, 1301);
    CHECK(numbers::same_bits(one.forward().o, part_of(all.o, b * size, size)));
    const auto d = one.backward({part_of(weights.o, b * size, size), part_of(weights.h, b * 21, 21)});
    CHECK(numbers::same_bits(d.x, part_of(all_gradients.x, b * size, size)));
    CHECK(numbers::same_bits(d.decay, part_of(all_gradients.decay, b * size, size)));
  }

  question<hgrn, ln::causal, 1, float> packed(1, {1301}, 2, 19);
  packed.masked().packed({0, 13, 13, 14, 541, 797, 1301}).from_state();
  const auto packed_weights = packed.random_incoming();
  const auto whole = packed.forward();
  const auto whole_gradients = packed.backward(packed_weights);
  for (std::size_t s = 0; s + 1 < packed.lengths.size(); ++s) {
    const std::int64_t first = packed.lengths[s], count = packed.lengths[s + 1] - first, row = packed.row();
    const auto state = static_cast<std::int64_t>(s) * row;
    auto alone = packed.part(0, first, count);
    alone.initial = part_of(packed.initial, state, row);
    const auto got = alone.forward();
    CHECK(numbers::same_bits(got.o, part_of(whole.o, first * row, count * row)));
    CHECK(numbers::same_bits(got.h, part_of(whole.h, state, row)));
    CHECK(numbers::same_bits(got.decay, part_of(whole.decay, state, row)));
    const auto d =
        alone.backward({part_of(packed_weights.o, first * row, count * row), part_of(packed_weights.h, state, row)});
    CHECK(numbers::same_bits(d.x, part_of(whole_gradients.x, first * row, count * row)));
    CHECK(numbers::same_bits(d.decay, part_of(whole_gradients.decay, first * row, count * row)));
    CHECK(numbers::same_bits(d.h, part_of(whole_gradients.h, state, row)));
  }
}

TEST_CASE("parts, joined by states, give the whole on the GPU") {
  question<hgrn, ln::causal, 1, double> q(1, {700}, 3, 7);
  q.masked().from_state();
  const auto whole = q.forward();
  for (const std::int64_t split : {0, 1, 16, 127, 128, 255, 256, 300, 699, 700}) {
    CAPTURE(split);
    auto left = q.part(0, 0, split), right = q.part(0, split, 700 - split);
    left.initial = q.initial;
    const auto first = left.forward();
    right.initial = first.h;
    const auto second = right.forward();
    list<double> o = first.o;
    o.insert(o.end(), second.o.begin(), second.o.end());
    CHECK(relative(o, whole.o) <= 1e-14);
    CHECK(relative(second.h, whole.h) <= 1e-14);
  }
}

TEST_CASE("scan_step and merge_states work in place on the GPU") {
  constexpr std::int64_t batch = 3, heads = 2, channels = 23, tokens = 21, row = heads * channels;
  question<hgrn, ln::causal, 1, float> q(batch, {tokens}, heads, channels);
  for (double& a : q.decay) a = static_cast<double>(static_cast<float>(std::max(a, -0.25)));
  const auto whole = q.forward();
  ln::execution<ln::cuda> on;
  const std::array<std::int64_t, 4> shape{batch, 1, heads, channels};
  const std::array<std::int64_t, 3> state{batch, heads, channels};
  numbers::array<float, ln::cuda> h(list<float>(index(batch * row), 0.0F)),
      product(list<float>(index(batch * row), 1.0F));
  list<double> o(index(q.size()));
  for (std::int64_t t = 0; t < tokens; ++t) {
    list<float> x, a;
    for (std::int64_t i = 0; i < batch * row; ++i) x.push_back(static_cast<float>(q.x[q.at(i / row, t, i % row)]));
    for (std::int64_t i = 0; i < batch * row; ++i) a.push_back(static_cast<float>(q.decay[q.at(i / row, t, i % row)]));
    numbers::array<float, ln::cuda> xs(x), as(a), os(numbers::unwritten<float>(batch * row));
    ln::scan_step<hgrn, ln::no_position, 1, float>(
        on, {.x = xs.view<4>(shape), .log_decay = as.view<4>(shape)},
        {.o = os.view<4>(shape), .state = {h.view<3>(state), product.view<3>(state)}});
    const list<float> got = os.read(on);
    for (std::int64_t i = 0; i < batch * row; ++i) {
      o[q.at(i / row, t, i % row)] = static_cast<double>(got[index(i)]);
    }
  }
  CHECK(relative(o, whole.o) <= 1e-6);
  CHECK(relative(numbers::cast<double>(h.read(on)), whole.h) <= 1e-6);
  CHECK(relative(numbers::cast<double>(product.read(on)), whole.decay) <= 1e-6);

  // The state of the whole, once more from that of its parts.
  const auto state_of = [&](std::int64_t first, std::int64_t count) {
    std::pair<list<float>, list<float>> parts;
    for (std::int64_t b = 0; b < batch; ++b) {
      const auto got = q.part(b, first, count).forward();
      for (const double value : got.h) parts.first.push_back(static_cast<float>(value));
      for (const double value : got.decay) parts.second.push_back(static_cast<float>(value));
    }
    return parts;
  };
  const auto early = state_of(0, 8), late = state_of(8, tokens - 8);
  numbers::array<float, ln::cuda> left_h(early.first), left_decay(early.second);
  numbers::array<float, ln::cuda> right_h(late.first), right_decay(late.second);
  const ln::vector_state<float, ln::cuda> left{left_h.view<3>(state), left_decay.view<3>(state)};
  const ln::vector_state<float, ln::cuda> right{right_h.view<3>(state), right_decay.view<3>(state)};
  ln::merge_states<hgrn, float>(on, left, right, right);
  CHECK(relative(numbers::cast<double>(right_h.read(on)), whole.h) <= 1e-6);
  CHECK(relative(numbers::cast<double>(right_decay.read(on)), whole.decay) <= 1e-6);
}

TEST_CASE("nothing gives nothing, and the state as it was, on the GPU") {
  question<hgrn, ln::causal> none(2, {0}, 3, 5);
  none.from_state();
  const auto got = none.forward();
  CHECK(got.o.empty());
  CHECK(numbers::same_bits(got.h, none.initial));
  CHECK(numbers::same_bits(got.decay, list<double>(30, 1.0)));
  const auto weights = none.random_incoming();
  CHECK(numbers::same_bits(none.backward(weights).h, weights.h));
  CHECK(question<hgrn, ln::causal>(0, {7}, 3, 5).forward().o.empty());
  CHECK(question<hgrn, ln::causal>(2, {7}, 0, 5).forward().o.empty());
  CHECK(question<hgrn, ln::axial, 2>(2, {7, 3}, 2, 0).forward().o.empty());
  CHECK(question<hgrn, ln::axial, 2>(2, {0, 3}, 2, 5).forward().o.empty());
  CHECK(question<hgrn, ln::bidirectional, 2, ln::bfloat16>(2, {3, 0}, 2, 5).forward().o.empty());
  CHECK(question<hgrn, ln::bidirectional>(1, {0}, 2, 5).packed({0, 0, 0}).forward().o.empty());
}

TEST_CASE("bad values poison their channel from that token on, and nothing else, on the GPU") {
  const auto check = [](auto clean, const list<double>& bad_decays, std::int64_t token) {
    const auto expected = clean.forward().o;
    const std::size_t place = clean.at(0, token, 3);
    const auto compare = [&](const auto& poisoned, bool all_nan) {
      const auto got = poisoned.forward().o;
      std::int64_t changed = 0, clean_after = 0;
      for (std::int64_t t = 0; t < clean.tokens(); ++t) {
        for (std::int64_t c = 0; c < clean.row(); ++c) {
          const double value = got[clean.at(0, t, c)];
          if (c != 3 || t < token) {
            changed += value != expected[clean.at(0, t, c)] ? 1 : 0;
          } else {
            clean_after += (all_nan ? !std::isnan(value) : std::isfinite(value)) ? 1 : 0;
          }
        }
      }
      CHECK(changed == 0);
      CHECK(clean_after == 0);
    };
    for (const double bad : bad_decays) {
      auto poisoned = clean;
      poisoned.decay[place] = bad;
      compare(poisoned, true);
    }
    for (const double bad : {numbers::not_a_number, infinity, -infinity}) {
      auto poisoned = clean;
      poisoned.x[place] = bad;
      compare(poisoned, std::isnan(bad));
    }
  };
  for (const std::int64_t token : {0, 5, 300}) {
    check(question<hgrn, ln::causal, 1, float>(1, {800}, 2, 11), {1e-30, 1.0, infinity, numbers::not_a_number}, token);
    check(question<signed_hgrn, ln::causal>(1, {800}, 2, 11),
          {1 + 0x1p-52, -1 - 0x1p-52, infinity, -infinity, numbers::not_a_number}, token);
  }
}

TEST_CASE("lengths that fall are bad content, and host memory is refused") {
  question<hgrn, ln::causal, 1, float> q(1, {1301}, 1, 5);
  for (const list<std::int64_t>& bad : {list<std::int64_t>{0, 700, 300, 1301}, list<std::int64_t>{0, 700, 1400},
                                        list<std::int64_t>{5, 1301}, list<std::int64_t>{0, -700, 1301}}) {
    CHECK_THROWS_AS(q.packed(bad).forward(), ln::value_error);
  }
  ln::execution<ln::cuda> on;
  list<float> here(30);
  const ln::dynamic_view<4, float, ln::cuda> wrong{here.data(), {{1, 6, 1, 5}}};
  CHECK_THROWS_AS(
      (ln::scan<hgrn, ln::causal, ln::no_position, 1, float>(on, {.x = wrong, .log_decay = wrong}, {.o = wrong})),
      ln::device_error);
}

TEST_CASE("a graph of the element-wise recurrence gives the bits of the calls") {
  constexpr std::int64_t tokens = 1301, channels = 77;
  const question<hgrn, ln::causal, 1, float> q(1, {tokens}, 1, channels);
  const auto expected = q.forward();
  const auto weights = q.random_incoming();
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    ln::execution<ln::cuda> on(stream);
    const std::array<std::int64_t, 4> shape{1, tokens, 1, channels};
    numbers::array<float, ln::cuda> x(numbers::cast<float>(q.x)), decay(numbers::cast<float>(q.decay));
    numbers::array<float, ln::cuda> dout(numbers::cast<float>(weights.o)), o(numbers::unwritten<float>(q.size()));
    numbers::array<float, ln::cuda> dx(numbers::unwritten<float>(q.size())),
        ddecay(numbers::unwritten<float>(q.size()));
    const auto step = [&] {
      const ln::scan_inputs<hgrn, 1, float, ln::cuda> in{.x = x.view<4>(shape), .log_decay = decay.view<4>(shape)};
      ln::scan<hgrn, ln::causal, ln::no_position, 1, float>(on, in, {.o = o.view<4>(shape)});
      ln::scan_backward<hgrn, ln::causal, ln::no_position, 1, float>(
          on, in, {.o = dout.view<4>(shape)}, {.x = dx.view<4>(shape), .log_decay = ddecay.view<4>(shape)});
    };
    step();
    const list<float> first = o.read(on), first_x = dx.read(on), first_decay = ddecay.read(on);
    CHECK(numbers::same_bits(numbers::cast<double>(first), expected.o));
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    step();
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    cudaGraphExec_t runnable = nullptr;
    REQUIRE(cudaGraphInstantiate(&runnable, graph, 0) == cudaSuccess);
    for (int run = 0; run < 3; ++run) {
      ln::cuda::clear(o.data(), index(q.size()) * sizeof(float));
      ln::cuda::clear(dx.data(), index(q.size()) * sizeof(float));
      ln::cuda::clear(ddecay.data(), index(q.size()) * sizeof(float));
      REQUIRE(cudaGraphLaunch(runnable, stream) == cudaSuccess);
      CHECK(numbers::same_bits(o.read(on), first));
      CHECK(numbers::same_bits(dx.read(on), first_x));
      CHECK(numbers::same_bits(ddecay.read(on), first_decay));
    }
    cudaGraphExecDestroy(runnable);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}
