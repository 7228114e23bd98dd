// SPDX-License-Identifier: Apache-2.0
#include "limits/rates.hpp"
#include "limits/stopwatch.hpp"

#include <lightnet/backend/cpu/eigen.hpp>

namespace bench {

double sgemm_rate() {
  constexpr Eigen::Index size = 512;
  static const Eigen::MatrixXf a = Eigen::MatrixXf::Random(size, size), b = Eigen::MatrixXf::Random(size, size);
  static Eigen::MatrixXf c = Eigen::MatrixXf::Zero(size, size);
  Eigen::setNbThreads(1);
  const double taken = seconds([] { c.noalias() = a * b; });
  Eigen::setNbThreads(0);  // as many as OpenMP says, as before
  return 2.0 * size * size * size / taken;
}

}  // namespace bench
