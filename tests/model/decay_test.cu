// SPDX-License-Identifier: Apache-2.0
// Attention with the decays of the paper's baselines on the GPU.
#include <lightnet/model/attention.hpp>
#include <lightnet/recurrence.hpp>

#include "device_model.cuh"

namespace {

namespace ln = lightnet;

template <class Recurrence, class Traversal>
struct with : ln::attention_options {
  static constexpr int width = 22, heads = 2, decay_rank = 5;
  using recurrence = Recurrence;
  using traversal = Traversal;
};
template <class Recurrence, class Traversal>
struct attentions {
  template <class Device>
  struct of {
    using type = ln::attention<with<Recurrence, Traversal>, 2, double, Device>;
  };
};

template <class Recurrence, class Traversal>
void check_attention(const ln::grid<2>& where, bool masked) {
  check::model(check::tokens_question<attentions<Recurrence, Traversal>::template of, 2, double>{where, 3, masked},
               std::string{Recurrence::name} + " " + Traversal::name + (masked ? " masked" : ""), 1e-11);
}

}  // namespace

TEST_CASE("attention with a decay on the GPU is the CPU's, from a graph as well") {
  check_attention<ln::constant_decay, ln::bidirectional>({{3, 7}, 1, {}}, true);
  check_attention<ln::scalar_decay, ln::causal>({{3, 7}, 2, {}}, true);
  check_attention<ln::vector_decay, ln::axial>({{5, 7}, 0, {}}, false);
  check_attention<ln::hgrn2, ln::causal>({{3, 7}, 0, {}}, true);
}

TEST_CASE("attention with logits of its own on the GPU is the CPU's, from a graph as well") {
  check_attention<ln::additive_gated, ln::global>({{3, 7}, 0, {}}, true);
  check_attention<ln::additive_plain, ln::causal>({{3, 7}, 1, {}}, false);
}
