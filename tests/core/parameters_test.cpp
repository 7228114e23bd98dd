// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <lightnet/backend/cpu/execution.hpp>
#include <lightnet/core/parameters.hpp>
#include <string>
#include <vector>

namespace ln = lightnet;

namespace {

struct small {
  static constexpr std::int64_t parameter_count = 3 * 1000 + 7 + 2 * 5;
  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    list.push_back({prefix + "weight", {3, 1000}, offset, ln::initial_value::truncated_normal(0.02), true});
    list.push_back({prefix + "norm.weight", {7}, offset + 3000, ln::initial_value::constant(1), false});
    list.push_back({prefix + "gamma", {2, 5}, offset + 3007, ln::initial_value::ramp(-0.5), false});
  }
};

/// Two of them, one behind the other.
struct pair {
  static constexpr std::int64_t parameter_count = 2 * small::parameter_count;
  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& list) const {
    small{}.describe(prefix + "0.", offset, list);
    small{}.describe(prefix + "1.", offset + small::parameter_count, list);
  }
};

std::vector<double> values(const ln::dynamic_view<1, const double>& view) {
  return {view.data(), view.data() + view.size()};
}

}  // namespace

TEST_CASE("parameter_block: a flat block with named parts") {
  auto block = ln::parameter_block<double>::of(pair{});
  CHECK(block.size() == pair::parameter_count);
  REQUIRE(block.index().size() == 6);
  CHECK(block.index()[3].name == "1.weight");
  CHECK(block.index()[3].offset == small::parameter_count);
  CHECK(block.index()[3].size() == 3000);
  CHECK(block.index()[3].decays);
  CHECK(std::ranges::all_of(values(block.view()), [](double x) { return x == 0; }));

  block["1.gamma"](9) = 4;
  CHECK(block.view()(block.size() - 1) == 4);
  CHECK(std::as_const(block)["1.gamma"](9) == 4);
  CHECK(block["1.gamma"].data() == block.view().data() + small::parameter_count + 3007);

  const auto other = block.like();
  CHECK(other.size() == block.size());
  CHECK(other.index()[5].name == "1.gamma");
  CHECK(other["1.gamma"](9) == 0);

  CHECK_THROWS_AS(block["1.beta"], ln::value_error);
  CHECK_THROWS_WITH_AS(block["1.beta"], doctest::Contains("1.beta"), ln::value_error);
  CHECK(block.for_layer(pair{}).size() == pair::parameter_count);
  CHECK_THROWS_AS(block.for_layer(small{}), ln::shape_error);

  const auto second = ln::detail::part_of<small>(block.for_layer(pair{}), small::parameter_count);
  CHECK(second.data() == block["1.weight"].data());
  CHECK(second(small::parameter_count - 1) == 4);
}

TEST_CASE("parameter_block: initial values") {
  auto block = ln::parameter_block<double>::of(pair{});
  block.initialise(11);
  const auto first = values(block.view());

  for (const double x : values(block["0.norm.weight"])) CHECK(x == 1);
  const auto ramp = values(block["1.gamma"]);
  CHECK(ramp == std::vector<double>{-0.5, -1, -1.5, -2, -2.5, -0.5, -1, -1.5, -2, -2.5});
  double squares = 0;
  for (const double x : values(block["0.weight"])) {
    CHECK(std::abs(x) <= 0.04);
    squares += x * x / 3000;
  }
  CHECK(std::sqrt(squares) == doctest::Approx(0.02 * std::sqrt(0.77374)).epsilon(0.05));
  CHECK(values(block["0.weight"]) != values(block["1.weight"]));

  block.initialise(12);
  CHECK(values(block.view()) != first);
  block.initialise(11);
  CHECK(values(block.view()) == first);

  // What stands in front of a model's other parameters does not depend on them, nor on the type of the numbers.
  auto one = ln::parameter_block<double>::of(small{});
  one.initialise(11);
  CHECK(values(one["weight"]) == values(block["0.weight"]));
  auto narrow = ln::parameter_block<float>::of(small{});
  narrow.initialise(11);
  for (std::int64_t i = 0; i < 3000; ++i) REQUIRE(narrow["weight"](i) == static_cast<float>(one["weight"](i)));
}
