// SPDX-License-Identifier: Apache-2.0
#pragma once

// The table that compares mixers.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "common/text.hpp"
#include "picture.hpp"

namespace fashion_mnist {

/// What came out of one training.
struct trial {
  std::int64_t parameters;
  double accuracy;           // on the test images, a share
  double images_per_second;  // of training
  double milliseconds;       // of one call of a mixer
};

/// A row of the table: a mixer and its trainings, one a seed.
struct comparison_row {
  std::string name, mixer;
  int scans;
  std::vector<trial> trials;
};

/// The mean accuracy of trainings, one or more: a share.
inline double mean_accuracy(std::span<const trial> trials) {
  double sum = 0;
  for (const auto& one : trials) sum += one.accuracy;
  return sum / static_cast<double>(trials.size());
}

/// The one in the middle, or the mean of the two there.
inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  const auto half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// The comparison as a Markdown table: of the accuracies their mean and from where to where they go, of the times the
/// medians. Every row has one trial or more.
inline std::string comparison_table(std::span<const comparison_row> rows) {
  const auto text = [](const char* format, auto... values) {
    char line[64];
    std::snprintf(line, sizeof line, format, values...);
    return std::string{line};
  };
  std::string table =
      "| mixer | scans | parameters | test accuracy: mean (lowest to highest) | training, images/s | one call, ms |\n"
      "|---|---|---|---|---|---|\n";
  for (const auto& row : rows) {
    std::vector<double> accuracies, rates, calls;
    for (const auto& one : row.trials) {
      accuracies.push_back(100 * one.accuracy);
      rates.push_back(one.images_per_second);
      calls.push_back(one.milliseconds);
    }
    const auto [lowest, highest] = std::ranges::minmax(accuracies);
    table += "| " + row.mixer + " | " + std::to_string(row.scans) + " | " + grouped(row.trials.front().parameters) +
             " | " + text("%.2f %% (%.2f to %.2f)", 100 * mean_accuracy(row.trials), lowest, highest) + " | " +
             text("%.0f", median(rates)) + " | " + text("%.3f", median(calls)) + " |\n";
  }
  return table;
}

/// The mean accuracies as pairs, "accuracy_of_additive=0.8750 ...".
inline std::string comparison_pairs(std::span<const comparison_row> rows) {
  std::string pairs;
  for (const auto& row : rows) {
    pairs += (pairs.empty() ? "accuracy_of_" : " accuracy_of_") + row.name + "=" +
             examples::text("%.4f", mean_accuracy(row.trials));
  }
  return pairs;
}

}  // namespace fashion_mnist
