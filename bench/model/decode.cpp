// SPDX-License-Identifier: Apache-2.0
#include "harness/row.hpp"
#include "rows.hpp"

#include <lightnet/model/paper_language_models.hpp>

#include <memory>
#include <utility>

namespace bench {

namespace ln = lightnet;

namespace {

using options = ln::language_model_150m;
using model = ln::causal_language_model<options, 1>;

/// Sequences that have begun, and go on by one token each.
class text {
 public:
  text(std::int64_t batch, int threads) : on_{threads}, tokens_{{{batch, 1}}}, logits_{{{batch, model::vocabulary}}} {
    weights_.initialise(1);
    for (std::int64_t b = 0; b < batch; ++b) tokens_.data()[b] = static_cast<std::int32_t>(b);
  }
  void next() {
    model_.forward(on_, std::as_const(weights_).for_layer(model_), std::as_const(tokens_).view(), logits_.view(),
                   context_);
  }

 private:
  ln::execution<ln::cpu> on_;
  model model_;
  ln::parameter_block<float> weights_ = ln::parameter_block<float>::of(model_);
  ln::tensor<ln::rank<2>, std::int32_t> tokens_;  // [B, 1]
  ln::tensor<ln::rank<2>, float> logits_;         // [B, vocabulary]
  model::context<ln::decode> context_;
};

/// Weights read once, and the states of all sequences; two operations for each weight and sequence, four for each number of
/// a state.
work least_work(std::int64_t batch) {
  constexpr double head = options::width / options::heads;
  constexpr double state = options::layers * options::heads * 2 * head * head;  // MD-LRPE doubles the keys
  constexpr double weights = model::parameter_count;
  const auto sequences = static_cast<double>(batch);
  return {.flops = sequences * (2 * weights + 4 * state),
          .bytes = sizeof(float) * (weights + sequences * state),
          .by = limit::either_reading};
}

}  // namespace

// One token of each sequence through the paper's smallest language model, far larger than caches. Times are for a token.
void add_decoding_rows() {
  const int threads = has_threads ? 2 : 1;
  for (const std::int64_t batch : {1, 64}) {
    const row r{.name = "decode/language_model_150m/float/b" + std::to_string(batch) + "/threads" +
                        std::to_string(threads),
                .tokens = static_cast<double>(batch),
                .least = least_work(batch),
                .threads = threads,
                .wanted = {.of_limit = 0.4},
                .prepare = [batch, threads] {
                  const auto own = std::make_shared<text>(batch, threads);
                  return task{.call = [own] { own->next(); }};
                }};
    add(r);
  }
}

}  // namespace bench
