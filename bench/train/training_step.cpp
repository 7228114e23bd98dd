// SPDX-License-Identifier: Apache-2.0
#include "harness/row.hpp"
#include "rows.hpp"

#include <lightnet/backend/cpu/random.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/train/trainer.hpp>

#include <memory>
#include <utility>

namespace bench {

namespace ln = lightnet;

namespace {

constexpr std::int64_t batch = 64;
struct model_options : ln::image_classifier_options {
  static constexpr int inner = 128;
};
using model = ln::image_classifier<model_options, 2, float>;

class training {
 public:
  training() {
    ln::execution<ln::cpu> on;
    ln::fill_normal(on, ln::random_stream{1}, 0, images_.view().reshape(std::array{images_.size()}));
    for (std::int64_t i = 0; i < batch; ++i) labels_.data()[i] = static_cast<std::int32_t>(i % model::classes);
  }
  void step(ln::execution<ln::cpu>& on) {
    trainer_.step(on, std::as_const(images_).view(), std::as_const(labels_).view());
  }

  ln::execution<ln::cpu> one{1}, two{2};

 private:
  ln::tensor<ln::rank<4>, float> images_{{{batch, 28, 28, 1}}};
  ln::tensor<ln::rank<1>, std::int32_t> labels_{{{batch}}};
  ln::trainer<model> trainer_{model{}, {.schedule = {.shape = ln::learning_rate_schedule::shapes::constant}}};
};

}  // namespace

// A step of the demonstration's classifier: what a second thread is worth to a whole model.
void add_training_rows() {
  if (!has_threads) return;
  const row r{.name = "image_classifier/training_step/float/threads2",
              .tokens = batch,
              .threads = 2,
              .compared = {"over_one_thread", "one thread"},
              .prepare = [] {
                const auto own = std::make_shared<training>();
                return task{.call = [own] { own->step(own->two); },
                            .other = [own] { own->step(own->one); },
                            .other_tokens = static_cast<double>(batch)};
              }};
  add(r);
}

}  // namespace bench
