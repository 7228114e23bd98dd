// SPDX-License-Identifier: Apache-2.0
// The causal language model on the GPU: its formula, its gradients, and decoding.
#include <lightnet/model/causal_language_model.hpp>
#include <lightnet/model/generate.hpp>

#include "language_on_gpu.cuh"

namespace {

namespace ln = lightnet;
using ln::cuda;
using numbers::array, numbers::list;

struct letters : ln::causal_language_model_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 2, vocabulary = 11, modes = 3;
};

struct question : check::language_question<ln::causal_language_model, letters> {
  /// The logits after the last of some tokens of the first sequence.
  list<double> next(model::context<ln::decode>& context, std::int64_t first, std::int64_t count) {
    const array<double, cuda> weights = params();
    const array<std::int32_t, cuda> ids(list<std::int32_t>(tokens.begin() + first, tokens.begin() + first + count));
    array<double, cuda> y(numbers::unwritten(vocabulary));
    model{}.forward(on, {weights.data(), {}}, {ids.data(), {{1, count}}}, y.view<2>({1, vocabulary}), context);
    return y.read(on);
  }
};
using model = question::model;

}  // namespace

TEST_CASE("the causal language model on the GPU is its formula, with the gradients of finite differences") {
  question q;
  check::language_model(q, "causal_language_model");
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("decoding on the GPU gives the logits of the whole") {
  question q;
  const list<double> whole = q.ask();
  for (const list<std::int64_t>& parts : {list<std::int64_t>{1, 1, 1, 30, 1}, {270, 1, 1, 20, 1}}) {
    model::context<ln::decode> context;
    std::int64_t at = 0;
    for (const std::int64_t count : parts) {
      const list<double> got = q.next(context, at, count);
      at += count;
      const auto there = whole.begin() + (at - 1) * letters::vocabulary;
      CHECK(numbers::largest_difference(got, {there, there + letters::vocabulary}) <= 1e-12);
    }
  }
}

TEST_CASE("generate on the GPU gives, greedily, the tokens of the largest logits") {
  question q;
  const array<double, cuda> weights = q.params();
  list<std::int32_t> written;
  ln::sampler greedy({.temperature = 0}, 1);
  ln::generate(q.on, model{}, ln::parameters_of<model, const double, cuda>{weights.data(), {}},
               std::span<const std::int32_t>(q.tokens).first(17), 9, greedy,
               [&](std::int32_t token) { written.push_back(token); });
  REQUIRE(written.size() == 9);
  q.tokens.insert(q.tokens.begin() + 17, written.begin(), written.end());
  for (std::int64_t i = 0; i < 9; ++i) {
    model::context<ln::decode> context;
    const list<double> y = q.next(context, 0, 17 + i);
    CHECK(std::max_element(y.begin(), y.end()) - y.begin() == written[static_cast<std::size_t>(i)]);
  }
}

TEST_CASE("tokens on the GPU by a graph are, bit for bit, those by calls") {
  question q;
  const array<double, cuda> weights = q.params();
  const list<double> whole = q.ask();
  const ln::cuda_stream stream;
  ln::execution<cuda> captured{stream.get()};
  const array<std::int32_t, cuda> prompt(list<std::int32_t>(q.tokens.begin(), q.tokens.begin() + 17));
  const auto read = [&](ln::execution<cuda>& on) {
    ln::decoder<model, double, cuda> text(model{}, {weights.data(), {}}, 1);
    text.read(on, {prompt.data(), {{1, 17}}});
    list<double> all;
    for (std::size_t t = 17; t < 29; ++t) {
      text.read_next(on, std::span<const std::int32_t>(q.tokens).subspan(t, 1));
      on.check();
      list<double> y(letters::vocabulary);
      cuda::copy(y.data(), text.logits().data(), y.size() * sizeof(double));
      const auto there = whole.begin() + static_cast<std::ptrdiff_t>(t) * letters::vocabulary;
      CHECK(numbers::largest_difference(y, {there, there + letters::vocabulary}) <= 1e-12);
      all.insert(all.end(), y.begin(), y.end());
    }
    return all;
  };
  const list<double> by_calls = read(q.on);
  CHECK(numbers::same_bits(read(captured), by_calls));
}
