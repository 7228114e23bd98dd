// SPDX-License-Identifier: Apache-2.0
// What every model has to do: its values, its gradients, the same bits in train and infer and for any number of
// threads.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>

#include "../few.hpp"
#include "../layer/gemm.hpp"
#include "../oracle/gradient.hpp"
#include "reference.hpp"

namespace check {

namespace ln = lightnet;
using numbers::list;

// Numbers of a size at which every part of a model matters.
template <class Layer>
ln::parameter_block<double> random_parameters(const Layer& layer, std::uint64_t seed) {
  auto all = ln::parameter_block<double>::of(layer);
  for (const ln::parameter& part : all.index()) {
    const bool norm = part.name.ends_with("norm.weight");
    const bool gamma = part.name.ends_with("gamma"), theta = part.name.ends_with("theta");
    const list<double> values = numbers::normal(part.size(), ++seed,
                                                theta   ? 0.2
                                                : gamma ? 1
                                                        : 0.4,
                                                norm    ? 1
                                                : gamma ? -2
                                                : theta ? 0.7
                                                        : 0);
    std::copy(values.begin(), values.end(), all.view().data() + part.offset);
  }
  return all;
}

// A layer from tokens to tokens, and what is put to it.
template <class Layer, int Dims>
struct tokens_question {
  using layer_type = Layer;
  static constexpr std::int64_t width = Layer::width;

  ln::parameter_block<double> parameters = random_parameters(Layer{}, 10);
  ln::grid<Dims> where;
  std::int64_t batch;
  list<double> x;
  std::unique_ptr<bool[]> keep;
  int threads = 1;

  tokens_question(const ln::grid<Dims>& places, std::int64_t sequences, bool masked)
      : where{places}, batch{sequences}, x{numbers::normal(sequences * places.size() * width, 1)} {
    if (!masked) return;
    keep = std::make_unique<bool[]>(static_cast<std::size_t>(batch * where.size()));
    for (std::int64_t i = 0; i < batch * where.size(); ++i) keep[static_cast<std::size_t>(i)] = i % 5 != 2;
  }

  std::int64_t outputs() const { return batch * where.size() * width; }
  reference::places places() const {
    reference::places at{
        {{where.extents.begin(), where.extents.end()}, where.prefix, {where.offset.begin(), where.offset.end()}},
        batch,
        {}};
    for (std::int64_t i = 0; keep && i < batch * where.size(); ++i)
      at.mask.push_back(keep[static_cast<std::size_t>(i)] ? 1 : 0);
    return at;
  }

  template <class T>
  ln::sequence<Dims, T> tokens(T* data) const {
    ln::dynamic_view<2, const bool> mask;
    if (keep) mask = {keep.get(), {{batch, where.size()}}};
    return {{data, {{batch, where.size(), width}}}, where, mask};
  }
  template <class Mode>
  void forward(ln::execution<ln::cpu>& on, list<double>& y, typename Layer::template context<Mode>& context) const {
    Layer{}.forward(on, parameters.for_layer(Layer{}), tokens(x.data()), tokens(y.data()), context);
  }
  template <ln::write Write>
  void backward(ln::execution<ln::cpu>& on, const list<double>& dy, list<double>& dx, list<double>& dparameters,
                const typename Layer::template context<ln::train>& context) const {
    Layer{}.template backward<Write>(on, parameters.for_layer(Layer{}), tokens(x.data()), tokens(dy.data()),
                                     tokens(dx.data()), {dparameters.data(), {}}, context);
  }
};

template <class Mode, class Question>
list<double> forward(const Question& q) {
  ln::execution<ln::cpu> on(q.threads);
  typename Question::layer_type::template context<Mode> context;
  list<double> y = numbers::unwritten(q.outputs());
  q.template forward<Mode>(on, y, context);
  return y;
}

struct gradients {
  list<double> x, parameters;
};
template <ln::write Write = ln::write::overwrite, class Question>
gradients backward(const Question& q, const list<double>& dy, const list<double>& start) {
  ln::execution<ln::cpu> on(q.threads);
  typename Question::layer_type::template context<ln::train> context;
  list<double> y = numbers::unwritten(q.outputs());
  q.template forward<ln::train>(on, y, context);
  gradients d{start, numbers::unwritten(Question::layer_type::parameter_count)};
  q.template backward<Write>(on, dy, d.x, d.parameters, context);
  return d;
}

// A masked token comes out as 0, and neither its values nor its gradient matter.
template <class Question>
void masked_tokens(Question q) {
  list<double> dy = numbers::normal(q.outputs(), 2);
  const list<double> y = forward<ln::train>(q);
  const gradients d = backward(q, dy, dy);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (q.keep[i / static_cast<std::size_t>(Question::width)]) continue;
    CHECK(y[i] == 0);
    CHECK(d.x[i] == 0);
    q.x[i] = 100;
    dy[i] = -3;
  }
  CHECK(numbers::same_bits(forward<ln::train>(q), y));
  const gradients again = backward(q, dy, dy);
  CHECK(again.x == d.x);
  CHECK(numbers::largest_difference(again.parameters, d.parameters) == 0);
}

