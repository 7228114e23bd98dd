// SPDX-License-Identifier: Apache-2.0
// Views of Eigen's tensors and Eigen's tensor maps of views: the same memory, both ways.
#include <lightnet/eigen_tensor.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {
namespace ln = lightnet;
}

TEST_CASE("an Eigen tensor of either order is a view without a copy") {
  Eigen::Tensor<double, 3> columns(2, 3, 5);
  Eigen::Tensor<double, 3, Eigen::RowMajor> rows(2, 3, 5);
  const auto of_columns = ln::view_of_tensor(columns);
  const auto of_rows = ln::view_of_tensor(rows);
  CHECK(of_columns.extents() == std::array<std::int64_t, 3>{2, 3, 5});
  CHECK(of_columns.strides() == std::array<std::int64_t, 3>{1, 2, 6});
  CHECK(of_rows.strides() == std::array<std::int64_t, 3>{15, 5, 1});
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 5; ++k) {
        CHECK(&columns(i, j, k) == &of_columns(i, j, k));
        CHECK(&rows(i, j, k) == &of_rows(i, j, k));
      }
    }
  }
  const auto& constant = rows;
  static_assert(std::is_same_v<decltype(ln::view_of_tensor(constant))::element_type, const double>);
  static_assert(std::is_same_v<decltype(ln::view_of_tensor(rows))::element_type, double>);
}

TEST_CASE("a dense view is an Eigen tensor map without a copy, another one is refused") {
  std::vector<float> memory(2 * 3 * 5);
  const ln::dynamic_view<3, float> view{memory.data(), {{2, 3, 5}}};
  auto map = ln::tensor_map_of(view);
  CHECK(map.data() == memory.data());
  map(1, 2, 3) = 7;
  CHECK(view(1, 2, 3) == 7);
  CHECK(ln::view_of_tensor(map).data() == memory.data());
  const ln::dynamic_view<3, const float> constant = view;
  const auto map_of_constant = ln::tensor_map_of(constant);
  CHECK(map_of_constant(1, 2, 3) == 7);
  CHECK(map_of_constant.dimension(2) == 5);
  std::string message;
  try {
    static_cast<void>(ln::tensor_map_of(view.slice(2, 0, 4)));
  } catch (const ln::shape_error& error) {
    message = error.what();
  }
  CHECK(message == "lightnet: tensor_map_of: view: expected a dense view, got [2, 3, 4] with strides [15, 5, 1]");
}
