// SPDX-License-Identifier: Apache-2.0
// The layers in plain double. x: [rows, width], row-major; weights: [out, in].
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace oracle {

inline double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

inline std::vector<double> sigmoid(std::vector<double> x) {
  for (double& a : x) a = sigmoid(a);
  return x;
}

inline std::vector<double> silu(std::vector<double> x) {
  for (double& a : x) a *= sigmoid(a);
  return x;
}

inline std::vector<double> multiply(std::vector<double> x, const std::vector<double>& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= y[i];
  return x;
}

inline std::vector<double> add(std::vector<double> x, const std::vector<double>& y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  return x;
}

// y = x W^T + bias; an empty bias is none.
inline std::vector<double> linear(const std::vector<double>& x, const std::vector<double>& w, std::size_t in,
                                  const std::vector<double>& bias = {}) {
  const std::size_t rows = x.size() / in;
  const std::size_t out = w.size() / in;
  std::vector<double> y;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t o = 0; o < out; ++o) {
      double sum = bias.empty() ? 0 : bias[o];
      for (std::size_t i = 0; i < in; ++i) sum += x[r * in + i] * w[o * in + i];
      y.push_back(sum);
    }
  return y;
}

// x / sqrt(mean of x^2 + eps) * weight, row by row. For one norm in each head, `width` is a head's and the weight,
// [heads * width], goes on from row to row. An empty weight is 1.
inline std::vector<double> rms_norm(std::vector<double> x, std::size_t width, const std::vector<double>& weight = {},
                                    double eps = 1e-5) {
  for (std::size_t start = 0; start < x.size(); start += width) {
    double squares = 0;
    for (std::size_t i = start; i < start + width; ++i) squares += x[i] * x[i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + eps);
    for (std::size_t i = start; i < start + width; ++i)
      x[i] *= scale * (weight.empty() ? 1 : weight[i % weight.size()]);
  }
  return x;
}

// RMSNorm(o) * silu(u)
inline std::vector<double> norm_then_gate(const std::vector<double>& o, const std::vector<double>& u, std::size_t width,
                                          const std::vector<double>& weight = {}, double eps = 1e-5) {
  return multiply(rms_norm(o, width, weight, eps), silu(u));
}

// RMSNorm(o * sigmoid(u))
inline std::vector<double> gate_then_norm(const std::vector<double>& o, const std::vector<double>& u, std::size_t width,
                                          const std::vector<double>& weight = {}, double eps = 1e-5) {
  return rms_norm(multiply(o, sigmoid(u)), width, weight, eps);
}

// W_3 (silu(W_1 x) * (W_2 x))
inline std::vector<double> glu(const std::vector<double>& x, const std::vector<double>& w1,
                               const std::vector<double>& w2, const std::vector<double>& w3, std::size_t width) {
  return linear(multiply(silu(linear(x, w1, width)), linear(x, w2, width)), w3, w1.size() / width);
}

// Mean over the rows of log sum_c e^{x_c} - x_label; rows with a negative label do not count.
inline double cross_entropy(const std::vector<double>& logits, const std::vector<std::int64_t>& labels) {
  const std::size_t classes = logits.size() / labels.size();
  double sum = 0;
  double count = 0;
  for (std::size_t r = 0; r < labels.size(); ++r) {
    if (labels[r] < 0) continue;
    const double* x = logits.data() + r * classes;
    const double top = *std::max_element(x, x + classes);
    double total = 0;
    for (std::size_t c = 0; c < classes; ++c) total += std::exp(x[c] - top);
    sum += top + std::log(total) - x[labels[r]];
    count += 1;
  }
  return count > 0 ? sum / count : 0;
}

}  // namespace oracle
