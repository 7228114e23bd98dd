// SPDX-License-Identifier: Apache-2.0
// Training of the image classifier whose steps are graphs: the bits of plain calls, whatever happens in between.
#include <lightnet/backend/cuda/graph.cuh>
#include <lightnet/backend/random.hpp>
#include <lightnet/model/image_classifier.hpp>
#include <lightnet/recurrence/constant_decay.hpp>
#include <lightnet/train/trainer.hpp>

#include <atomic>

#if __has_include(<nlohmann/json.hpp>)
#include <lightnet/train/checkpoint.hpp>

#include "../temporary_folder.hpp"
#endif

#include "../few.hpp"
#include "layer/device_numbers.cuh"
#include "train/images.hpp"

namespace {

namespace ln = lightnet;
using ln::cpu, ln::cuda;
using numbers::list;

struct small_options : ln::image_classifier_options {
  static constexpr int width = 24, heads = 2, inner = 20, layers = 2, patch = 2, classes = 7, modes = 3;
  static constexpr double initial_gain = 1;
};
struct decaying_options : small_options {
  using recurrence = ln::constant_decay;
  using traversal = ln::bidirectional;
};

template <class Options, class T = float, class Device = cuda>
using trainer = ln::trainer<ln::image_classifier<Options, 2, T, Device>, T, Device>;

constexpr std::int64_t batch = 11;
const std::int64_t images = few_will_do() ? 15 : 37;  // three whole batches and a last of 4
const std::int64_t epochs = often(4), steps = epochs * ((images + batch - 1) / batch);

ln::trainer_options options(std::int64_t shard) {
  ln::trainer_options chosen;
  chosen.epochs = epochs;
  chosen.batch = batch;
  chosen.shard = shard;
  chosen.smoothing = 0.1;
  chosen.optimiser.clip_norm = 1;
  chosen.schedule.peak = 0.01;
  chosen.schedule.warmup = 3;
  chosen.schedule.total = 16;
  return chosen;
}

const ln::image_options changes{.mean = 0.5, .deviation = 0.3, .flip = true, .shift = 1, .seed = 2};

template <class T>
list<T> values(const ln::parameter_block<T, cuda>& block) {
  list<T> to(static_cast<std::size_t>(block.size()));
  cuda::copy(to.data(), block.view().data(), to.size() * sizeof(T));
  return to;
}

struct outcome {
  list<double> losses, norms, rates;
  list<float> parameters;
  list<double> tested;  // the loss after every epoch
};

void check_same(const outcome& got, const outcome& expected) {
  CHECK(numbers::same_bits(got.losses, expected.losses));
  CHECK(numbers::same_bits(got.norms, expected.norms));
  CHECK(numbers::same_bits(got.rates, expected.rates));
  CHECK(numbers::same_bits(got.parameters, expected.parameters));
  CHECK(numbers::same_bits(got.tested, expected.tested));
}

// Trains to the end on a stream; `between(on, trainer, step)` is called after every step.
template <class Options, class T = float, class Between>
outcome train(cudaStream_t stream, std::int64_t shard, const Between& between) {
  ln::execution<cuda> on{stream};
  const std::atomic<bool> never{false};
  const pictures::images<cuda> all{images, 6, 10, 1};
  auto source = all.batches<T>(changes), testing = all.batches<T>({});
  trainer<Options, T> trained{{}, options(shard)};
  outcome got;
  CHECK(trained.run(on, source, never, [&](const ln::training_progress& now) {
    got.losses.push_back(now.update.loss);
    got.norms.push_back(now.update.gradient_norm);
    got.rates.push_back(now.update.learning_rate);
    if (now.epoch_finished) got.tested.push_back(trained.evaluate(on, testing).loss);
    between(on, trained, now.step);
  }));
  got.parameters = values(trained.parameters());
  CHECK(numbers::same_bits(values(trained.rounded_parameters()), numbers::cast<T>(got.parameters)));
  return got;
}

const auto nothing = [](auto&, auto&, std::int64_t) {};

template <class Options, class T = float>
void check(std::int64_t shard) {
  CAPTURE(shard);
  const ln::cuda_stream stream;
  const outcome plain = train<Options, T>(nullptr, shard, nothing);
  const outcome captured = train<Options, T>(stream.get(), shard, nothing);
  CHECK(plain.losses.size() == static_cast<std::size_t>(steps));
  for (std::size_t step = 0; step < plain.losses.size(); ++step) {
    CHECK(std::isfinite(plain.losses[step]));
    CHECK(plain.rates[step] ==
          doctest::Approx(options(shard).schedule(static_cast<std::int64_t>(step))).epsilon(1e-14));
  }
  check_same(captured, plain);
}

}  // namespace

