// SPDX-License-Identifier: Apache-2.0
// The loss on the GPU: that of the CPU, the same bits twice and in a graph; labels are checked on the device.
#include <lightnet/loss/cross_entropy.hpp>

#include "layer/device_numbers.cuh"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::array, numbers::list;

struct question {
  std::int64_t rows, classes;
  double smoothing = 0;
  std::int64_t gap = 0;  // between rows
};

list<std::int32_t> labels_of(const question& q) {
  list<std::int32_t> labels;
  for (std::int64_t r = 0; r < q.rows; ++r) {
    labels.push_back(r % 5 == 3 ? -1 : static_cast<std::int32_t>((r * 7919 + 3) % q.classes));
  }
  return labels;
}

template <class T>
list<T> logits_of(const question& q) {
  list<T> x = numbers::cast<T>(numbers::normal(q.rows * (q.classes + q.gap), 1, 3));
  const auto at = [&](std::int64_t r, std::int64_t k) -> T& {
    return x[static_cast<std::size_t>(r * (q.classes + q.gap) + k)];
  };
  // The largest twice, one that is impossible, a row of equals.
  if (q.rows > 4 && q.classes > 4) {
    at(1, 2) = at(1, q.classes - 1) = T(50);
    at(2, 0) = T(-std::numeric_limits<T>::infinity());
    for (std::int64_t k = 0; k < q.classes; ++k) at(4, k) = T(-2);
  }
  return x;
}

template <class T>
struct result {
  list<ln::accumulator<T>> loss;
  list<T> dlogits;
  list<std::int64_t> correct, counted;
  list<std::int32_t> predicted;
};

template <class T, class Device>
result<T> ask(const question& q, const list<T>& logits, const list<std::int32_t>& labels, bool in_place = false) {
  ln::execution<Device> on;
  const std::int64_t stride = q.classes + q.gap;
  array<T, Device> x{logits}, dx{numbers::unwritten<T>(q.rows * stride)};
  array<ln::accumulator<T>, Device> loss{numbers::unwritten<ln::accumulator<T>>(1)};
  array<std::int32_t, Device> of_rows{labels}, predicted{list<std::int32_t>(static_cast<std::size_t>(q.rows), -7)};
  array<std::int64_t, Device> correct{{-7}}, counted{{-7}};
  ln::cross_entropy<T>(on,
                       {.logits = {x.data(), {{q.rows, q.classes}}, {stride, 1}},
                        .labels = of_rows.template view<1>({q.rows}),
                        .smoothing = q.smoothing},
                       {.loss = loss.template view<1>({1}),
                        .correct = correct.template view<1>({1}),
                        .counted = counted.template view<1>({1}),
                        .predicted = predicted.template view<1>({q.rows}),
                        .dlogits = {in_place ? x.data() : dx.data(), {{q.rows, q.classes}}, {stride, 1}}});
  return {loss.read(on), in_place ? x.read(on) : dx.read(on), correct.read(on), counted.read(on), predicted.read(on)};
}

const question questions[] = {{7, 5},          {1, 1}, {33, 1031, 0.1, 3}, {130, 10, 0.1}, {9, 20011, 0.2}, {5, 1024},
                              {6, 1025, 0, 2}, {0, 4}, {2311, 3, 0.3},     {261, 33, 0, 7}};

