// SPDX-License-Identifier: Apache-2.0

// One token of every sequence and head: its state, in float, is read and written once.

#include "cuda/row.cuh"

#include <lightnet/recurrence.hpp>

#include <memory>

namespace bench {
namespace {

constexpr std::int64_t batch = 64, heads = 16, width = 128;
using T = ln::bfloat16;

std::string name_of(const std::string& recurrence) { return recurrence + "/step/bfloat16/b64/t1/h16/d128"; }

/// A token, and the state that takes it in.
template <class R>
class token {
 public:
  void step(ln::execution<ln::cuda>& on) {
    ln::scan_inputs<R, 1, T, ln::cuda> inputs{.q = q_.view(), .v = v_.view()};
    if constexpr (R::kappa != ln::kappa_of::complement) inputs.k = k_.view();
    if constexpr (R::logits == ln::logits_from::tokens) {
      if constexpr (R::weight == ln::weight_of::inverse_decay) {
        inputs.log_decay = decays_.view();
      } else {
        inputs.logits = logits_.view();
      }
    }
    ln::scan_step<R, ln::no_position, 1, T>(on, inputs, {.o = o_.view(), .state = state_.view()});
  }

 private:
  using numbers = ln::tensor<ln::rank<4>, T, ln::cuda>;
  static constexpr std::int64_t weights = R::per_channel ? width : 1;

  numbers q_{normal<T>(1, batch, std::int64_t{1}, heads, width)},
      k_{normal<T>(2, batch, std::int64_t{1}, heads, width)}, v_{normal<T>(3, batch, std::int64_t{1}, heads, width)},
      logits_{normal<T>(4, batch, std::int64_t{1}, heads, weights)},
      decays_{log_decays<T>(5, batch, std::int64_t{1}, heads, weights)}, o_{q_.view().extents()};
  ln::state_tensors<R, T, ln::cuda> state_{batch, heads, width, width, width};
};

template <class R>
void add_step() {
  constexpr auto state = static_cast<double>(batch * heads * width * width);
  constexpr int matrices = R::weight == ln::weight_of::running_sum ? 2 : 1;
  add({name_of(R::name), 2 * sizeof(float) * matrices * state, 4 * state, [] {
         const auto own = std::make_shared<token<R>>();
         return [own](ln::execution<ln::cuda>& on) { own->step(on); };
       }});
}

void add_elementwise_step() {
  using R = ln::elementwise;
  constexpr auto size = static_cast<double>(batch * heads * width);
  add({name_of(R::name), size * (3 * sizeof(T) + 2 * sizeof(float)), 2 * size, [] {
         using numbers = ln::tensor<ln::rank<4>, T, ln::cuda>;
         const auto x = std::make_shared<numbers>(normal<T>(1, batch, std::int64_t{1}, heads, width));
         const auto decay = std::make_shared<numbers>(log_decays<T>(2, batch, std::int64_t{1}, heads, width));
         const auto o = std::make_shared<numbers>(x->view().extents());
         const auto h = std::make_shared<ln::tensor<ln::rank<3>, float, ln::cuda>>(ln::rank<3>{{batch, heads, width}});
         return [x, decay, o, h](ln::execution<ln::cuda>& on) {
           ln::scan_step<R, ln::no_position, 1, T>(on, {.x = x->view(), .log_decay = decay->view()},
                                                   {.o = o->view(), .state = {h->view(), {}}});
         };
       }});
}

}  // namespace

void add_step_rows() {
  add_step<ln::additive>();
  add_step<ln::additive_gated>();
  add_step<ln::additive_plain>();
  add_step<ln::constant_decay>();
  add_step<ln::scalar_decay>();
  add_step<ln::vector_decay>();
  add_step<ln::hgrn2>();
  add_elementwise_step();
}

}  // namespace bench
