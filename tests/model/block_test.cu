// SPDX-License-Identifier: Apache-2.0
// GLU and the block of the paper on the GPU: additive, one global scan, MD-LRPE with learned theta, mask, prefix, offset.
#include <lightnet/model/block.hpp>
#include <lightnet/position/md_lrpe.hpp>

#include "on_gpu.cuh"

namespace {

namespace ln = lightnet;

struct paper : ln::block_options {
  static constexpr int width = 10, heads = 2, inner = 7, gate_rank = 3;
  static constexpr bool learned_theta = true, theta_per_head = true, norm_per_head = true;
  using position = ln::md_lrpe;
};
struct rotated : ln::block_options {
  static constexpr int width = 14, heads = 2, inner = 11;
  using position = ln::md_lrpe_rotate;
};

template <class Options>
void check_block(const std::string& name, const ln::grid<2>& where, std::int64_t batch, bool masked) {
  check::tokens_on_gpu<ln::block<Options, 2, double, ln::cuda>, 2> q(where, batch, masked);
  check::model(q, name, reference::block<Options>(q.parameters, "", q.x, q.places()), 4);
  check::graph(q);
}

}  // namespace

TEST_CASE("a block on the GPU is its formula, with the gradients of finite differences, from a graph as well") {
  check_block<paper>("learned theta", {{3, 7}, 0, {}}, 3, false);
  check_block<paper>("learned theta, mask, prefix, offset", {{3, 7}, 2, {4, 1}}, 3, true);
  check_block<rotated>("rotated", {{5, 3}, 1, {}}, 5, true);
  MESSAGE(oracle::gradient_report());
}
