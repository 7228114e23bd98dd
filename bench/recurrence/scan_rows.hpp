// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "harness/operands.hpp"

#include <lightnet/recurrence/scan.hpp>

#include <type_traits>
#include <utility>

namespace bench {

enum class direction { forward, backward };

/// An operation of scan: its name without direction and sizes, its decays, and what it is compared with.
struct operation {
  std::string name;  // "additive/causal"
  decay_source decays{};
  plain::function plain_forward = nullptr, plain_backward = nullptr;
  goals forward{}, backward{};
};

/// The sequences of one call of scan or scan_backward. With two axes the tokens are a picture, 64 wide.
template <class Recurrence, class Traversal, class Position, int Dims, class T>
class sequences {
 public:
  sequences(const problem& p, const decay_source& decays, direction way)
      : q_{normal_tensor<T>(p, 1)}, k_{normal_tensor<T>(p, 2)}, v_{normal_tensor<T>(p, 3)}, o_{v_} {
    if (decays.given()) {
      log_decay_.resize({{1, p.tokens, p.heads, decays.channels(p.width)}});
      fill(log_decay_, 4, decays.of);
    }
    if (way == direction::forward) return;
    do_ = normal_tensor<T>(p, 5);
    dq_ = q_;
    dk_ = k_;
    dv_ = v_;
    dlog_decay_ = log_decay_;
  }

  /// The first `tokens` tokens.
  void forward(ln::execution<ln::cpu>& on, std::int64_t tokens) {
    ln::scan<Recurrence, Traversal, Position, Dims, T>(on, inputs(tokens), {.o = o_.view().slice(1, 0, tokens)});
  }
  void backward(ln::execution<ln::cpu>& on, std::int64_t tokens) {
    ln::scan_gradients<Recurrence, Dims, T> gradients;
    gradients.q = dq_.view().slice(1, 0, tokens);
    if constexpr (has_keys) gradients.k = dk_.view().slice(1, 0, tokens);
    gradients.v = dv_.view().slice(1, 0, tokens);
    if constexpr (has_decays) gradients.log_decay = dlog_decay_.view().slice(1, 0, tokens);
    ln::scan_backward<Recurrence, Traversal, Position, Dims, T>(
        on, inputs(tokens), {.o = std::as_const(do_).view().slice(1, 0, tokens)}, gradients);
  }
  void call(ln::execution<ln::cpu>& on, direction way, std::int64_t tokens) {
    way == direction::forward ? forward(on, tokens) : backward(on, tokens);
  }

 private:
  static constexpr bool has_keys = Recurrence::kappa != ln::kappa_of::complement;
  static constexpr bool has_decays = Recurrence::logits == ln::logits_from::tokens;

  ln::scan_inputs<Recurrence, Dims, T> inputs(std::int64_t tokens) const {
    ln::scan_inputs<Recurrence, Dims, T> in;
    in.q = q_.view().slice(1, 0, tokens);
    if constexpr (has_keys) in.k = k_.view().slice(1, 0, tokens);
    in.v = v_.view().slice(1, 0, tokens);
    if constexpr (has_decays) in.log_decay = log_decay_.view().slice(1, 0, tokens);
    if constexpr (Dims == 2) in.grid.extents = {tokens / 64, 64};
    return in;
  }

