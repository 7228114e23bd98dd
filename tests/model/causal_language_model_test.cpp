// SPDX-License-Identifier: Apache-2.0
// The causal language model: its formula and gradients, and that a prompt in parallel and token by token are one.
#include <lightnet/model/causal_language_model.hpp>
#include <lightnet/model/generate.hpp>
#include <lightnet/model/paper_language_models.hpp>

#include "allocation.hpp"
#include "check.hpp"

namespace {

namespace ln = lightnet;
using numbers::list;

struct letters : ln::causal_language_model_options {
  static constexpr int width = 6, heads = 2, inner = 7, layers = 2, vocabulary = 11, modes = 3;
};
using model = ln::causal_language_model<letters, 1, double>;
constexpr std::int64_t batch = 3, length = 37;  // more than a chunk of the recurrence

// Without an encoding, with a head of its own, and with norms that differ.
struct plain_letters : letters {
  static constexpr int modes = 0;
  static constexpr bool tied_head = false;
  static constexpr double norm_epsilon = 0.03, gate_norm_epsilon = 0.2;
  using position = ln::no_position;
};

template <class Options>
struct question_of {
  using model = ln::causal_language_model<Options, 1, double>;
  ln::parameter_block<double> parameters = check::random_parameters(model{}, 10);
  list<std::int32_t> tokens;
  int threads = 1;

  question_of() {
    for (std::int64_t i = 0; i < batch * length; ++i) tokens.push_back(static_cast<std::int32_t>((i * i + 3 * i) % 11));
  }
  auto params() const { return parameters.for_layer(model{}); }
  ln::dynamic_view<2, const std::int32_t> view() const { return {tokens.data(), {{batch, length}}}; }

  template <class Mode>
  list<double> forward(std::int64_t rows = batch * length) const {
    ln::execution<ln::cpu> on(threads);
    typename model::template context<Mode> context;
    list<double> y = numbers::unwritten(rows * letters::vocabulary);
    model{}.forward(on, params(), view(), numbers::view_of<2>(y, {rows, letters::vocabulary}), context);
    return y;
  }
  list<double> backward(const list<double>& dy) const {
    ln::execution<ln::cpu> on(threads);
    typename model::template context<ln::train> context;
    list<double> y = dy, d = numbers::unwritten(model::parameter_count);
    model{}.forward(on, params(), view(), numbers::view_of<2>(y, {batch * length, letters::vocabulary}), context);
    model{}.backward(on, params(), view(), numbers::view_of<2>(dy, {batch * length, letters::vocabulary}),
                     {d.data(), {}}, context);
    return d;
  }
};
using question = question_of<letters>;

// The logits after token t of every sequence, of those after all.
list<double> after(const list<double>& all, std::int64_t t) {
  list<double> y;
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto first = all.begin() + (b * length + t) * letters::vocabulary;
    y.insert(y.end(), first, first + letters::vocabulary);
  }
  return y;
}

// Sequences that are read in parts.
class reader {
 public:
  explicit reader(const question& q) : q_{q} {}
  // The logits after the last of the next tokens.
  list<double> next(std::int64_t count) {
    ln::execution<ln::cpu> on(2);
    list<std::int32_t> some;
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t t = 0; t < count; ++t)
        some.push_back(q_.tokens[static_cast<std::size_t>(b * length + at_ + t)]);
    }
    list<double> y = numbers::unwritten(batch * letters::vocabulary);
    model{}.forward(on, q_.params(), numbers::view_of<2>(std::as_const(some), {batch, count}),
                    numbers::view_of<2>(y, {batch, letters::vocabulary}), context_);
    at_ += count;
    return y;
  }

 private:
  const question& q_;
  model::context<ln::decode> context_;
  std::int64_t at_ = 0;
};

template <class Options>
void check_formula(const std::string& name) {
  question_of<Options> q;
  const list<double> y = q.template forward<ln::train>();
  double largest = 0;
  for (const double a : y) largest = std::max(largest, std::abs(a));
  CHECK(numbers::largest_difference(y, reference::language_model<Options>(q.parameters, q.tokens, batch)) <=
        1e-12 * largest);
  CHECK(numbers::same_bits(q.template forward<ln::infer>(), y));
  CHECK(numbers::largest_difference(q.template forward<ln::infer>(batch), after(y, length - 1)) <= 1e-13 * largest);

  const list<double> dy = numbers::normal(batch * length * letters::vocabulary, 2);
  const list<double> d = q.backward(dy);
  check::parameter_gradients(q.parameters, name, d, {.samples = 4, .step = 0x1p-12}, q.parameters.index().size(),
                             [&] { return numbers::weighted_sum(q.template forward<ln::infer>(), dy); });
  for (const int threads : {2, 3}) {
    q.threads = threads;
    CHECK(numbers::same_bits(q.template forward<ln::train>(), y));
    CHECK(numbers::same_bits(q.backward(dy), d));
  }
}

}  // namespace