template <class T>
void check(double tolerance) {
  for (const question& q : questions) {
    CAPTURE(q.rows);
    CAPTURE(q.classes);
    const list<T> logits = logits_of<T>(q);
    const list<std::int32_t> labels = labels_of(q);
    const result<T> got = ask<T, cuda>(q, logits, labels), again = ask<T, cuda>(q, logits, labels),
                    expected = ask<T, cpu>(q, logits, labels);
    const bool same = got.loss[0] == expected.loss[0];  // infinity too
    CHECK((same || got.loss[0] == doctest::Approx(expected.loss[0]).epsilon(std::min(tolerance, 1e-6))));
    CHECK(got.correct == expected.correct);
    CHECK(got.counted == expected.counted);
    CHECK(got.predicted == expected.predicted);
    CHECK(numbers::same_bits(got.loss, again.loss));
    CHECK(numbers::same_bits(got.dlogits, again.dlogits));
    double worst = 0;
    std::int64_t wrong_gaps = 0;
    for (std::size_t i = 0; i < got.dlogits.size(); ++i) {
      const auto gradient = static_cast<double>(got.dlogits[i]), wanted = static_cast<double>(expected.dlogits[i]);
      if (std::isnan(wanted)) {
        wrong_gaps += std::isnan(gradient) ? 0 : 1;
        continue;
      }
      const double difference = std::abs(gradient - wanted);
      worst = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(worst, difference);
    }
    CHECK(worst <= tolerance);
    CHECK(wrong_gaps == 0);
    if (q.gap == 0) CHECK(numbers::same_bits(ask<T, cuda>(q, logits, labels, true).dlogits, got.dlogits));
  }
}

}  // namespace

TEST_CASE("cuda cross_entropy: float") { check<float>(1e-6); }
TEST_CASE("cuda cross_entropy: double") { check<double>(1e-13); }
TEST_CASE("cuda cross_entropy: bfloat16") { check<ln::bfloat16>(0x1p-8); }

TEST_CASE("cuda cross_entropy: rows that are no numbers") {
  const question q{4, 6};
  list<float> logits = logits_of<float>(q);
  const float nothing = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (std::size_t k = 0; k < 6; ++k) logits[k] = nothing;      // row 0: all NaN
  logits[6] = nothing;                                          // row 1: one NaN
  for (std::size_t k = 12; k < 18; ++k) logits[k] = -infinity;  // row 2: nothing is possible
  const list<std::int32_t> labels{1, 2, -1, 3};
  const result<float> got = ask<float, cuda>(q, logits, labels), expected = ask<float, cpu>(q, logits, labels);
  CHECK(got.predicted == expected.predicted);
  CHECK(got.predicted[0] == -1);
  CHECK(got.correct == expected.correct);
  CHECK(std::isnan(got.loss[0]));
  for (std::size_t i = 0; i < got.dlogits.size(); ++i)
    CHECK(std::isnan(got.dlogits[i]) == std::isnan(expected.dlogits[i]));
}

TEST_CASE("cuda cross_entropy: a label that is no class counts as ignored, and the execution tells") {
  for (const std::int32_t wrong : {-2, 5, 1000000}) {
    CAPTURE(wrong);
    const question q{7, 5};
    const list<float> logits = logits_of<float>(q);
    list<std::int32_t> labels = labels_of(q);
    labels[4] = wrong;
    list<std::int32_t> ignored = labels;
    ignored[4] = -1;
    ln::execution<cuda> on;
    array<float, cuda> x{logits}, dx{numbers::unwritten<float>(7 * 5)};
    array<std::int32_t, cuda> of_rows{labels};
    ln::cross_entropy<float>(on, {.logits = x.view<2>({7, 5}), .labels = of_rows.view<1>({7})},
                             {.dlogits = dx.view<2>({7, 5})});
    CHECK(numbers::same_bits(dx.read(on), ask<float, cuda>(q, logits, ignored).dlogits));
    CHECK_THROWS_AS(on.check(), ln::value_error);
    CHECK_NOTHROW(on.check());
  }
}

