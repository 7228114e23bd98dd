// SPDX-License-Identifier: Apache-2.0
// Gradients by finite differences in double, and a record of how well everything that was checked agreed.
#pragma once

#include <algorithm>
#include <array>
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

#include "../few.hpp"

namespace oracle {

struct gradient_options {
  std::size_t samples = 0;    // entries to check, drawn without repetition; 0: all
  double step = 0x1p-8;       // a power of two, so that x + step is exact; smaller where the loss is wilder than e^x
  double smallest_scale = 0;  // errors are relative to at least this: for tensors whose gradient is nothing but noise
  std::uint64_t seed = 1;
  // Where the loss has a value: near an end of it the derivative is taken from one side.
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
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

namespace gradient_detail {

// The weights of the loss at x - 3 h .. x + 3 h, or at x .. x + 6 h, over 60 h. The error of the second is step^6 / 7
// times the seventh derivative.
struct stencil {
  double first;
  std::array<double, 7> weights;
};
constexpr stencil central{-3, {-1, 9, -45, 0, 45, -9, 1}};
constexpr stencil one_sided{0, {-147, 360, -450, 400, -225, 72, -10}};

// The stencil for an entry, as the number of the lists below: none at infinity.
enum class side { both, above, below, none };
inline side side_of(double x, const gradient_options& options) {
  if (std::isinf(x)) return side::none;
  if (x + 3 * options.step > options.high) return side::below;
  return x - 3 * options.step < options.low ? side::above : side::both;
}

// The numbers of the entries, all or a sample.
inline std::vector<std::size_t> chosen(std::size_t count, const gradient_options& options) {
  std::vector<std::size_t> entries(count);
  std::iota(entries.begin(), entries.end(), std::size_t{0});
  const std::size_t samples = often(options.samples == 0 ? count : options.samples);
  if (samples >= count) return entries;
  std::mt19937_64 random(options.seed);
  for (std::size_t n = 0; n < samples; ++n)
    std::swap(entries[n], entries[n + static_cast<std::size_t>(random() % (count - n))]);
  entries.resize(samples);
  return entries;
}

}  // namespace gradient_detail

// losses(const std::vector<double>&) at x: several that have nothing to do with each other, entry n of x belonging to
// loss lane(n) alone. One entry of each loss is moved at a time. `analytic` should be the gradient of their sum. Returns
// the largest |difference| / (largest |gradient| of the tensor), infinite where a number is not finite, and records it.
template <class Losses, class Lane>
double check_gradients_apart(const std::string& name, const Losses& losses, const Lane& lane,
                             const std::vector<double>& x, const std::vector<double>& analytic,
                             const gradient_options& options = {}) {
  using gradient_detail::side;
  if (x.size() != analytic.size()) throw std::invalid_argument("check_gradient: " + name + " has the wrong size");
  const std::vector<std::size_t> entries = gradient_detail::chosen(x.size(), options);
  std::vector<double> numeric(x.size(), 0.0);

  for (const side which : {side::both, side::above, side::below}) {
    const auto& stencil = which == side::both ? gradient_detail::central : gradient_detail::one_sided;
    const double step = which == side::below ? -options.step : options.step;
    std::vector<std::size_t> waiting;
    for (const std::size_t entry : entries)
      if (gradient_detail::side_of(x[entry], options) == which) waiting.push_back(entry);
    while (!waiting.empty()) {
      // As many as there are losses, each of another.
      std::vector<std::size_t> moved, later;
      std::vector<bool> taken;
      for (const std::size_t entry : waiting) {
        const std::size_t n = lane(entry);
        if (taken.size() <= n) taken.resize(n + 1);
        (taken[n] ? later : moved).push_back(entry);
        taken[n] = true;
      }
      waiting = later;
      std::vector<long double> sums(taken.size(), 0);
      std::vector<double> at = x;
      for (std::size_t point = 0; point < stencil.weights.size(); ++point) {
        if (stencil.weights[point] == 0) continue;
        for (const std::size_t entry : moved)
          at[entry] = x[entry] + (stencil.first + static_cast<double>(point)) * step;
        const auto values = losses(std::as_const(at));
        for (const std::size_t entry : moved)
          sums[lane(entry)] += stencil.weights[point] * static_cast<long double>(values.at(lane(entry)));
      }
      for (const std::size_t entry : moved)
        numeric[entry] = static_cast<double>(sums[lane(entry)] / (60 * static_cast<long double>(step)));
    }
  }

  double scale = options.smallest_scale;
  double largest_difference = 0;
  bool finite = true;
  for (const double g : analytic) {
    finite = finite && std::isfinite(g);
    scale = std::max(scale, std::abs(g));
  }
  for (const std::size_t entry : entries) {
    finite = finite && std::isfinite(numeric[entry]);
    scale = std::max(scale, std::abs(numeric[entry]));
    largest_difference = std::max(largest_difference, std::abs(numeric[entry] - analytic[entry]));
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

// The same for one loss.
template <class Loss>
double check_gradient(const std::string& name, const Loss& loss, const std::vector<double>& x,
                      const std::vector<double>& analytic, const gradient_options& options = {}) {
  return check_gradients_apart(
      name, [&](const std::vector<double>& at) { return std::array{loss(at)}; },
      [](std::size_t) { return std::size_t{0}; }, x, analytic, options);
}

}  // namespace oracle
