// SPDX-License-Identifier: Apache-2.0
// The optimiser on the GPU: the updates of the CPU, the same bits twice and in a graph, and nothing read by the host.
#include <lightnet/train/adam.hpp>

#include "train/mixed_adam.hpp"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::list;

/// Parts that decay and parts that do not, longer and shorter than a run, and one that nobody describes.
struct layer {
  static constexpr std::int64_t weights = std::int64_t{13} * 4001, parameter_count = 1001 + weights + 7 + 15 + 9;
  void describe(const std::string&, std::int64_t offset, std::vector<ln::parameter>& index) const {
    const auto start = ln::initial_value::truncated_normal(0.5);
    index.push_back({"bias", {1001}, offset, start, false});
    index.push_back({"weight", {13, 4001}, offset + 1001, start, true});
    index.push_back({"scale", {7}, offset + 1001 + weights, start, false});
    index.push_back({"small", {3, 5}, offset + 1001 + weights + 7, start, true});
  }
};

template <class T, class Device>
struct training {
  ln::parameter_block<T, Device> parameters = started(), gradients = parameters.like();
  ln::adam<T, Device> optimiser;

  explicit training(const ln::adam_options& options) : optimiser{parameters, options} {}
  static ln::parameter_block<T, Device> started() {
    auto block = ln::parameter_block<T, Device>::of(layer{});
    block.initialise(7);
    return block;
  }
  void set_gradients(std::uint64_t seed, double scale) {
    fill(numbers::cast<T>(numbers::normal(layer::parameter_count, seed, scale)));
  }
  void fill(const list<T>& values) { Device::copy(gradients.view().data(), values.data(), values.size() * sizeof(T)); }
  static list<T> read(ln::execution<Device>& on, const ln::parameter_block<T, Device>& block) {
    on.synchronize();
    list<T> values(static_cast<std::size_t>(block.size()));
    Device::copy(values.data(), block.view().data(), values.size() * sizeof(T));
    return values;
  }
};

template <class T>
struct result {
  list<T> parameters, first, second;
  ln::adam_state state;
};

// Five updates, of which the third has a gradient that is no number and the fourth one whose square T cannot hold.
template <class T, class Device>
result<T> run(const ln::adam_options& options) {
  ln::execution<Device> on;
  training<T, Device> all{options};
  for (int update = 0; update < 5; ++update) {
    list<T> gradients =
        numbers::cast<T>(numbers::normal(layer::parameter_count, 10 + static_cast<unsigned>(update), 0.1));
    if (update == 2) gradients[40001] = std::numeric_limits<T>::quiet_NaN();
    if (update == 3) gradients.back() = std::numeric_limits<T>::max();
    on.synchronize();
    all.fill(gradients);
    all.optimiser.set_learning_rate(0.01 / (update + 1));
    all.optimiser.step(on, all.parameters, all.gradients);
  }
  using of = training<T, Device>;
  return {of::read(on, all.parameters), of::read(on, all.optimiser.first_moment()),
          of::read(on, all.optimiser.second_moment()), all.optimiser.state()};
}

template <class T>
void close(const list<T>& got, const list<T>& expected, double tolerance) {
  CHECK(numbers::largest_difference(numbers::cast<double>(got), numbers::cast<double>(expected)) <= tolerance);
}

template <class T>
void check(double tolerance) {
  for (const int variant : {0, 1, 2, 3}) {
    const bool decoupled = variant % 2 == 0;
    const double clip = variant < 2 ? 0 : 1.5;
    CAPTURE(decoupled);
    CAPTURE(clip);
    const ln::adam_options options{.weight_decay = 0.1, .decoupled_weight_decay = decoupled, .clip_norm = clip};
    const result<T> got = run<T, cuda>(options), again = run<T, cuda>(options), expected = run<T, cpu>(options);
    close(got.parameters, expected.parameters, tolerance);
    close(got.first, expected.first, tolerance);
    close(got.second, expected.second, tolerance);
    CHECK(got.state.updates == 3);
    CHECK(got.state.skipped == 2);
    CHECK(got.state.skipped_in_row == 0);
    CHECK(got.state.learning_rate == expected.state.learning_rate);
    CHECK(got.state.gradient_norm == doctest::Approx(expected.state.gradient_norm).epsilon(1e-13));
    CHECK(numbers::same_bits(got.parameters, again.parameters));
    CHECK(numbers::same_bits(got.first, again.first));
    CHECK(numbers::same_bits(got.second, again.second));
    CHECK(got.state.gradient_norm == again.state.gradient_norm);
  }
}

}  // namespace

TEST_CASE("cuda adam: float") { check<float>(1e-6); }
TEST_CASE("cuda adam: double") { check<double>(1e-14); }

TEST_CASE("cuda adam: gradients of bfloat16 move parameters of float as the same gradients in float do") {
  for (const bool decoupled : {true, false}) mixed::check_against_float<cuda>(decoupled);
}

TEST_CASE("cuda adam: updates smaller than a step of bfloat16 add up") { mixed::check_small_updates<cuda>(); }

TEST_CASE("cuda adam: refuses master parameters that do not fit") { mixed::check_refusals<cuda>(); }

TEST_CASE("cuda adam: a skipped update changes nothing but the counters") {
  ln::execution<cuda> on;
  using of = training<float, cuda>;
  of all{{}};
  all.optimiser.set_learning_rate(0.1);
  list<float> gradients(static_cast<std::size_t>(layer::parameter_count), 0.5F);
  gradients[17] = std::numeric_limits<float>::infinity();
  all.fill(gradients);
  const list<float> before = of::read(on, all.parameters);
  all.optimiser.step(on, all.parameters, all.gradients);
  CHECK(numbers::same_bits(of::read(on, all.parameters), before));
  const list<float> nothing(before.size(), 0.0F);
  CHECK(numbers::same_bits(of::read(on, all.optimiser.first_moment()), nothing));
  const ln::adam_state state = all.optimiser.state();
  CHECK(state.updates == 0);
  CHECK(state.skipped == 1);
  CHECK(state.skipped_in_row == 1);
  CHECK(state.learning_rate == 0.1);
  ln::parameter_block<float, cuda> other;
  CHECK_THROWS_AS(all.optimiser.step(on, other, all.gradients), ln::shape_error);
}

TEST_CASE("cuda adam: a graph replays updates, each with the rate of its time") {
  using of = training<float, cuda>;
  const double rates[] = {0.01, 0.02, 0, 0.005};
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    ln::execution<cuda> on{stream};
    of plain{{}}, replayed{{}}, warm{{}};
    for (of* each : {&plain, &replayed, &warm}) each->set_gradients(3, 0.2);
    warm.optimiser.step(on, warm.parameters, warm.gradients);  // sizes the workspace
    on.synchronize();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    replayed.optimiser.step(on, replayed.parameters, replayed.gradients);
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess);
    for (const double rate : rates) {
      CAPTURE(rate);
      plain.optimiser.set_learning_rate(rate);
      plain.optimiser.step(on, plain.parameters, plain.gradients);
      replayed.optimiser.set_learning_rate(rate);
      const list<float> before = of::read(on, replayed.parameters);
      REQUIRE(cudaGraphLaunch(ready, stream) == cudaSuccess);
      const list<float> after = of::read(on, replayed.parameters);
      CHECK(numbers::same_bits(after, of::read(on, plain.parameters)));
      CHECK(numbers::same_bits(after, before) == (rate == 0));
    }
    CHECK(replayed.optimiser.state().updates == 4);
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}
