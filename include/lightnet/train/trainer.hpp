// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/repeated_calls.hpp>
#include <lightnet/train/adam.hpp>
#include <lightnet/train/batch_pass.hpp>
#include <lightnet/train/data_order.hpp>
#include <lightnet/train/source.hpp>

#include <atomic>
#include <cmath>
#include <span>

LIGHTNET_BEGIN_NAMESPACE

/// Trains a classifier, of items or of tokens, or a model that predicts numbers: owns its parameters, their gradients and
/// the optimiser, and runs forward, loss, backward and update. It knows nothing of files and terminals.
///
/// The Model computes in T. With bfloat16 that is mixed precision: activations, gradients and a copy of the parameters are
/// bfloat16, while the parameters themselves, the moments of the optimiser and the loss are float.
///
/// A batch goes through the model in shards, whose gradients are added: the gradient is that of the mean over all labels of
/// the batch that count. Memory is that of a shard a thread, on a GPU of one shard (two where the last of several is
/// smaller), beside the inputs of the batch: a batch that is too large for a device wants a smaller shard.
///
/// A Model is a layer with `classes`, `forward(on, params, x, y, context)` to logits y [B, classes], and
/// `backward<write>(on, params, x, dy, dx, dparams, context)` that leaves out dx where that view is empty. A Source
/// of items has `size()` and `load(std::span<const std::int64_t> items, std::int64_t epoch)`, which gives something
/// with the members `inputs`, as Model takes them, and `labels` [B], valid until the next call; whatever is random in
/// it is to be a function of the item and the epoch. An item of several labels, such as a text whose every token has one,
/// has labels [B, N], dense, and a Model that gives logits [B N, classes]; where its inputs are whole numbers, which have no
/// gradient, its `backward` takes no dx. Where the labels are no whole numbers but numbers of T to be predicted,
/// [B, .., C], dense, the Model gives y [B .., C] in place of logits, and the loss is the mean squared error. A Source may
/// leave work to the device, in `fill(execution&)`: then `load` gives the same views whenever it gives as many items,
/// `fill` allocates nothing of the second call for a size on, and on a GPU whose execution has a stream of its own `run`
/// makes fill and update one CUDA graph. One that has `prefetch(items, epoch)` is told, once a batch is loaded, which is
/// next: see prefetching_batches.
template <class Model, class T = float, class Device = cpu>
class trainer {
 public:
  static_assert(!std::is_same_v<T, float16>,
                "lightnet::trainer: gradients of float16 underflow without a scaled loss; use lightnet::bfloat16");
  using number = accumulator<T>;  ///< of the parameters and the loss

  /// Initialises the parameters from the seed. Throws value_error for options that make no training.
  trainer(const Model& model, const trainer_options& options)
      : options_{checked(options)},
        parameters_{model, options.seed},
        gradients_{parameters_.rounded().like()},
        optimiser_{parameters_.master(), options.optimiser},
        pass_{model, options} {}

  const Model& model() const noexcept { return pass_.model(); }
  const trainer_options& options() const noexcept { return options_; }
  const training_state& state() const noexcept { return state_; }
  /// What the optimiser moves, and what the model computes with: the same where T is float or double.
  const parameter_block<number, Device>& parameters() const noexcept { return parameters_.master(); }
  const parameter_block<T, Device>& rounded_parameters() const noexcept { return parameters_.rounded(); }
  /// Puts a block in the place of the parameters; the execution has done the calls before. Throws shape_error for one of
  /// another size.
  void set_parameters(parameter_block<number, Device> values) { parameters_.set(std::move(values)); }
  const parameter_block<T, Device>& gradients() const noexcept { return gradients_; }
  const adam<T, Device>& optimiser() const noexcept { return optimiser_; }
  adam<T, Device>& optimiser() noexcept { return optimiser_; }

  /// Whether all epochs are done.
  bool finished() const noexcept { return state_.epoch >= options_.epochs; }

  /// Goes on from a saved state; parameters and optimiser are the caller's to set. Throws value_error for a state that
  /// this training cannot reach.
  void restore(const training_state& state) {
    check(state);
    state_ = state;
  }
  /// The check alone.
  void check(const training_state& state) const {
    const bool counts = state.step >= 0 && state.epoch >= 0 && state.position >= 0 && state.items >= 0 &&
                        state.correct >= 0 && state.correct <= state.counted &&
                        (state.position > 0 || state.counted == 0);
    const bool reached = state.epoch <= options_.epochs && (state.position == 0 || state.position < state.items) &&
                         state.position % options_.batch == 0 && (state.epoch < options_.epochs || state.position == 0);
    if (!counts || !reached || !std::isfinite(state.loss) || state.loss < 0) {
      throw value_error("trainer", "state", "one of " + std::to_string(options_.epochs) + " epochs",
                        "step " + std::to_string(state.step) + ", epoch " + std::to_string(state.epoch) +
                            ", position " + std::to_string(state.position) + " of " + std::to_string(state.items));
    }
  }

