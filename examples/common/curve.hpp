// SPDX-License-Identifier: Apache-2.0
#pragma once

// The learning curve, as CSV for people and as numbers for checkpoints.

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <lightnet/core/error.hpp>
#include <lightnet/io/replace_file.hpp>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace examples {

/// One line of the curve; what is not a number was not measured, and stays empty in the file.
struct curve_point {
  std::int64_t epoch = 0;  // from 1
  std::int64_t step = 0;   // of the whole training, from 1
  double loss = 0;
  double train_accuracy = 0;  // 0 to 1
  double learning_rate = 0;
  double items_per_second = 0;
  double test_loss = std::numeric_limits<double>::quiet_NaN();      // where it was measured
  double test_accuracy = std::numeric_limits<double>::quiet_NaN();  // 0 to 1

  static constexpr std::size_t size = 8;
};

/// The curve as text: a line of names, then one line a point.
inline std::string curve_text(std::span<const curve_point> curve) {
  std::string text = "epoch,step,loss,train_accuracy,learning_rate,items_per_second,test_loss,test_accuracy\n";
  const auto append = [&text](auto value, char end) {
    std::array<char, 32> digits{};
    const auto result = std::to_chars(digits.data(), digits.data() + digits.size(), value);  // locales change nothing
    text.append(digits.data(), result.ptr).append(1, end);
  };
  const auto append_measured = [&](double value, char end) {
    if (std::isnan(value)) {
      text += end;
    } else {
      append(value, end);
    }
  };
  for (const auto& point : curve) {
    append(point.epoch, ',');
    append(point.step, ',');
    append_measured(point.loss, ',');
    append_measured(point.train_accuracy, ',');
    append_measured(point.learning_rate, ',');
    append_measured(point.items_per_second, ',');
    append_measured(point.test_loss, ',');
    append_measured(point.test_accuracy, '\n');
  }
  return text;
}

/// Replaces the file by the curve as CSV; throws lightnet::file_error, and then leaves the old file as it was.
inline void write_curve(const std::filesystem::path& path, std::span<const curve_point> curve) {
  lightnet::replace_file(path, curve_text(curve));
}

/// The curve as numbers for a checkpoint, in the order of the columns. // [points, 8]
inline std::vector<double> curve_values(std::span<const curve_point> curve) {
  std::vector<double> values;
  values.reserve(curve.size() * curve_point::size);
  for (const auto& point : curve) {
    values.insert(values.end(),
                  {static_cast<double>(point.epoch), static_cast<double>(point.step), point.loss, point.train_accuracy,
                   point.learning_rate, point.items_per_second, point.test_loss, point.test_accuracy});
  }
  return values;
}

/// The way back. A checkpoint is untrusted: throws value_error for counts that are none.
inline std::vector<curve_point> curve_from_values(std::span<const double> values) {
  if (values.size() % curve_point::size != 0) {
    throw lightnet::shape_error("curve_from_values", "values", "eight a point", std::to_string(values.size()));
  }
  const auto count = [](double value) {
    if (!(value >= 0 && value <= 1e15 && value == std::floor(value))) {
      throw lightnet::value_error("curve_from_values", "epoch, step", "counts", std::to_string(value));
    }
    return static_cast<std::int64_t>(value);
  };
  std::vector<curve_point> curve;
  curve.reserve(values.size() / curve_point::size);
  for (; !values.empty(); values = values.subspan(curve_point::size)) {
    curve.push_back(
        {count(values[0]), count(values[1]), values[2], values[3], values[4], values[5], values[6], values[7]});
  }
  return curve;
}

}  // namespace examples
