// SPDX-License-Identifier: Apache-2.0
// Training on the GPU: as on the CPU, and its steps as a graph, bit for bit.
#include <lightnet/backend/cuda/graph.cuh>
#include <lightnet/layer/linear.hpp>
#include <lightnet/train/prefetching_batches.hpp>
#include <lightnet/train/trainer.hpp>

#include <atomic>

#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::list;

constexpr int features = 6;

/// y = W x + b.
template <class T, class Device>
struct model {
  static constexpr int classes = 5;
  using layer = ln::linear<features, classes, true, T, Device>;
  static constexpr std::int64_t parameter_count = layer::parameter_count;
  template <class Mode>
  using context = ln::no_context;

  void describe(const std::string& prefix, std::int64_t offset, std::vector<ln::parameter>& index) const {
    layer{}.describe(prefix, offset, index);
  }
  template <class Context>
  void forward(ln::execution<Device>& on, const ln::parameters_of<model, const T, Device>& params,
               const ln::dynamic_view<2, const T, Device>& x, const ln::dynamic_view<2, T, Device>& y, Context&) const {
    layer{}.forward(on, params, x, y);
  }
  template <ln::write Write, class Context>
  void backward(ln::execution<Device>& on, const ln::parameters_of<model, const T, Device>& params,
                const ln::dynamic_view<2, const T, Device>& x, const ln::dynamic_view<2, const T, Device>& dy,
                const ln::dynamic_view<2, T, Device>& dx, const ln::parameters_of<model, T, Device>& dparams,
                const Context&) const {
    layer{}.template backward<Write>(on, params, x, dy, dx, dparams);
  }
};

/// Points, labelled by the largest of their first coordinates.
template <class T, class Device>
class points {
 public:
  struct batch {
    ln::dynamic_view<2, const T, Device> inputs;
    ln::dynamic_view<1, const std::int32_t, Device> labels;
  };

  explicit points(std::int64_t count) : values_{numbers::cast<T>(numbers::normal(count * features, 5))} {}
  std::int64_t size() const { return static_cast<std::int64_t>(values_.size()) / features; }
  batch load(std::span<const std::int64_t> items, std::int64_t) {
    const auto count = static_cast<std::int64_t>(items.size());
    list<T> x;
    list<std::int32_t> labels;
    for (const std::int64_t item : items) {
      const auto first = values_.begin() + item * features;
      x.insert(x.end(), first, first + features);
      labels.push_back(wrong_label ? -3 : static_cast<std::int32_t>(std::max_element(first, first + 5) - first));
    }
    if (inputs_.extent(0) != count) {
      inputs_.resize({{count, features}});
      labels_.resize({{count}});
    }
    Device::copy(inputs_.data(), x.data(), x.size() * sizeof(T));
    Device::copy(labels_.data(), labels.data(), labels.size() * sizeof(std::int32_t));
    return {std::as_const(inputs_).view(), std::as_const(labels_).view()};
  }

  bool wrong_label = false;

 private:
  list<T> values_;
  ln::tensor<ln::rank<2>, T, Device> inputs_;
  ln::tensor<ln::rank<1>, std::int32_t, Device> labels_;
};

ln::trainer_options options() {
  ln::trainer_options chosen;
  chosen.epochs = 2;
  chosen.batch = 33;
  chosen.shard = 12;
  chosen.smoothing = 0.1;
  chosen.schedule.peak = 0.05;
  chosen.schedule.total = 20;
  chosen.optimiser.clip_norm = 1;
  return chosen;
}

template <class T, class Device>
using trainer = ln::trainer<model<T, Device>, T, Device>;

template <class T, class Device>
list<T> values(const ln::parameter_block<T, Device>& block) {
  list<T> to(static_cast<std::size_t>(block.size()));
  Device::copy(to.data(), block.view().data(), to.size() * sizeof(T));
  return to;
}

template <class T>
struct outcome {
  list<ln::accumulator<T>> parameters;
  list<double> losses;
  list<std::int32_t> predicted;
  ln::evaluation evaluation;
};

template <class T, class Device>
outcome<T> train() {
  ln::execution<Device> on;
  const std::atomic<bool> never{false};
  trainer<T, Device> trained{model<T, Device>{}, options()};
  points<T, Device> source{200};
  outcome<T> got;
  CHECK(
      trained.run(on, source, never, [&](const ln::training_progress& now) { got.losses.push_back(now.update.loss); }));
  got.parameters = values(trained.parameters());
  got.predicted.resize(200);
  got.evaluation = trained.evaluate(on, source, got.predicted);
  return got;
}