TEST_CASE("the causal language model is its formula, with the gradients of finite differences") {
  check_formula<letters>("causal_language_model");
  check_formula<plain_letters>("causal_language_model without encodings");
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("a later token changes no bit of the logits before it") {
  question q;
  const list<double> before = q.forward<ln::infer>();
  for (const std::int64_t changed : {1, 5, 36}) {
    question other = q;
    for (std::int64_t b = 0; b < batch; ++b) {
      auto& token = other.tokens[static_cast<std::size_t>(b * length + changed)];
      token = (token + 4) % letters::vocabulary;
    }
    const list<double> y = other.forward<ln::infer>();
    for (std::int64_t t = 0; t < changed; ++t) CHECK(numbers::same_bits(after(y, t), after(before, t)));
    CHECK_FALSE(numbers::same_bits(after(y, changed), after(before, changed)));
  }
}

TEST_CASE("a prompt in parallel and tokens one by one give the logits of the whole") {
  const question q;
  const list<double> whole = q.forward<ln::infer>();
  for (const list<std::int64_t>& parts : {list<std::int64_t>(37, 1), {20, 1, 1, 1, 1, 13}, {1, 34, 1, 1}}) {
    reader prompt(q);
    std::int64_t at = 0;
    for (const std::int64_t count : parts) {
      at += count;
      CHECK(numbers::largest_difference(prompt.next(count), after(whole, at - 1)) <= 1e-12);
    }
    CHECK(at == length);
  }
}

TEST_CASE("a copy of what decoding remembers is a branch of its own") {
  const question q;
  reader text(q);
  text.next(9);
  reader branch = text;
  const list<double> one = text.next(1), other = text.next(1);
  CHECK(numbers::same_bits(branch.next(1), one));
  CHECK(numbers::same_bits(branch.next(1), other));
}

TEST_CASE("a token allocates nothing, however many there were before") {
  const question q;
  ln::execution<ln::cpu> on(2);
  model::context<ln::decode> context;
  list<double> y = numbers::unwritten(batch * letters::vocabulary);
  const auto next = [&] {
    model{}.forward(on, q.params(), {q.tokens.data(), {{batch, 1}}},
                    numbers::view_of<2>(y, {batch, letters::vocabulary}), context);
  };
  next();
  next();  // here the workspace is one block
  const std::int64_t before = allocation::count;
  for (int i = 0; i < 100; ++i) next();
  CHECK(allocation::count == before);
}

TEST_CASE("a decoder goes on with texts as the model does, and allocates nothing for a token") {
  const question q;
  const list<double> whole = q.forward<ln::infer>();
  ln::execution<ln::cpu> on(2);
  ln::decoder<model, double> text(model{}, q.params(), batch);
  list<std::int32_t> some;
  const auto tokens_at = [&](std::int64_t t) {
    list<std::int32_t> next;
    for (std::int64_t b = 0; b < batch; ++b) next.push_back(q.tokens[static_cast<std::size_t>(b * length + t)]);
    return next;
  };
  const auto read = [&] { return list<double>(text.logits().data(), text.logits().data() + text.logits().size()); };
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < 20; ++t) some.push_back(q.tokens[static_cast<std::size_t>(b * length + t)]);
  }
  text.read(on, numbers::view_of<2>(std::as_const(some), {batch, 20}));
  CHECK(numbers::largest_difference(read(), after(whole, 19)) <= 1e-12);
  for (std::int64_t t = 20; t < length; ++t) {
    const list<std::int32_t> next = tokens_at(t);
    const std::int64_t here = allocation::count;
    text.read_next(on, next);
    if (t >= 22) CHECK(allocation::count == here);  // the workspace is one block
    CHECK(numbers::largest_difference(read(), after(whole, t)) <= 1e-12);
  }
  CHECK(numbers::message_of<ln::shape_error>([&] { text.read_next(on, {}); }) ==
        "lightnet: decoder::read_next: tokens: expected 3, one of each text, got 0");
  CHECK(numbers::message_of<ln::value_error>([&] { ln::decoder<model, double>(model{}, q.params(), 0); }) ==
        "lightnet: decoder: sequences: expected one or more, got 0");
}