  ln::tensor<ln::rank<4>, T> q_, k_, v_, o_, log_decay_, do_, dq_, dk_, dv_, dlog_decay_;
};

/// Work of 4 d' e for each token and head forward and 10 d' e backward, whatever is executed; every sequence read or
/// written once. A single reduction may be done before its operands have come.
template <class Traversal, class Position, class T>
work least_work(const problem& p, const decay_source& decays, direction way) {
  const auto d = static_cast<double>(p.width);
  const bool forward = way == direction::forward;
  const double flops = (forward ? 4 : 10) * static_cast<double>(ln::state_keys<Position>(p.width)) * d;
  const double numbers = forward ? 4 * d + decays.read(p.width) : 7 * d + 2 * decays.read(p.width);
  return {p.token_heads() * flops, p.token_heads() * numbers * sizeof(T),
          Traversal::ordered ? limit::multiply_adds : limit::either};
}

/// What a row is compared with: other sizes, or another type of the same numbers.
struct other_circumstances {
  comparison what{};
  problem sizes{};
  double wanted = 0;
};

/// A row for one direction and size, of the type T and compared with the type Other.
template <class Recurrence, class Traversal, class Position = ln::no_position, int Dims = 1, class T = float,
          class Other = T>
void add_scan_row(const operation& what, direction way, const problem& p, const std::string& type = "float",
                  const other_circumstances& other = {}) {
  const bool forward = way == direction::forward;
  row r{.name = p.name(what.name + (forward ? "/forward" : "/backward"), type),
        .tokens = p.token_heads(),
        .least = least_work<Traversal, Position, T>(p, what.decays, way),
        .threads = p.threads,
        .wanted = other.what.counter.empty() ? (forward ? what.forward : what.backward) : goals{.ratio = other.wanted},
        .compared = other.what};
  r.prepare = [what, way, p, sizes = other.sizes, is_compared = !other.what.counter.empty()] {
    using numbers = sequences<Recurrence, Traversal, Position, Dims, T>;
    using other_numbers = sequences<Recurrence, Traversal, Position, Dims, Other>;
    const auto own = std::make_shared<numbers>(p, what.decays, way);
    const auto on = std::make_shared<ln::execution<ln::cpu>>(p.threads);
    task made{.call = [=] { own->call(*on, way, p.tokens); }};
    add_plain(made, way == direction::forward ? what.plain_forward : what.plain_backward, p.width, what.decays);
    if (!is_compared) return made;
    std::shared_ptr<other_numbers> others;
    if constexpr (std::is_same_v<T, Other>) {
      others = own;
    } else {
      others = std::make_shared<other_numbers>(sizes, what.decays, way);
    }
    const auto other_on = std::make_shared<ln::execution<ln::cpu>>(sizes.threads);
    made.other = [=] { others->call(*other_on, way, sizes.tokens); };
    made.other_tokens = sizes.token_heads();
    return made;
  };
  add(std::move(r));
}

/// Rows for both head sizes and both directions, as far as there is a plain implementation.
template <class Recurrence, class Traversal, class Position = ln::no_position, int Dims = 1>
void add_scan_rows(const operation& what) {
  for (const direction way : {direction::forward, direction::backward}) {
    if (way == direction::backward && !what.plain_backward) continue;
    for (const std::int64_t width : {64, 128}) {
      add_scan_row<Recurrence, Traversal, Position, Dims>(what, way, {.width = width});
    }
  }
}

/// Rows for two threads, compared with one.
template <class Recurrence, class Traversal>
void add_threads_rows(const operation& what, direction way, std::int64_t heads) {
  for (const std::int64_t width : {64, 128}) {
    const problem one{.width = width, .heads = heads}, two{.width = width, .heads = heads, .threads = 2};
    if (!has_threads) continue;
    add_scan_row<Recurrence, Traversal>(what, way, two, "float", {{"over_one_thread", "one thread"}, one, 1.8});
  }
}

/// Rows for 16,384 and 65,536 tokens, compared with each other.
template <class Recurrence, class Traversal>
void add_length_rows(const operation& what, direction way) {
  const problem shorter{.tokens = 16384}, longer{.tokens = 65536};
  operation without_goals = what;
  without_goals.forward = without_goals.backward = {};
  add_scan_row<Recurrence, Traversal>(without_goals, way, shorter);
  add_scan_row<Recurrence, Traversal>(
      what, way, longer, "float", {{"time_over_16384_tokens", "16,384 tokens, time for each", true}, shorter, 1.15});
}

}  // namespace bench