TEST_CASE("cuda cross_entropy: rows in parts add up to the mean over all") {
  const question q{130, 33, 0.1};
  const list<float> logits = logits_of<float>(q);
  list<std::int32_t> labels = labels_of(q);
  std::fill_n(labels.begin(), 20, -1);
  const result<float> whole = ask<float, cuda>(q, logits, labels);
  ln::execution<cuda> on;
  array<float, cuda> x{logits}, dx{numbers::unwritten<float>(130 * 33)}, loss{numbers::unwritten<float>(3)};
  array<std::int32_t, cuda> of_rows{labels};
  array<std::int64_t, cuda> all{{-7}}, correct{list<std::int64_t>(3, -7)}, counted{list<std::int64_t>(3, -7)};
  ln::count_labels(on, of_rows.view<1>({130}), 33, all.view<1>({1}));
  std::int64_t first = 0, part = 0;
  for (const std::int64_t rows : {19, 64, 47}) {
    ln::cross_entropy<float>(on,
                             {.logits = x.view<2>({130, 33}).slice(0, first, rows),
                              .labels = of_rows.view<1>({130}).slice(0, first, rows),
                              .smoothing = 0.1,
                              .mean_of = all.view<1>({1})},
                             {.loss = loss.view<1>({3}).slice(0, part, 1),
                              .correct = correct.view<1>({3}).slice(0, part, 1),
                              .counted = counted.view<1>({3}).slice(0, part, 1),
                              .dlogits = dx.view<2>({130, 33}).slice(0, first, rows)});
    first += rows;
    ++part;
  }
  const auto sum = [](const auto& parts) { return parts[0] + parts[1] + parts[2]; };
  CHECK(numbers::same_bits(dx.read(on), whole.dlogits));
  CHECK(sum(loss.read(on)) == doctest::Approx(whole.loss[0]).epsilon(1e-6));
  CHECK(sum(correct.read(on)) == whole.correct[0]);
  CHECK(sum(counted.read(on)) == whole.counted[0]);
  CHECK(all.read(on) == whole.counted);
  CHECK(counted.read(on)[0] == 0);
}

TEST_CASE("cuda cross_entropy: memory of the host is refused before anything is launched") {
  ln::execution<cuda> on;
  array<float, cuda> x{list<float>(12, 1.0F)};
  array<std::int32_t, cuda> labels{{0, 1, 2}};
  list<float> on_host(12, 0.0F);
  const ln::dynamic_view<1, const std::int32_t, cuda> of_rows = labels.view<1>({3});
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = {on_host.data(), {{3, 4}}}, .labels = of_rows}, {}),
                  ln::device_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = x.view<2>({3, 4}), .labels = of_rows},
                                           {.dlogits = {on_host.data(), {{3, 4}}}}),
                  ln::device_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.labels = of_rows}, {}), ln::device_error);
  CHECK_THROWS_AS(ln::cross_entropy<float>(on, {.logits = x.view<2>({4, 3}), .labels = of_rows}, {}), ln::shape_error);
}

TEST_CASE("cuda cross_entropy: a graph replays the same bits") {
  const question q{130, 33, 0.1};
  const list<float> logits = logits_of<float>(q);
  const list<std::int32_t> labels = labels_of(q);
  const result<float> expected = ask<float, cuda>(q, logits, labels);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    ln::execution<cuda> on{stream};
    array<float, cuda> x{logits}, dx{numbers::unwritten<float>(130 * 33)}, loss{numbers::unwritten<float>(1)};
    array<std::int32_t, cuda> of_rows{labels};
    const auto call = [&] {
      ln::cross_entropy<float>(on, {.logits = x.view<2>({130, 33}), .labels = of_rows.view<1>({130}), .smoothing = 0.1},
                               {.loss = loss.view<1>({1}), .dlogits = dx.view<2>({130, 33})});
    };
    call();
    on.synchronize();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    call();
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess);
    cuda::clear(dx.data(), 130 * 33 * sizeof(float));
    REQUIRE(cudaGraphLaunch(ready, stream) == cudaSuccess);
    CHECK(numbers::same_bits(dx.read(on), expected.dlogits));
    CHECK(numbers::same_bits(loss.read(on), expected.loss));
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
  }
  cudaStreamDestroy(stream);
}
