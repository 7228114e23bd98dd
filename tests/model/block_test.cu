// SPDX-License-Identifier: Apache-2.0
// A block of the paper on the GPU: additive, one global scan, MD-LRPE with learned theta, mask, prefix and offset.
#include <lightnet/model/block.hpp>
#include <lightnet/position/md_lrpe.hpp>

#include "device_model.cuh"

namespace {

namespace ln = lightnet;

struct paper : ln::block_options {
  static constexpr int width = 26, heads = 2, inner = 19, gate_rank = 3;
  static constexpr bool learned_theta = true, theta_per_head = true, norm_per_head = true;
  using position = ln::md_lrpe;
};
struct fixed_theta : ln::block_options {
  static constexpr int width = 26, heads = 2, inner = 19;
  using position = ln::md_lrpe_rotate;
};
template <class Options, class T>
struct blocks {
  template <class Device>
  struct of {
    using type = ln::block<Options, 2, T, Device>;
  };
};
template <class Options, class T>
using question = check::tokens_question<blocks<Options, T>::template of, 2, T>;

}  // namespace

TEST_CASE("a block on the GPU is the CPU's, from a graph as well") {
  check::model(question<paper, double>{{{3, 7}, 0, {}}, 3, false}, "learned theta", 1e-11);
  check::model(question<paper, double>{{{3, 7}, 2, {4, 1}}, 3, true}, "learned theta, mask, prefix, offset", 1e-11);
  check::model(question<fixed_theta, double>{{{5, 3}, 1, {}}, 5, true}, "rotated", 1e-11);
  check::model(question<paper, float>{{{3, 7}, 2, {}}, 3, true}, "learned theta in float", 1e-4);
}
