// SPDX-License-Identifier: Apache-2.0
// Gradients by finite differences in double, and a record of how well everything that was checked agreed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace oracle {

struct gradient_options {
  std::size_t samples = 0;    // entries to check, drawn without repetition; 0: all
  double step = 0x1p-8;       // a power of two, so that x + step is exact; smaller where the loss is wilder than e^x
  double smallest_scale = 0;  // errors are relative to at least this: for tensors whose gradient is nothing but noise
  std::uint64_t seed = 1;
};

struct gradient_totals {
  std::size_t tensors = 0;
  std::size_t entries = 0;
  double worst = 0;
  std::string worst_name = "none";
};

// Everything that check_gradient has seen in this program.
inline gradient_totals& gradient_record() {
  static gradient_totals record;
  return record;
}

inline std::string gradient_report() {
  const gradient_totals& record = gradient_record();
  std::ostringstream line;
  line << "gradients: " << record.entries << " entries of " << record.tensors << " tensors, worst error "
       << record.worst << " (" << record.worst_name << ")";
  return line.str();
}

// The derivative of loss by x[entry] from 6 points; its error is step^6 / 140 times the seventh derivative.
// At -inf it is 0: a logit or a log decay that is -inf does not matter.
template <class Loss>
double numeric_derivative(const Loss& loss, std::vector<double> x, std::size_t entry, double step = 0x1p-8) {
  const double centre = x[entry];
  if (std::isinf(centre)) return 0;
  const auto difference = [&](double distance) {
    x[entry] = centre + distance;
    const long double above = loss(std::as_const(x));
    x[entry] = centre - distance;
    const long double below = loss(std::as_const(x));
    return above - below;
  };
  return static_cast<double>((45 * difference(step) - 9 * difference(2 * step) + difference(3 * step)) /
                             (60 * static_cast<long double>(step)));
}

// loss(const std::vector<double>&) at x, whose gradient should be `analytic`. Returns the largest
// |difference| / (largest |gradient| of the tensor), infinite where a number is not finite, and records it.
template <class Loss>
double check_gradient(const std::string& name, const Loss& loss, const std::vector<double>& x,
                      const std::vector<double>& analytic, const gradient_options& options = {}) {
  if (x.size() != analytic.size()) throw std::invalid_argument("check_gradient: " + name + " has the wrong size");
  std::vector<std::size_t> entries(x.size());
  std::iota(entries.begin(), entries.end(), std::size_t{0});
  if (options.samples != 0 && options.samples < x.size()) {
    std::mt19937_64 random(options.seed);
    for (std::size_t n = 0; n < options.samples; ++n)
      std::swap(entries[n], entries[n + static_cast<std::size_t>(random() % (x.size() - n))]);
    entries.resize(options.samples);
  }

  double scale = options.smallest_scale;
  double largest_difference = 0;
  bool finite = true;
  for (const double g : analytic) {
    finite = finite && std::isfinite(g);
    scale = std::max(scale, std::abs(g));
  }
  for (const std::size_t entry : entries) {
    const double numeric = numeric_derivative(loss, x, entry, options.step);
    finite = finite && std::isfinite(numeric);
    scale = std::max(scale, std::abs(numeric));
    largest_difference = std::max(largest_difference, std::abs(numeric - analytic[entry]));
  }
  const double error = !finite                   ? std::numeric_limits<double>::infinity()
                       : largest_difference == 0 ? 0
                                                 : largest_difference / scale;

  gradient_totals& record = gradient_record();
  record.tensors += 1;
  record.entries += entries.size();
  if (error > record.worst) {
    record.worst = error;
    record.worst_name = name;
  }
  return error;
}

}  // namespace oracle
