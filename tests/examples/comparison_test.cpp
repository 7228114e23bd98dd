// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "comparison.hpp"

TEST_CASE("comparison: means and ranges of accuracies, medians of times; pairs") {
  const std::vector<fashion_mnist::comparison_row> rows{
      {"one", "first", 1, {{94378, 0.88, 2000.4, 0.5}, {94378, 0.87, 3000, 0.7}, {94378, 0.875, 100, 0.1}}},
      {"two", "second", 4, {{7, 0.5, 10, 1}, {7, 0.25, 20, 3}}}};
  CHECK(fashion_mnist::comparison_table(rows) ==
        "| mixer | scans | parameters | test accuracy: mean (lowest to highest) | training, images/s | one call, ms |\n"
        "|---|---|---|---|---|---|\n"
        "| first | 1 | 94,378 | 87.50 % (87.00 to 88.00) | 2000 | 0.500 |\n"
        "| second | 4 | 7 | 37.50 % (25.00 to 50.00) | 15 | 2.000 |\n");
  CHECK(fashion_mnist::comparison_pairs(rows) == "accuracy_of_one=0.8750 accuracy_of_two=0.3750");
}