  /// One update from one batch, its labels [B] or [B, N] or numbers [B, .., C]. Throws what the model and the loss throw,
  /// before anything changed, and value_error where the last `patience` updates all had gradients that were not finite.
  template <class Input, class Labels>
  update_report step(execution<Device>& on, const Input& x, const Labels& labels) {
    begin_step();
    compute_step(on, x, labels);
    return finish_step(on);
  }

  /// The first part of a step: throws value_error where training diverged. The execution has done the steps before.
  void begin_step() const {
    const std::int64_t skipped = optimiser_.state().skipped_in_row;
    if (skipped >= options_.patience) {
      throw value_error("trainer", "gradients", "finite numbers",
                        "none in " + std::to_string(skipped) +
                            " updates: training diverged; a lower learning rate or clipping may help");
    }
  }

  /// The second part, all of the work: it reads and writes memory of the device only, and of the second call for a size on
  /// allocates nothing, so that a CUDA graph can capture it and do this part of the steps that follow.
  template <class Input, class Labels>
  void compute_step(execution<Device>& on, const Input& x, const Labels& labels) {
    pass_.prepare(on, x, labels);
    pass_.differentiate(on, for_model(), x, labels, gradients_.view().data());
    optimiser_.take_rate(on, options_.schedule);
    optimiser_.step(on, parameters_, gradients_);
  }

  /// The last part: waits for the execution and says what the step was. Throws value_error for labels in the memory of a
  /// GPU that are no classes.
  update_report finish_step(execution<Device>& on) {
    on.check();
    update_report report;
    ++state_.step;
    const adam_state after = optimiser_.state();
    report.learning_rate = after.learning_rate;
    report.skipped = after.skipped_in_row > 0;
    report.gradient_norm = after.gradient_norm;
    pass_.read(report);
    return report;
  }

  /// Trains from where the state stands to the last epoch, and calls `progress(const training_progress&)` after every
  /// update. Returns false where `stop` became true: after a whole update, ready to be saved and to go on. Throws
  /// value_error for a source of another size than before, and what `step` throws.
  template <class Source, class Progress>
  bool run(execution<Device>& on, Source& source, const std::atomic<bool>& stop, const Progress& progress) {
    const std::int64_t items = source.size();
    if (items < 1 || (state_.items != 0 && state_.items != items)) {
      throw value_error("trainer", "source",
                        state_.items != 0 ? std::to_string(state_.items) + " items, as before" : "one item or more",
                        std::to_string(items));
    }
    state_.items = items;
    while (!finished()) {
      const std::int64_t epoch = state_.epoch;
      const std::vector<std::int64_t> order = data_order(items, options_.seed, epoch);
      while (state_.epoch == epoch) {
        if (stop.load(std::memory_order_relaxed)) return false;
        const auto chosen = batch_of(order, state_.position);
        const auto batch = source.load(chosen, epoch);
        const auto count = static_cast<std::int64_t>(chosen.size()), next = state_.position + count;
        if (detail::looks_ahead<Source> && next == items && epoch + 1 < options_.epochs) {
          announce(source, data_order(items, options_.seed, epoch + 1), 0, epoch + 1);
        } else {
          announce(source, order, next, epoch);
        }
        training_progress now;
        now.update = step_of(on, source, batch);
        advance(now, count);
        progress(std::as_const(now));
      }
    }
    return true;
  }

  /// Logits of a batch whose items have so many labels, [B labels, classes], valid until the next call; on a GPU, once the
  /// execution has done it.
  template <class Input>
  dynamic_view<2, const T, Device> predict(execution<Device>& on, const Input& x, std::int64_t batch,
                                           std::int64_t labels = 1) {
    const rank<2> shape{{batch * labels, Model::classes}};
    if (logits_.extents() != shape.array()) {
      on.synchronize();  // with what it does to the old ones
      logits_.resize(shape);
    }
    pass_.predict(on, for_model(), x, batch, labels, logits_.view());
    return std::as_const(logits_).view();
  }