TEST_CASE("generate gives, greedily, the tokens that the whole sequence in parallel gives") {
  question q;
  ln::execution<ln::cpu> on(1);
  list<std::int32_t> text(q.tokens.begin(), q.tokens.begin() + 13), written;
  ln::sampler greedy({.temperature = 0}, 1);
  ln::generate(on, model{}, q.parameters.for_layer(model{}), std::span<const std::int32_t>(text), 29, greedy,
               [&](std::int32_t token) { written.push_back(token); });
  REQUIRE(written.size() == 29);
  for (const std::int32_t token : written) {
    const auto count = static_cast<std::int64_t>(text.size());
    list<double> y = numbers::unwritten(letters::vocabulary);
    model::context<ln::infer> nothing;
    model{}.forward(on, q.params(), numbers::view_of<2>(std::as_const(text), {1, count}),
                    numbers::view_of<2>(y, {1, letters::vocabulary}), nothing);
    CHECK(std::max_element(y.begin(), y.end()) - y.begin() == token);
    text.push_back(token);
  }
  CHECK_THROWS_AS(ln::generate(on, model{}, q.params(), {}, 1, greedy, [](std::int32_t) {}), ln::value_error);
}

TEST_CASE("generate reads a prompt of any length in parts, and goes on as after the whole") {
  const question q;
  ln::execution<ln::cpu> on(1);
  const std::int64_t count = 2 * ln::prompt_part + 5;
  list<std::int32_t> text;
  for (std::int64_t i = 0; i < count; ++i) text.push_back(q.tokens[static_cast<std::size_t>(i % (batch * length))]);
  list<std::int32_t> expected, written;
  const ln::sampling_options as_likely{.temperature = 1, .top_k = 0, .top_p = 1};  // tells small differences of logits
  ln::sampler choose(as_likely, 1), choose_again(as_likely, 1);
  ln::decoder<model, double> whole{model{}, q.params(), 1};
  whole.read(on, numbers::view_of<2>(std::as_const(text), {1, count}));
  while (expected.size() < 1000) {
    const std::span<const double> logits{whole.logits().data(), letters::vocabulary};
    expected.push_back(choose(logits, 0, static_cast<std::uint64_t>(count) + expected.size()));
    whole.read_next(on, {&expected.back(), 1});
  }
  ln::generate(on, model{}, q.params(), std::span<const std::int32_t>(text), 1000, choose_again,
               [&](std::int32_t token) { written.push_back(token); });
  CHECK(written == expected);
}

TEST_CASE("the causal language model describes its parameters") {
  const auto all = ln::parameter_block<double>::of(model{});
  const std::int64_t of_block = 2 * 6 + (4 * 6 * 6 + 2 * 3 * 6 + 6) + 3 * 6 * 7;
  CHECK(all.size() == 11 * 6 + (3 + 6 * 3) + 2 * of_block + 6);
  CHECK(all["embeddings.weight"].size() == 66);
  CHECK_FALSE(all.index().front().decays);
  CHECK(all["tpe.b"].size() == 18);
  CHECK(all["layers.1.mlp.down_proj.weight"].size() == 42);
  CHECK(all.index().back().name == "norm.weight");

  const auto plain = ln::parameter_block<double>::of(question_of<plain_letters>::model{});
  CHECK(plain.size() == 11 * 6 + 2 * of_block + 6 + 11 * 6);
  CHECK(plain.index()[1].name == "layers.0.attn_norm.weight");
  CHECK(plain.index().back().name == "lm_head.weight");
}

TEST_CASE("the causal language model names what does not fit and writes nothing") {
  question q;
  ln::execution<ln::cpu> on(1);
  model::context<ln::decode> context;
  list<double> y = numbers::unwritten(batch * letters::vocabulary);
  const auto to = numbers::view_of<2>(y, {batch, letters::vocabulary});
  CHECK(numbers::message_of<ln::shape_error>([&] {
          model{}.forward(on, q.params(), q.view(), numbers::view_of<2>(y, {letters::vocabulary, batch}), context);
        }) == "lightnet: language_model::forward: logits: expected [111, 11] with dense rows, got [11, 3]");
  CHECK(numbers::message_of<ln::device_error>([&] { model{}.forward(on, q.params(), {}, to, context); }) ==
        "lightnet: language_model::forward: tokens: expected a view of memory, got a null pointer");
  CHECK(numbers::message_of<ln::shape_error>([&] {
          model{}.forward(on, q.params(), q.view().slice(1, 2, 5), to, context);
        }) == "lightnet: language_model::forward: tokens: expected a dense matrix, got [3, 5] with strides [37, 1]");
  for (const std::int32_t wrong : {-1, 11}) {
    q.tokens[40] = wrong;
    CHECK(numbers::message_of<ln::value_error>([&] { model{}.forward(on, q.params(), q.view(), to, context); }) ==
          "lightnet: embedding::forward: ids: expected 0 to 10, got " + std::to_string(wrong) + " at row 40");
  }
  for (const double a : y) CHECK(std::isnan(a));
  q.tokens[40] = 0;
  model{}.forward(on, q.params(), q.view(), to, context);
  CHECK(numbers::message_of<ln::shape_error>([&] {
          model{}.forward(on, q.params(), {q.tokens.data(), {{2, 1}}}, to.slice(0, 0, 2), context);
        }) == "lightnet: language_model::forward: tokens: expected 3 sequences, as before, got 2");
}
