// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/decimal.hpp>
#include <lightnet/core/error.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// How images become noise (DDPM, arXiv 2006.11239): in so many steps, whose variances beta grow evenly.
struct diffusion_options {
  std::int64_t steps = 1000;
  double first_beta = 1e-4, last_beta = 0.02;

  /// Throws value_error for numbers that make no diffusion.
  void check() const {
    if (steps < 1 || steps > 1'000'000) {
      throw value_error("diffusion", "steps", "1 to 1000000", std::to_string(steps));
    }
    if (!(first_beta > 0 && first_beta <= last_beta && last_beta < 1)) {
      throw value_error("diffusion", "first_beta, last_beta", "above 0, growing, below 1",
                        detail::decimal(first_beta) + ", " + detail::decimal(last_beta));
    }
  }
};

/// The shares of image and noise after each step t = 0, 1, ..: x_t = sqrt(A_t) x + sqrt(1 - A_t) noise, A_t the product of
/// 1 - beta_s over s <= t, so that noise and pixels of variance 1 keep it. Before the first step, at t = -1, all is image.
class diffusion {
 public:
  /// Throws value_error for options that make no diffusion.
  explicit diffusion(const diffusion_options& options = {}) {
    options.check();
    const auto last = static_cast<double>(options.steps > 1 ? options.steps - 1 : 1);
    long double product = 1;
    for (std::int64_t t = 0; t < options.steps; ++t) {
      const double share = static_cast<double>(t) / last;
      product *= 1 - (options.first_beta + (options.last_beta - options.first_beta) * share);
      shares_.push_back({static_cast<double>(std::sqrt(product)), static_cast<double>(std::sqrt(1 - product))});
    }
  }

  struct shares {
    double image = 1, noise = 0;
  };

  std::int64_t steps() const noexcept { return static_cast<std::int64_t>(shares_.size()); }
  /// At t = -1 to steps - 1.
  shares operator[](std::int64_t t) const noexcept { return t < 0 ? shares{} : shares_[static_cast<std::size_t>(t)]; }

 private:
  std::vector<shares> shares_;
};

LIGHTNET_END_NAMESPACE