template <class T>
void check(double tolerance) {
  const outcome<T> got = train<T, cuda>(), again = train<T, cuda>(), expected = train<T, cpu>();
  CHECK(numbers::largest_difference(numbers::cast<double>(got.parameters),
                                    numbers::cast<double>(expected.parameters)) <= tolerance);
  CHECK(numbers::largest_difference(got.losses, expected.losses) <= tolerance);
  CHECK(got.losses.back() < got.losses.front());
  CHECK(got.evaluation.loss == doctest::Approx(expected.evaluation.loss).epsilon(tolerance));
  CHECK(got.evaluation.counted == 200);
  CHECK(std::count(got.predicted.begin(), got.predicted.end(), -1) == 0);
  CHECK(numbers::same_bits(got.parameters, again.parameters));
  CHECK(numbers::same_bits(got.losses, again.losses));
  CHECK(numbers::same_bits(got.predicted, again.predicted));
}

}  // namespace

TEST_CASE("cuda trainer: float") { check<float>(1e-4); }
TEST_CASE("cuda trainer: double") { check<double>(1e-10); }
TEST_CASE("cuda trainer: bfloat16") { check<ln::bfloat16>(0.02); }

TEST_CASE("cuda trainer: a source that another thread reads ahead gives the same bits") {
  const auto train_on = [](cudaStream_t stream, auto& source) {
    ln::execution<cuda> on{stream};
    const std::atomic<bool> never{false};
    trainer<float, cuda> trained{model<float, cuda>{}, options()};
    CHECK(trained.run(on, source, never, [](const auto&) {}));
    return values(trained.parameters());
  };
  const points<float, cuda> source{200};
  points<float, cuda> alone{source};
  const list<float> expected = train_on(nullptr, alone);
  const ln::cuda_stream stream;
  for (const cudaStream_t each : {cudaStream_t{nullptr}, stream.get()}) {
    ln::prefetching_batches<points<float, cuda>, cuda> ahead{source};
    CHECK(numbers::same_bits(train_on(each, ahead), expected));
  }
}

TEST_CASE("cuda trainer: a label that is no class is told of") {
  ln::execution<cuda> on;
  trainer<float, cuda> trained{model<float, cuda>{}, options()};
  points<float, cuda> source{40};
  source.wrong_label = true;
  const std::vector<std::int64_t> items{1, 2, 3};
  const auto batch = source.load(items, 0);
  CHECK_THROWS_AS(trained.step(on, batch.inputs, batch.labels), ln::value_error);
}

TEST_CASE_TEMPLATE("cuda trainer: a graph of the whole step gives the bits of the steps", T, float, ln::bfloat16) {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    ln::execution<cuda> on{stream};
    trainer<T, cuda> plain{model<T, cuda>{}, options()}, replayed{model<T, cuda>{}, options()};
    points<T, cuda> source{200}, captured{200};
    std::vector<std::int64_t> items(33);
    const auto choose = [&](std::int64_t step) {
      for (std::size_t i = 0; i < items.size(); ++i) items[i] = (static_cast<std::int64_t>(i) * 7 + step * 31) % 200;
    };
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    for (std::int64_t step = 0; step < 6; ++step) {
      CAPTURE(step);
      choose(step);
      const auto batch = source.load(items, 0), same = captured.load(items, 0);
      const ln::update_report expected = plain.step(on, batch.inputs, batch.labels);
      replayed.begin_step();
      if (step == 0) {
        replayed.compute_step(on, same.inputs, same.labels);  // allocates what it needs
      } else {
        if (step == 1) {
          REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
          replayed.compute_step(on, same.inputs, same.labels);
          REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
          REQUIRE(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess);
        }
        REQUIRE(cudaGraphLaunch(ready, stream) == cudaSuccess);
      }
      const ln::update_report got = replayed.finish_step(on);
      CHECK(got.loss == expected.loss);
      CHECK(got.gradient_norm == expected.gradient_norm);
      CHECK(got.learning_rate == expected.learning_rate);
      CHECK(numbers::same_bits(values(replayed.parameters()), values(plain.parameters())));
      CHECK(numbers::same_bits(values(replayed.rounded_parameters()), numbers::cast<T>(values(plain.parameters()))));
    }
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}
