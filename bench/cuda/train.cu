// SPDX-License-Identifier: Apache-2.0

// A training step of the paper's language model of 385 million parameters, in turns with a product of large matrices.

#include "cuda/row.cuh"

#include <lightnet/model/paper_language_models.hpp>
#include <lightnet/train/presets.hpp>
#include <lightnet/train/trainer.hpp>

#include <memory>
#include <utility>

namespace bench {
namespace {

using T = ln::bfloat16;
using model = ln::causal_language_model<ln::language_model_385m, 1, T, ln::cuda>;
constexpr std::int64_t batch = 16, tokens = 2048;

/// A batch of texts, each token the label of the one before.
class training {
 public:
  training() {
    trainer_.set_parameters(drawn_parameters<float>(model{}));
    ln::tensor<ln::rank<2>, std::int32_t> text{{{batch, tokens}}};
    for (std::int64_t i = 0; i < text.size(); ++i) {
      text.data()[i] = static_cast<std::int32_t>(i * 7919 % model::vocabulary);
    }
    text_ = ln::transfer<ln::cuda>(text);
  }
  void step(ln::execution<ln::cuda>& on) {
    trainer_.compute_step(on, std::as_const(text_).view(), std::as_const(text_).view());
  }

 private:
  static ln::trainer_options options() {
    auto chosen = ln::paper_language_model(batch);
    chosen.batch = chosen.shard = batch;
    return chosen;
  }

  ln::tensor<ln::rank<2>, std::int32_t, ln::cuda> text_;  // [B, N]
  ln::trainer<undrawn<model>, T, ln::cuda> trainer_{{}, options()};
};

}  // namespace

void add_training_rows() {
  // Six multiply-adds' operations a weight and token, the embedding's as the head's; the recurrences besides.
  using options = ln::language_model_385m;
  constexpr double head = options::width / options::heads, count = batch * tokens;
  constexpr double state = options::layers * options::heads * 2 * head * head;  // MD-LRPE doubles the keys
  constexpr auto parameters = static_cast<double>(model::parameter_count);
  add({.name = "language_model_385m/training_step/bfloat16/b16/t2048",
       .bytes = parameters * (6 * sizeof(float) + sizeof(T)),  // master and moments in and out, rounded parameters
       .work = count * (6 * parameters + 14 * state),
       .prepare =
           [] {
             const auto own = std::make_shared<training>();
             return [own](ln::execution<ln::cuda>& on) { own->step(on); };
           },
       .compared = {matrix_product::work, matrix_product::prepare},
       .calls = 5});
}

}  // namespace bench
