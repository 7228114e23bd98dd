// SPDX-License-Identifier: Apache-2.0
#include "harness/row.hpp"
#include "rows.hpp"

#include <lightnet/model/decoder.hpp>
#include <lightnet/model/paper_language_models.hpp>

#include <memory>
#include <vector>

namespace bench {

namespace ln = lightnet;

namespace {

using options = ln::language_model_150m;
using model = ln::causal_language_model<options, 1>;

/// Texts that go on by one token each.
class texts {
 public:
  texts(std::int64_t batch, int threads) : on_{threads}, text_{model{}, weights(), batch} {
    for (std::int64_t b = 0; b < batch; ++b) tokens_.push_back(static_cast<std::int32_t>(b));
  }
  void next() { text_.read_next(on_, tokens_); }

 private:
  static model::parameters weights() {
    static const auto all = [] {
      auto made = ln::parameter_block<float>::of(model{});
      made.initialise(1);
      return made;
    }();
    return all.for_layer(model{});
  }

  ln::execution<ln::cpu> on_;
  ln::decoder<model> text_;
  std::vector<std::int32_t> tokens_;
};

/// Weights are read once, the states of all texts read and written; two operations for each weight and text, four for each
/// number of a state.
work least_work(std::int64_t batch) {
  constexpr double head = options::width / options::heads;
  constexpr double state = options::layers * options::heads * 2 * head * head;  // MD-LRPE doubles the keys
  constexpr double weights = model::parameter_count;
  const auto sequences = static_cast<double>(batch);
  return {.flops = sequences * (2 * weights + 4 * state),
          .bytes = sizeof(float) * (weights + 2 * sequences * state),
          .by = limit::either_reading};
}

}  // namespace

// One token of each sequence through the paper's smallest language model, far larger than caches. Times are for a token.
void add_decoding_rows() {
  for (const std::int64_t batch : {1, 64}) {
    for (int threads = 1; threads <= (has_threads ? 2 : 1); ++threads) {
      const row r{
          .name = "decode/language_model_150m/float/b" + std::to_string(batch) + "/threads" + std::to_string(threads),
          .tokens = static_cast<double>(batch),
          .least = least_work(batch),
          .threads = threads,
          .wanted = {.of_limit = 0.4},
          .prepare = [batch, threads] {
            const auto own = std::make_shared<texts>(batch, threads);
            return task{.call = [own] { own->next(); }};
          }};
      add(r);
    }
  }
}

}  // namespace bench
