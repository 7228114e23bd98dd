// SPDX-License-Identifier: Apache-2.0
// Attention with the decays of the paper's baselines on the GPU, and with logits of its own.
#include <lightnet/model/attention.hpp>
#include <lightnet/position/md_lrpe.hpp>

#include "on_gpu.cuh"

namespace {

namespace ln = lightnet;

template <class Recurrence, class Traversal, class Position = ln::no_position>
struct with : ln::attention_options {
  static constexpr int width = 10, heads = 2, gate_rank = 9, decay_rank = 7;
  using recurrence = Recurrence;
  using traversal = Traversal;
  using position = Position;
};

template <class Options>
void check_attention(const ln::grid<2>& where, bool masked) {
  check::tokens_on_gpu<ln::attention<Options, 2, double, ln::cuda>, 2> q(where, 3, masked);
  const std::string name = std::string{Options::recurrence::name} + " " + Options::traversal::name;
  check::model(q, name, reference::attention<Options>(q.parameters, "", q.x, q.places()), 4);
  check::graph(q);
}

}  // namespace

TEST_CASE("attention with a decay on the GPU is its formula, with the gradients of finite differences") {
  check_attention<with<ln::constant_decay, ln::bidirectional, ln::md_lrpe>>({{3, 5}, 1, {}}, true);
  check_attention<with<ln::scalar_decay, ln::causal>>({{3, 5}, 2, {}}, true);
  check_attention<with<ln::vector_decay, ln::axial>>({{5, 7}, 0, {}}, false);
  check_attention<with<ln::hgrn2, ln::causal>>({{3, 5}, 0, {}}, true);
  MESSAGE(oracle::gradient_report());
}

TEST_CASE("attention with logits of its own on the GPU is its formula, with the gradients of finite differences") {
  check_attention<with<ln::additive_gated, ln::global>>({{3, 5}, 0, {}}, true);
  check_attention<with<ln::additive_plain, ln::causal>>({{3, 5}, 1, {}}, false);
  MESSAGE(oracle::gradient_report());
}