  /// The model on all items of a source, loaded in their order as of epoch 0, with the loss that it is trained on;
  /// `predicted`, where given, takes the predicted class of every label. Throws shape_error where that is of another
  /// size.
  template <class Source>
  evaluation evaluate(execution<Device>& on, Source& source, std::span<std::int32_t> predicted = {}) {
    const std::int64_t items = source.size();
    std::vector<std::int64_t> order(static_cast<std::size_t>(items));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    evaluation total;
    for (std::int64_t first = 0; first < items; first += options_.batch) {
      const auto chosen = batch_of(order, first);
      const auto batch = source.load(chosen, 0);
      announce(source, order, first + options_.batch, 0);
      if constexpr (detail::fills<Source, Device>) source.fill(on);
      using loss = detail::objective<std::remove_cvref_t<decltype(batch.labels)>>;
      const std::int64_t of_item = loss::classifies ? loss::rows_of_item(batch.labels) : 0;
      const std::int64_t labels = static_cast<std::int64_t>(chosen.size()) * of_item;
      if (!predicted.empty() && static_cast<std::int64_t>(predicted.size()) != items * of_item) {
        throw shape_error("trainer", "predicted", std::to_string(items * of_item) + " places",
                          std::to_string(predicted.size()));
      }
      dynamic_view<1, std::int32_t, Device> classes;
      if (!predicted.empty()) {
        if (predicted_.extent(0) != labels) predicted_.resize({{labels}});
        classes = predicted_.view();
      }
      pass_.evaluate(on, for_model(), batch.inputs, batch.labels, classes);
      on.check();
      update_report report;
      pass_.read(report);
      if (classes)
        Device::copy(predicted.data() + first * of_item, classes.data(),
                     static_cast<std::size_t>(labels) * sizeof(std::int32_t));
      total.loss += report.loss * static_cast<double>(report.counted);
      total.correct += report.correct;
      total.counted += report.counted;
    }
    if (total.counted > 0) total.loss /= static_cast<double>(total.counted);
    return total;
  }

 private:
  /// Tells a source that wants to know which batch is next, from a place in the order of an epoch, if there is one.
  template <class Source>
  void announce(Source& source, const std::vector<std::int64_t>& order, std::int64_t first, std::int64_t epoch) const {
    if constexpr (detail::looks_ahead<Source>) {
      const auto items = static_cast<std::int64_t>(order.size());
      if (first < items) source.prefetch(batch_of(order, first), epoch);
    }
  }

  /// One update from a batch that the source has loaded.
  template <class Source, class Batch>
  update_report step_of(execution<Device>& on, Source& source, const Batch& batch) {
    if constexpr (!detail::fills<Source, Device>) {
      return step(on, batch.inputs, batch.labels);
    } else {
      pass_.prepare(on, batch.inputs, batch.labels);
      begin_step();
      steps_.run(on, key_of(batch), [&] {
        source.fill(on);
        compute_step(on, batch.inputs, batch.labels);
      });
      return finish_step(on);
    }
  }

  /// All memory that a step works on, but for the workspace: what moves when the caller or a larger batch replaces it.
  template <class Batch>
  detail::call_key key_of(const Batch& batch) const {
    const auto place = [](const auto& memory) {
      return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(memory.data()));
    };
    return {batch.labels.extent(0),
            pass_.moved(),
            place(batch.inputs),
            place(parameters_.master().view()),
            place(parameters_.rounded().view()),
            place(gradients_.view()),
            place(optimiser_.first_moment().view()),
            place(optimiser_.second_moment().view())};
  }

  parameters_of<Model, const T, Device> for_model() const { return parameters_.rounded().for_layer(model()); }

  static const trainer_options& checked(const trainer_options& options) {
    options.check();
    return options;
  }

  /// The items of the batch that begins at a place in an order.
  std::span<const std::int64_t> batch_of(const std::vector<std::int64_t>& order, std::int64_t first) const {
    const auto from = std::span(order).subspan(static_cast<std::size_t>(first));
    return from.first(std::min(from.size(), static_cast<std::size_t>(options_.batch)));
  }

  /// Moves the state past one update of `count` items.
  void advance(training_progress& now, std::int64_t count) {
    now.epoch = state_.epoch;
    now.step = state_.step;
    now.items = count;
    if (std::isfinite(now.update.loss)) {
      state_.loss += now.update.loss * static_cast<double>(now.update.counted);
      state_.correct += now.update.correct;
      state_.counted += now.update.counted;
    }
    const auto counted = static_cast<double>(state_.counted > 0 ? state_.counted : 1);
    now.loss = state_.loss / counted;
    now.accuracy = static_cast<double>(state_.correct) / counted;
    state_.position += count;
    if (state_.position < state_.items) return;
    now.epoch_finished = true;
    ++state_.epoch;
    state_.position = 0;
    state_.loss = 0;
    state_.correct = state_.counted = 0;
  }

  trainer_options options_;
  master_parameters<T, Device> parameters_;
  parameter_block<T, Device> gradients_;
  adam<T, Device> optimiser_;
  training_state state_;
  detail::batch_pass<Model, T, Device> pass_;
  detail::repeated_calls<Device> steps_;
  tensor<rank<2>, T, Device> logits_;                // [B, classes], or [B N, classes], of a prediction
  tensor<rank<1>, std::int32_t, Device> predicted_;  // [B] or [B N], where asked for
};

LIGHTNET_END_NAMESPACE
