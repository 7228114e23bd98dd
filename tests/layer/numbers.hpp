// SPDX-License-Identifier: Apache-2.0
// Numbers for the tests of layers and models: random ones, NaN to start outputs with, views of them, sums of them.
#pragma once

#include <lightnet/core/view.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace numbers {

namespace ln = lightnet;

template <class T>
using list = std::vector<T>;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Normal numbers, the same for the same seed.
inline list<double> normal(std::int64_t count, std::uint64_t seed, double scale = 1, double shift = 0) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> draw;
  list<double> x(static_cast<std::size_t>(count));
  for (double& a : x) a = shift + scale * draw(random);
  return x;
}

// What every output starts as.
template <class T = double>
list<T> unwritten(std::int64_t count) {
  return list<T>(static_cast<std::size_t>(count), std::numeric_limits<T>::quiet_NaN());
}

template <class To, class From>
list<To> cast(const list<From>& x) {
  list<To> y;
  for (const From a : x) y.push_back(static_cast<To>(a));
  return y;
}

template <int Rank, class T>
ln::dynamic_view<Rank, T> view_of(list<T>& x, const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& extents) {
  return {x.data(), extents};
}
template <int Rank, class T>
ln::dynamic_view<Rank, const T> view_of(const list<T>& x,
                                        const std::array<std::int64_t, static_cast<std::size_t>(Rank)>& extents) {
  return {x.data(), extents};
}

template <class T>
bool same_bits(const list<T>& a, const list<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The loss of a gradient check: a sum of the outputs with fixed weights, which are then the incoming gradient.
inline long double weighted_sum(const list<double>& y, const list<double>& weights) {
  long double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += static_cast<long double>(y[i]) * weights[i];
  return sum;
}

// The largest |a - b|, infinite where one is not finite.
inline double largest_difference(const list<double>& a, const list<double>& b) {
  double worst = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    worst = std::isfinite(difference) ? std::max(worst, difference) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

// The sentence of what a call throws, which has to be of type Error; empty where it throws nothing.
template <class Error, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace numbers