// The gradients `d` by each of the first `parts` parameters, by finite differences of `loss()`, which reads these.
template <class Loss>
void parameter_gradients(ln::parameter_block<double>& parameters, const std::string& name, const list<double>& d,
                         const oracle::gradient_options& some, std::size_t parts, const Loss& loss) {
  const auto& index = std::as_const(parameters).index();
  for (std::size_t n = 0; n < parts; ++n) {
    const ln::parameter& part = index[n];
    CAPTURE(part.name);
    double* const to = parameters.view().data() + part.offset;
    const list<double> values(to, to + part.size());
    const list<double> dpart(d.begin() + part.offset, d.begin() + part.offset + part.size());
    const auto moved = [&](const list<double>& from) {
      std::copy(from.begin(), from.end(), to);
      return loss();
    };
    CHECK(oracle::check_gradient(name + " " + part.name, moved, values, dpart, some) <= 1e-7);
    std::copy(values.begin(), values.end(), to);
  }
}

// Checks one model on one question; `expected` is what forward should give. Errors of gradients are relative to at least
// `smallest_scale`, for questions whose gradients are nothing but noise somewhere.
template <class Question>
void model(Question& q, const std::string& name, const list<double>& expected, std::size_t samples = 12,
           double smallest_scale = 0) {
  CAPTURE(name);
  const list<double> y = forward<ln::train>(q);
  double largest = 0;
  for (const double a : expected) largest = std::max(largest, std::abs(a));
  CHECK(numbers::largest_difference(y, expected) <= 1e-12 * largest);
  CHECK(numbers::same_bits(forward<ln::infer>(q), y));

  const list<double> dy = numbers::normal(q.outputs(), 2);
  const list<double> start = numbers::normal(static_cast<std::int64_t>(q.x.size()), 3);
  const gradients d = backward(q, dy, numbers::unwritten(static_cast<std::int64_t>(q.x.size())));
  const oracle::gradient_options some{
      .samples = samples, .step = 0x1p-12, .smallest_scale = smallest_scale};  // a norm is wilder than e^x
  const list<double> x = q.x;
  CHECK(oracle::check_gradient(
            name + " x",
            [&](const list<double>& from) {
              q.x = from;
              return numbers::weighted_sum(forward<ln::infer>(q), dy);
            },
            x, d.x, some) <= 1e-7);
  q.x = x;
  parameter_gradients(q.parameters, name, d.parameters, some, often(q.parameters.index().size()),
                      [&] { return numbers::weighted_sum(forward<ln::infer>(q), dy); });

  const gradients added = backward<ln::write::add>(q, dy, start);
  double size = 0;
  for (const double a : d.x) size = std::max(size, std::abs(a));
  CHECK(numbers::largest_difference(added.x, oracle::add(d.x, start)) <= 1e-13 * (1 + size));
  CHECK(numbers::same_bits(added.parameters, d.parameters));
  for (const int threads : {2, 3}) {
    q.threads = threads;
    CHECK(numbers::same_bits(forward<ln::train>(q), y));
    const gradients again = backward(q, dy, start);
    CHECK(numbers::same_bits(again.x, d.x));
    CHECK(numbers::same_bits(again.parameters, d.parameters));
  }
  q.threads = 1;
}

}  // namespace check
