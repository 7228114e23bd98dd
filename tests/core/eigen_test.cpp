// SPDX-License-Identifier: Apache-2.0
// Views of Eigen's matrices and Eigen's maps of views: the same memory, both ways.
#include <lightnet/eigen.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace {

namespace ln = lightnet;

// Whether both see the same elements at the same addresses.
template <class Matrix, class View>
bool same_memory(Matrix& matrix, const View& view) {
  if (matrix.rows() != view.extent(0) || matrix.cols() != view.extent(1)) return false;
  for (Eigen::Index r = 0; r < matrix.rows(); ++r) {
    for (Eigen::Index c = 0; c < matrix.cols(); ++c) {
      if (&matrix.coeffRef(r, c) != &view(r, c)) return false;
    }
  }
  return true;
}

template <class T>
std::string message_of(const T& call) {
  try {
    call();
  } catch (const ln::shape_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("an Eigen matrix of either order is a view without a copy") {
  Eigen::MatrixXd columns = Eigen::MatrixXd::Random(3, 5);
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = decltype(rows)::Random(3, 5);
  const auto of_columns = ln::view_of(columns);
  const auto of_rows = ln::view_of(rows);
  CHECK(same_memory(columns, of_columns));
  CHECK(of_columns.strides() == std::array<std::int64_t, 2>{1, 3});
  CHECK(!of_columns.contiguous());
  CHECK(same_memory(rows, of_rows));
  CHECK(of_rows.strides() == std::array<std::int64_t, 2>{5, 1});
  CHECK(of_rows.contiguous());
  of_columns(2, 4) = 7;
  CHECK(columns(2, 4) == 7);

  const Eigen::MatrixXd& constant = columns;
  static_assert(std::is_same_v<decltype(ln::view_of(constant))::element_type, const double>);
  static_assert(std::is_same_v<decltype(ln::view_of(columns))::element_type, double>);
  CHECK(ln::view_of(constant).data() == columns.data());
}

TEST_CASE("blocks, transposes, vectors and maps of Eigen are views without a copy") {
  Eigen::MatrixXd matrix = Eigen::MatrixXd::Random(7, 5);
  auto block = matrix.block(1, 2, 4, 3);
  CHECK(same_memory(block, ln::view_of(block)));
  auto turned = matrix.transpose();
  CHECK(same_memory(turned, ln::view_of(turned)));
  Eigen::VectorXf vector = Eigen::VectorXf::Random(6);
  CHECK(same_memory(vector, ln::view_of(vector)));
  Eigen::RowVectorXf row = Eigen::RowVectorXf::Random(6);
  CHECK(same_memory(row, ln::view_of(row)));
  std::vector<float> memory(40);
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> map(
      memory.data(), 3, 4, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(9, 2));
  CHECK(same_memory(map, ln::view_of(map)));
  const std::vector<float> fixed(12);
  Eigen::Map<const Eigen::MatrixXf> constant(fixed.data(), 3, 4);
  static_assert(std::is_same_v<decltype(ln::view_of(constant))::element_type, const float>);
  CHECK(ln::view_of(constant).data() == fixed.data());
}

TEST_CASE("extents that are known at compile time stay known, both ways") {
  Eigen::Matrix<double, 3, Eigen::Dynamic> half(3, 5);
  using shape = decltype(ln::view_of(half))::shape_type;
  static_assert(shape::static_extent(0) == 3 && shape::static_extent(1) == ln::dynamic);
  auto back = ln::map_of(ln::view_of(half));
  static_assert(decltype(back)::RowsAtCompileTime == 3 && decltype(back)::ColsAtCompileTime == Eigen::Dynamic);
  CHECK(same_memory(back, ln::view_of(half)));

  std::vector<double> memory(12);
  auto column = ln::map_of(ln::view<ln::extents<4, 1>, double>(memory.data(), {}));
  static_assert(decltype(column)::RowsAtCompileTime == 4 && decltype(column)::ColsAtCompileTime == 1);
  auto row = ln::map_of(ln::view<ln::extents<1, 4>, double>(memory.data(), {}));
  static_assert(decltype(row)::RowsAtCompileTime == 1 && decltype(row)::ColsAtCompileTime == 4);
  auto one = ln::map_of(ln::view<ln::extents<1, 1>, double>(memory.data(), {}));
  CHECK(same_memory(column, ln::view<ln::extents<4, 1>, double>(memory.data(), {})));
  CHECK(same_memory(row, ln::view<ln::extents<1, 4>, double>(memory.data(), {})));
  CHECK(one.data() == memory.data());
}

TEST_CASE("a view of any strides is an Eigen map without a copy") {
  std::vector<double> memory(200);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<double>(i);
  const std::array<std::array<std::int64_t, 2>, 4> strides = {{{5, 1}, {1, 3}, {11, 2}, {2, 9}}};
  for (const auto& stride : strides) {
    const ln::dynamic_view<2, double> view{memory.data(), {{3, 5}}, stride};
    auto map = ln::map_of(view);
    CHECK(same_memory(map, view));
    map(1, 4) = -1;
    CHECK(view(1, 4) == -1);
  }
  // A column with room between its elements, its length known and not.
  const ln::view<ln::extents<4, 1>, double> spread{memory.data(), {}, {3, 1}};
  auto column = ln::map_of(spread);
  CHECK(same_memory(column, spread));
  const ln::dynamic_view<1, double> line{memory.data(), {{6}}, {7}};
  auto vector = ln::map_of(line);
  static_assert(decltype(vector)::IsVectorAtCompileTime);
  REQUIRE(vector.size() == 6);
  for (Eigen::Index i = 0; i < 6; ++i) CHECK(&vector.coeffRef(i) == &line(i));
  const ln::dynamic_view<2, const double> constant{memory.data(), {{3, 5}}};
  CHECK(ln::map_of(constant).data() == memory.data());
  CHECK(ln::map_of(constant).sum() == doctest::Approx(ln::map_of(constant).eval().sum()));
}

TEST_CASE("a view that Eigen cannot hold is refused") {
  std::vector<double> memory(20);
  const ln::dynamic_view<2, double> view{memory.data(), {{3, 5}}};
  CHECK(message_of([&] { static_cast<void>(ln::map_of(view.reverse(1))); }) ==
        "lightnet: map_of: view: expected no negative stride, got [3, 5] with strides [5, -1]");
  CHECK(message_of([&] { static_cast<void>(ln::map_of(view.reverse(0))); }) ==
        "lightnet: map_of: view: expected no negative stride, got [3, 5] with strides [-5, 1]");
  CHECK(!message_of([&] {
           static_cast<void>(ln::map_of(ln::dynamic_view<1, double>{memory.data() + 9, {{5}}, {-2}}));
         }).empty());
}
