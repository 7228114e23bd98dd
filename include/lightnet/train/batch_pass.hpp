// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/modes.hpp>
#include <lightnet/core/parameters.hpp>
#include <lightnet/train/gradient_sum.hpp>
#include <lightnet/train/objective.hpp>
#include <lightnet/train/training_state.hpp>

#include <vector>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The type of the gradient by an input, for an argument that is left out: what an input of several parts says, or a view.
template <class Input, class T>
struct gradient_by {
  using type = typename Input::gradient_type;
};
template <class Shape, class U, class Device, class T>
struct gradient_by<view<Shape, U, Device>, T> {
  using type = view<Shape, T, Device>;
};

/// A batch on its way through a model, shard by shard: its mean loss, the gradient of that, or logits. A shard goes forward,
/// through the loss and backward before the next takes its place (gradient accumulation), so that what is kept for
/// it is kept for as many shards as are at work, whatever the batch. Model, labels and inputs are as trainer has them.
template <class Model, class T, class Device>
class batch_pass {
 public:
  using number = accumulator<T>;
  using parameters = parameters_of<Model, const T, Device>;

  batch_pass(const Model& model, const trainer_options& options)
      : model_{model}, shard_{options.shard}, smoothing_{options.smoothing} {
    counted_.resize({{1}});
  }

  const Model& model() const noexcept { return model_; }

  /// Makes room to differentiate a batch.
  template <class Input, class Labels>
  void prepare(const execution<Device>& on, const Input& x, const Labels& labels) {
    prepare_loss(on, x, labels);
    const std::int64_t items = labels.extent(0), shards = shards_of(items);
    for (worker& each : workers_) {
      if (each.dy.extents() == each.y.extents()) continue;
      on.synchronize();
      each.dy.resize(rank<2>{each.y.extents()});
      ++moved_;
    }
    if (shards > 1 && sum_.begin(on, shards, runner_.at_a_time(on), Model::parameter_count)) ++moved_;
    // What a model keeps grows with the largest shard so far.
    const std::int64_t whole = std::min(items, shard_), rest = shards > 1 ? items % shard_ : 0;
    if (whole > largest_whole_ || rest > largest_rest_) ++moved_;
    largest_whole_ = std::max(largest_whole_, whole);
    largest_rest_ = std::max(largest_rest_, rest);
  }

  /// Another number where memory that a batch is differentiated in has moved, or is going to.
  std::int64_t moved() const noexcept { return moved_; }

  /// The gradient of the mean loss of a batch, for which there is room. // gradient [parameters]
  template <class Input, class Labels>
  void differentiate(execution<Device>& on, const parameters& params, const Input& x, const Labels& labels,
                     T* gradient) {
    const std::int64_t items = labels.extent(0), shards = shards_of(items), group = runner_.at_a_time(on);
    objective<Labels>::template count<Model>(on, labels, counted_.view());
    for (std::int64_t first = 0; first < shards; first += group) {
      const std::int64_t count = std::min(group, shards - first);
      runner_.run(on, count, [&](execution<Device>& mine, std::int64_t index, int at) {
        worker& here = workers_[static_cast<std::size_t>(at)];
        const part of{first + index, shard_, items};
        auto& context = shards > 1 && of.size() < shard_ ? rest_ : here.context;
        const auto some = of.items_of(x);
        const auto y = of.first_rows(here.y.view(), labels), dy = of.first_rows(here.dy.view(), labels);
        model_.forward(mine, params, some, y, context);
        lose(mine, labels, of, y, {}, dy);
        const parameters_of<Model, T, Device> to{shards > 1 ? sum_.place(index) : gradient, {}};
        pull_back(mine, params, some, dy, to, context);
      });
      if (shards > 1) sum_.add(on, count, first + count == shards, gradient);
    }
  }

  /// The mean loss of a batch; `predicted`, where given, takes the predicted class of every label. // predicted [labels]
  template <class Input, class Labels>
  void evaluate(execution<Device>& on, const parameters& params, const Input& x, const Labels& labels,
                const dynamic_view<1, std::int32_t, Device>& predicted) {
    prepare_loss(on, x, labels);
    const std::int64_t items = labels.extent(0);
    objective<Labels>::template count<Model>(on, labels, counted_.view());
    runner_.run(on, shards_of(items), [&](execution<Device>& mine, std::int64_t index, int at) {
      const part of{index, shard_, items};
      const auto y = of.first_rows(workers_[static_cast<std::size_t>(at)].y.view(), labels);
      infer_shard(mine, params, of.items_of(x), y);
      lose(mine, labels, of, y, predicted, {});
    });
  }

  /// Logits of so many items, which have so many labels each. // y [items labels, classes]
  template <class Input>
  void predict(execution<Device>& on, const parameters& params, const Input& x, std::int64_t items, std::int64_t labels,
               const dynamic_view<2, T, Device>& y) {
    check_items(x.extent(0), items);
    runner_.run(on, shards_of(items), [&](execution<Device>& mine, std::int64_t index, int) {
      const part of{index, shard_, items};
      infer_shard(mine, params, of.items_of(x), of.items_of(y, labels));
    });
  }

