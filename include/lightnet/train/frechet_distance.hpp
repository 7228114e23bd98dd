// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/eigen.hpp>

#include <Eigen/Eigenvalues>

#include <string>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// What a normal distribution keeps of some features: their mean, and their covariance without bias.
struct feature_moments {
  Eigen::VectorXd mean;
  Eigen::MatrixXd covariance;

  template <class T>
  explicit feature_moments(const dynamic_view<2, const T, cpu>& features) {
    Eigen::MatrixXd x = map_of(features).template cast<double>();
    mean = x.colwise().mean();
    x.rowwise() -= mean.transpose();
    covariance = x.transpose() * x / static_cast<double>(features.extent(0) - 1);
  }
};

/// The square root of a symmetric matrix without negative eigenvalues, but for those of rounding.
inline Eigen::MatrixXd matrix_square_root(const Eigen::MatrixXd& matrix) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver{matrix};
  return solver.eigenvectors() * solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal() *
         solver.eigenvectors().transpose();
}

}  // namespace detail

/// The Frechet distance of two sets of features, which tells how far generated images are from real ones (arXiv 1706.08500):
///   |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)
/// with the means m and covariances C of normal distributions. a [n, F], b [m, F], on the host; sums are in double. Throws
/// shape_error for features of two widths, or of fewer than two items.
template <class T>
double frechet_distance(const dynamic_view<2, const T, cpu>& a, const dynamic_view<2, const T, cpu>& b) {
  for (const auto& features : {a, b}) {
    if (features.extent(0) < 2 || features.extent(1) != a.extent(1)) {
      throw shape_error("frechet_distance", "a, b", "two items or more, as wide as " + a.describe(),
                        features.describe());
    }
  }
  const detail::feature_moments of_a{a}, of_b{b};
  const Eigen::MatrixXd root = detail::matrix_square_root(of_a.covariance);
  return (of_a.mean - of_b.mean).squaredNorm() + of_a.covariance.trace() + of_b.covariance.trace() -
         2 * detail::matrix_square_root(root * of_b.covariance * root).trace();
}

LIGHTNET_END_NAMESPACE
