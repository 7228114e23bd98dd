// SPDX-License-Identifier: Apache-2.0
// The masked language model: its formula and gradients, that every token counts everywhere, and that order does.
#include <lightnet/model/masked_language_model.hpp>

#include "check.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

// Small, of the encodings that Both says: the paper's, or an MD-TPE both ways beside a rotation.
template <bool Both>
struct letters : ln::masked_language_model_options {
  static constexpr int width = 6, heads = 1, inner = 7, layers = 2, vocabulary = 11, modes = 3;
  static constexpr bool both_ways = Both;
  using position = std::conditional_t<Both, ln::md_lrpe_rotate, ln::md_lrpe>;
};
// What masked_language_model makes no model of.
struct mirrored : letters<true> {
  using position = ln::md_lrpe;
};
constexpr std::int64_t batch = 3, length = 13, rows = batch * length, classes = 11;

template <class Model>
struct question {
  ln::parameter_block<double> parameters = check::random_parameters(Model{}, 10);
  list<std::int32_t> tokens;
  int threads = 1;

  question() {
    for (std::int64_t i = 0; i < rows; ++i) tokens.push_back(static_cast<std::int32_t>((i * i + 3 * i) % classes));
  }
  auto params() const { return parameters.for_layer(Model{}); }
  ln::dynamic_view<2, const std::int32_t> view() const { return {tokens.data(), {{batch, length}}}; }

  template <class Mode = ln::infer>
  list<double> forward() const {
    ln::execution<ln::cpu> on(threads);
    typename Model::template context<Mode> context;
    list<double> y = numbers::unwritten(rows * classes);
    Model{}.forward(on, params(), view(), numbers::view_of<2>(y, {rows, classes}), context);
    return y;
  }
  list<double> backward(const list<double>& dy) const {
    ln::execution<ln::cpu> on(threads);
    typename Model::template context<ln::train> context;
    list<double> y = dy, d = numbers::unwritten(Model::parameter_count);
    Model{}.forward(on, params(), view(), numbers::view_of<2>(y, {rows, classes}), context);
    Model{}.backward(on, params(), view(), numbers::view_of<2>(dy, {rows, classes}), {d.data(), {}}, context);
    return d;
  }
  // The logits of every text read from its end, those of the last token first.
  list<double> backwards() const {
    question turned = *this;
    for (std::int64_t b = 0; b < batch; ++b)
      std::reverse(turned.tokens.begin() + b * length, turned.tokens.begin() + (b + 1) * length);
    const list<double> from = turned.forward();
    list<double> y;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = length; t-- > 0;) {
        const auto row = from.begin() + (b * length + t) * classes;
        y.insert(y.end(), row, row + classes);
      }
    }
    return y;
  }
};

template <bool Both>
void check_model() {
  using model = ln::masked_language_model<letters<Both>, 1, double>;
  question<model> q;
  const list<double> y = q.template forward<ln::train>();
  double largest = 0;
  for (const double a : y) largest = std::max(largest, std::abs(a));
  CHECK(numbers::largest_difference(y, reference::language_model<letters<Both>>(q.parameters, q.tokens, batch)) <=
        1e-12 * largest);
  CHECK(numbers::same_bits(q.forward(), y));
  CHECK(numbers::largest_difference(q.backwards(), y) > 1e-3 * largest);

  const list<double> dy = numbers::normal(rows * classes, 2);
  const list<double> d = q.backward(dy);
  check::parameter_gradients(q.parameters, "masked_language_model", d, {.samples = 4, .step = 0x1p-12},
                             q.parameters.index().size(), [&] { return numbers::weighted_sum(q.forward(), dy); });
  q.threads = 2;
  CHECK(numbers::same_bits(q.template forward<ln::train>(), y));
  CHECK(numbers::same_bits(q.backward(dy), d));
}

}  // namespace

TEST_CASE("the masked language model is its formula, with the gradients of finite differences") {
  SUBCASE("MD-TPE one way, MD-LRPE by cosines") { check_model<false>(); }
  SUBCASE("MD-TPE both ways, MD-LRPE by rotation") { check_model<true>(); }
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("every token counts in the logits of all tokens of its text, and of no other") {
  using model = ln::masked_language_model<letters<false>, 1, double>;
  question<model> q;
  const list<double> before = q.forward();
  for (const std::int64_t changed : {0, 7, 12}) {
    question<model> other = q;
    auto& token = other.tokens[static_cast<std::size_t>(length + changed)];
    token = (token + 4) % static_cast<std::int32_t>(classes);
    const list<double> y = other.forward();
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto first = row * classes;
      const list<double> here(y.begin() + first, y.begin() + first + classes);
      const list<double> then(before.begin() + first, before.begin() + first + classes);
      CHECK(numbers::same_bits(here, then) == (row / length != 1));
    }
  }
}

TEST_CASE("encodings by distance alone read a text backwards as they read it forwards, so they are refused together") {
  const question<ln::language_model<mirrored, 1, double>> q;
  CHECK(numbers::largest_difference(q.backwards(), q.forward()) <= 1e-12);
}

TEST_CASE("the mask token is the last of the vocabulary") {
  CHECK(ln::masked_language_model<ln::masked_language_model_options, 1>::mask_token == 256);
  CHECK(ln::masked_language_model<letters<true>, 1>::mask_token == 10);
}