  /// Loss and counts of the batch before; the execution has done it.
  void read(update_report& report) const {
    std::vector<shard_result> results(static_cast<std::size_t>(shards_));
    Device::copy(results.data(), results_.data(), results.size() * sizeof(shard_result));
    report.loss = 0;
    report.correct = report.counted = 0;
    for (const shard_result& each : results) {
      report.loss += static_cast<double>(each.loss);
      report.correct += each.correct;
      report.counted += each.counted;
    }
  }

 private:
  /// What a shard gave: its part of the mean loss, labels predicted rightly, labels that count.
  struct shard_result {
    number loss;
    std::int64_t correct, counted;
  };

  /// What the shard of one worker takes.
  struct worker {
    typename Model::template context<train> context;
    tensor<rank<2>, T, Device> y, dy;  // [rows of a shard, classes]
  };

  /// The items of a shard.
  struct part : block_range {
    std::int64_t index;
    part(std::int64_t which, std::int64_t shard, std::int64_t items) : block_range{which, shard, items}, index{which} {}

    std::int64_t size() const noexcept { return last - first; }
    /// Of all items, which have so many rows each.
    template <class View>
    auto items_of(const View& all, std::int64_t rows = 1) const {
      return all.slice(0, first * rows, size() * rows);
    }
    /// As many rows of a matrix as belong to them.
    template <class Labels>
    dynamic_view<2, T, Device> first_rows(const dynamic_view<2, T, Device>& room, const Labels& labels) const {
      return room.slice(0, 0, size() * objective<Labels>::rows_of_item(labels));
    }
  };

  static void check_items(std::int64_t items, std::int64_t expected) {
    if (items != expected || items < 1) {
      throw shape_error("trainer", "x", "as many items as labels, one or more: " + std::to_string(expected),
                        std::to_string(items));
    }
  }

  std::int64_t shards_of(std::int64_t items) const noexcept { return block_range::blocks(shard_, items); }

  /// Makes room for the loss of a batch.
  template <class Input, class Labels>
  void prepare_loss(const execution<Device>& on, const Input& x, const Labels& labels) {
    const std::int64_t items = labels.extent(0);
    check_items(x.extent(0), items);
    const std::int64_t rows = std::min(items, shard_) * objective<Labels>::rows_of_item(labels);
    const std::int64_t columns = objective<Labels>::template columns<Model>(labels);
    const auto grow = [&](auto& memory, const auto& shape) {
      on.synchronize();  // with what it does to the old one
      memory.resize(shape);
      ++moved_;
    };
    const std::int64_t needed = std::min(runner_.workers(on), shards_of(items));
    if (workers_.size() < static_cast<std::size_t>(needed)) workers_.resize(static_cast<std::size_t>(needed));
    for (worker& each : workers_) {
      if (each.y.extent(0) < rows || each.y.extent(1) != columns) grow(each.y, rank<2>{{rows, columns}});
    }
    shards_ = shards_of(items);
    if (results_.extent(0) < shards_) grow(results_, rank<1>{{shards_}});
  }

  template <class Input>
  void infer_shard(execution<Device>& on, const parameters& params, const Input& x,
                   const dynamic_view<2, T, Device>& y) const {
    typename Model::template context<infer> nothing;
    model_.forward(on, params, x, y, nothing);
  }

  /// The loss of a shard, with what is asked for.
  template <class Labels>
  void lose(execution<Device>& on, const Labels& labels, const part& of, const dynamic_view<2, const T, Device>& y,
            const dynamic_view<1, std::int32_t, Device>& predicted, const dynamic_view<2, T, Device>& dy) {
    shard_result* const to = results_.data() + of.index;
    dynamic_view<1, std::int32_t, Device> predicted_here;
    if (predicted) predicted_here = of.items_of(predicted, objective<Labels>::rows_of_item(labels));
    objective<Labels>::template compute<T, Device>(on, of.items_of(labels), smoothing_, std::as_const(counted_).view(),
                                                   labels.extent(0), y,
                                                   {.loss = {&to->loss, {{1}}},
                                                    .correct = {&to->correct, {{1}}},
                                                    .counted = {&to->counted, {{1}}},
                                                    .predicted = predicted_here,
                                                    .dlogits = dy});
  }

  template <class Input>
  void pull_back(execution<Device>& on, const parameters& params, const Input& x,
                 const dynamic_view<2, const T, Device>& dy, const parameters_of<Model, T, Device>& to,
                 const typename Model::template context<train>& context) const {
    if constexpr (std::is_integral_v<typename Input::value_type>) {
      model_.backward(on, params, x, dy, to, context);
    } else {
      const typename gradient_by<Input, T>::type dx{};
      model_.template backward<write::overwrite>(on, params, x, dy, dx, to, context);
    }
  }

  Model model_;
  std::int64_t shard_;
  double smoothing_;
  shard_runner<Device> runner_;
  std::vector<worker> workers_;
  typename Model::template context<train> rest_;  // of the last of several shards, where it is smaller
  gradient_sum<T, Device> sum_;
  tensor<rank<1>, std::int64_t, Device> counted_;  // [1], the labels of the batch that count
  tensor<rank<1>, shard_result, Device> results_;  // [shards]
  std::int64_t shards_ = 0;                        // of the batch
  std::int64_t moved_ = 0, largest_whole_ = 0, largest_rest_ = 0;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
