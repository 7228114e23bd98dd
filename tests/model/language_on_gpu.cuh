// SPDX-License-Identifier: Apache-2.0
// A question to a language model on the GPU: its formula and its gradients.
#pragma once

#include <span>

#include "../layer/device_numbers.cuh"
#include "check.hpp"

namespace check {

using ln::cuda;
using numbers::array;

// Three texts that are longer than a part of MD-TPE. Model is causal_language_model or masked_language_model.
template <template <class, int, class, class> class Model, class Options>
struct language_question {
  using model = Model<Options, 1, double, cuda>;
  static constexpr std::int64_t batch = 3, length = 301, rows = batch * length, vocabulary = Options::vocabulary;

  ln::parameter_block<double> parameters = random_parameters(model{}, 10);
  list<std::int32_t> tokens;
  ln::execution<cuda> on;

  language_question() {
    for (std::int64_t i = 0; i < rows; ++i) tokens.push_back(static_cast<std::int32_t>((i * i + 3 * i) % vocabulary));
  }
  list<double> parameter_list() const {
    const auto all = std::as_const(parameters).view();
    return list<double>(all.data(), all.data() + all.size());
  }
  array<double, cuda> params() const { return array<double, cuda>{parameter_list()}; }

  /// Logits, and gradients where `dy` is given.
  list<double> ask(const list<double>& dy = {}) {
    typename model::template context<ln::train> context;
    const array<double, cuda> weights = params();
    const array<std::int32_t, cuda> ids(tokens);
    array<double, cuda> y(numbers::unwritten(rows * vocabulary)), d(numbers::unwritten(model::parameter_count));
    const typename model::token_view texts{ids.data(), {{batch, length}}};
    model{}.forward(on, {weights.data(), {}}, texts, y.template view<2>({rows, vocabulary}), context);
    if (dy.empty()) return y.read(on);
    const array<double, cuda> incoming(dy);
    model{}.backward(on, {weights.data(), {}}, texts, {incoming.data(), {{rows, vocabulary}}}, {d.data(), {}}, context);
    return d.read(on);
  }
};

// That it is its formula, with the gradients of finite differences.
template <class Question>
void language_model(Question& q, const std::string& name) {
  const list<double> y = q.ask();
  double largest = 0;
  for (const double a : y) largest = std::max(largest, std::abs(a));
  using options = typename Question::model::options;
  CHECK(numbers::largest_difference(y, reference::language_model<options>(q.parameters, q.tokens, q.batch)) <=
        1e-12 * largest);
  const list<double> dy = numbers::normal(q.rows * q.vocabulary, 2), d = q.ask(dy);
  CHECK(numbers::same_bits(q.ask(), y));
  CHECK(numbers::same_bits(q.ask(dy), d));
  parameter_gradients(q.parameters, name, d, {.samples = 3, .step = 0x1p-12}, often(q.parameters.index().size()),
                      [&] { return numbers::weighted_sum(q.ask(), dy); });
}

}  // namespace check