TEST_CASE("captured training: the bits of plain calls") {
  check<small_options>(11);
  check<small_options>(4);
  check<small_options>(2);
  check<decaying_options>(11);
}

TEST_CASE("captured training: in bfloat16") {
  check<small_options, ln::bfloat16>(11);
  check<decaying_options, ln::bfloat16>(4);
  check<small_options, ln::bfloat16>(2);
}

TEST_CASE_TEMPLATE("captured training: memory that moves makes new graphs", T, float, ln::bfloat16) {
  const ln::cuda_stream stream;
  const outcome expected = train<small_options, T>(nullptr, 11, nothing);
  const std::int64_t apart = few_will_do() ? 1 : 3;
  const auto disturb = [&](ln::execution<cuda>& on, trainer<small_options, T>& trained, std::int64_t step) {
    if (step == apart) {  // a larger batch than those of the training
      const ln::tensor<ln::rank<4>, T, cuda> many{{{50, 6, 10, 1}}};
      trained.predict(on, many.view(), 50);
      on.synchronize();
    } else if (step == 2 * apart) {  // the same parameters elsewhere
      trained.set_parameters(trained.parameters());
    } else if (step == 3 * apart) {  // a workspace that grew
      ln::execution<cuda>::scope scratch{on};
      scratch.take<std::byte>(std::int64_t{100} << 20);
    }
  };
  check_same(train<small_options, T>(stream.get(), 11, disturb), expected);
}

TEST_CASE_TEMPLATE("captured training: a batch whose last shard is larger than any before makes new graphs", T, float,
                   ln::bfloat16) {
  const pictures::images<cuda> all{images, 6, 10, 1};
  const ln::cuda_stream stream;
  const auto train_on = [&](cudaStream_t with) {
    ln::execution<cuda> on{with};
    const std::atomic<bool> never{false};
    auto chosen = options(5);
    chosen.batch = 28;  // and a last batch of nine: a last shard of three, then one of four
    chosen.epochs = 5;
    trainer<small_options, T> trained{{}, chosen};
    auto source = all.batches<T>(changes);
    CHECK(trained.run(on, source, never, [](const auto&) {}));
    return values(trained.parameters());
  };
  CHECK(numbers::same_bits(train_on(stream.get()), train_on(nullptr)));
}

TEST_CASE("captured training: gradients that are not finite are skipped, and training gives up") {
  const ln::cuda_stream stream;
  ln::execution<cuda> on{stream.get()};
  const std::atomic<bool> never{false};
  const pictures::images<cuda> all{images, 6, 10, 1};
  auto source = all.batches(changes);
  auto chosen = options(11);
  chosen.patience = 3;
  trainer<small_options> trained{{}, chosen};
  const float poison = NAN;
  auto poisoned = trained.parameters();
  cuda::copy(poisoned.view().data(), &poison, sizeof poison);
  trained.set_parameters(std::move(poisoned));
  const list<float> before = values(trained.parameters());
  int steps = 0;
  CHECK_THROWS_AS(trained.run(on, source, never,
                              [&](const ln::training_progress& now) {
                                ++steps;
                                CHECK(now.update.skipped);
                              }),
                  ln::value_error);
  CHECK(steps == 3);
  CHECK(numbers::same_bits(values(trained.parameters()), before));
}

TEST_CASE("captured_call: what cannot be captured or replayed is refused, and the stream stays usable") {
  const ln::cuda_stream stream;
  ln::execution<cuda> on{stream.get()}, other{stream.get()}, standard;
  ln::tensor<ln::rank<1>, float, cuda> x{{{5}}};
  const auto fill = [&](ln::execution<cuda>& with, float value) {
    ln::fill_uniform(with, ln::random_stream{static_cast<std::uint64_t>(value)}, 0, x.view());
  };
  ln::captured_call call;
  CHECK_FALSE(ln::captured_call::possible(standard));
  CHECK_THROWS_AS(call.replay(on), ln::device_error);
  CHECK_THROWS_AS(call.capture(standard, [&] { fill(standard, 1); }), ln::device_error);
  CHECK_THROWS_AS(call.capture(on, [&] { throw ln::value_error("test", "a", "b", "c"); }), ln::value_error);
  CHECK_FALSE(call.fits(on));
  call.capture(on, [&] { fill(on, 2); });
  CHECK(call.fits(on));
  CHECK_THROWS_AS(call.replay(other), ln::device_error);
  fill(on, 3);
  call.replay(on);
  on.synchronize();
  list<float> got(5);
  cuda::copy(got.data(), x.data(), sizeof(float) * 5);
  for (std::size_t i = 0; i < 5; ++i) CHECK(got[i] == static_cast<float>(ln::random_stream{2}.uniform(i)));
  {
    ln::execution<cuda>::scope scratch{on};
    scratch.take<float>(1 << 20);
  }
  CHECK_FALSE(call.fits(on));
  CHECK_THROWS_AS(call.replay(on), ln::device_error);
  fill(on, 3);
  on.check();
}

#if __has_include(<nlohmann/json.hpp>)
TEST_CASE("checkpoints of a trainer on the GPU: training goes on bit for bit, and the CPU reads them") {
  const folder here;
  const auto path = here / "a.safetensors";
  const ln::cuda_stream stream;
  const std::int64_t saved_after = often(6);
  const outcome whole = train<small_options>(stream.get(), 11, [&](auto&, auto& trained, std::int64_t step) {
    if (step == saved_after) ln::save_checkpoint(path, trained);
  });
  const ln::checkpoint saved{path};
  CHECK(saved.options() == options(11));
  ln::execution<cuda> on{stream.get()};
  const std::atomic<bool> never{false};
  const pictures::images<cuda> all{images, 6, 10, 1};
  auto source = all.batches(changes);
  trainer<small_options> second{{}, saved.options()};
  saved.load(second);
  list<double> losses(whole.losses.begin(), whole.losses.begin() + saved_after);
  CHECK(second.run(on, source, never, [&](const ln::training_progress& now) { losses.push_back(now.update.loss); }));
  CHECK(numbers::same_bits(losses, whole.losses));
  CHECK(numbers::same_bits(values(second.parameters()), whole.parameters));

  trainer<small_options, float, cpu> read{{}, saved.options()};
  saved.load(read);
  CHECK(read.state().step == saved_after);
  trainer<small_options> again{{}, saved.options()};
  saved.load(again);
  const auto block = read.parameters().view();
  CHECK(numbers::same_bits(list<float>(block.data(), block.data() + block.size()), values(again.parameters())));
  CHECK(read.optimiser().state().updates == again.optimiser().state().updates);
  trainer<small_options, ln::bfloat16> narrow{{}, saved.options()};
  saved.load(narrow);
  CHECK(numbers::same_bits(values(narrow.parameters()), values(again.parameters())));
  CHECK(
      numbers::same_bits(values(narrow.rounded_parameters()), numbers::cast<ln::bfloat16>(values(again.parameters()))));
}
#endif
