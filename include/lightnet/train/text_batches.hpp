// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/letter.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/train/data_order.hpp>

#include <algorithm>
#include <span>

LIGHTNET_BEGIN_NAMESPACE

/// How a text is cut into items.
struct token_options {
  std::int64_t length = 512;  ///< tokens of an item
  bool shift = false;         ///< whether the cuts lie elsewhere, at random, in every epoch
  std::uint64_t seed = 1;     ///< of what is random
};

/// A text of tokens in memory of the device as a source of batches for a trainer: each item is `length` tokens, of which a Task
/// makes inputs and labels, such as next_token or masking. Items follow each other without a gap; what does not fill one at the
/// end is left out. What is random is a function of the seed, the epoch and the place in the text. The text is somebody
/// else's, and must outlive it.
///
/// A Task has `check()`, which throws value_error for numbers that make no task; `beyond`, the tokens after a token that its
/// label needs; and `operator()(text, random, place, input, label)` for the token *text at a place of the whole text, where
/// numbers 4 place to 4 place + 3 of `random` are its own.
template <class Task, class Device = cpu>
class text_batches {
 public:
  using token_view = dynamic_view<1, const std::int32_t, Device>;
  struct batch {
    dynamic_view<2, const std::int32_t, Device> inputs;  // [B, length]
    dynamic_view<2, const std::int32_t, Device> labels;  // [B, length]
  };

  /// tokens [n], dense. Throws device_error, shape_error, or value_error for a text that is shorter than an item.
  text_batches(const token_view& tokens, const token_options& options, const Task& task = {})
      : tokens_{tokens},
        options_{options},
        task_{task},
        room_{options.shift ? options.length - 1 + Task::beyond : Task::beyond} {
    task.check();
    if (!tokens.contiguous()) throw shape_error("text_batches", "tokens", "a dense array", tokens.describe());
    detail::check_reach("text_batches", "tokens", tokens);
    if (options.length < 1 || options.length > 0xFFFFFFFF) {
      throw value_error("text_batches", "length", "1 to 2^32 - 1", std::to_string(options.length));
    }
    if (size() < 1) {
      throw value_error(
          "text_batches", "tokens",
          std::to_string(options.length + room_) + " or more, for items of " + std::to_string(options.length),
          std::to_string(tokens.extent(0)));
    }
  }

  /// The number of items.
  std::int64_t size() const noexcept { return (tokens_.extent(0) - room_) / options_.length; }

  /// Where the first item of an epoch begins.
  std::int64_t first(std::int64_t epoch) const noexcept {
    if (!options_.shift) return 0;
    const random_stream random = stream_for(stream_purpose::augmentation, options_.seed);
    return random.below(static_cast<std::uint32_t>(options_.length), static_cast<std::uint64_t>(epoch));
  }

  /// Chooses the items of the next batch, which `fill` puts where these views are; the same ones for the same number of
  /// items. Calls of `fill` before it have been done. Throws value_error for an item that there is not.
  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    for (const std::int64_t item : items) {
      if (item < 0 || item >= size()) {
        throw value_error("text_batches", "items", "those of " + std::to_string(size()), std::to_string(item));
      }
    }
    const auto count = static_cast<std::int64_t>(items.size());
    if (inputs_.extent(0) != count) {
      inputs_.resize({{count, options_.length}});
      labels_.resize({{count, options_.length}});
    }
    request_.resize(count + 2);
    request_.data()[0] = epoch;
    request_.data()[1] = first(epoch);
    std::copy(items.begin(), items.end(), request_.data() + 2);
    return {std::as_const(inputs_).view(), std::as_const(labels_).view()};
  }

  /// Makes the batch that was chosen last. A graph that captured this call makes the one chosen before its launch, of as many
  /// items.
  void fill(execution<Device>& on) {
    const std::int64_t count = inputs_.extent(0);
    const cut body{request_.send(on, count + 2),
                   tokens_.data(),
                   inputs_.data(),
                   labels_.data(),
                   options_.length,
                   options_.seed,
                   task_};
    detail::for_each_row(on, "text_batches::fill", count, options_.length, body);
  }

  // Tokens [from, to) of item i of the batch. What the backend calls is public, for nvcc makes no kernel of a private type.
  struct cut {
    const std::int64_t* request;  // the epoch, where its first item begins, then items
    const std::int32_t* tokens;
    std::int32_t *inputs, *labels;
    std::int64_t length;
    std::uint64_t seed;
    Task task;

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t i, std::int64_t from, std::int64_t to) const noexcept {
      const std::int64_t begin = request[1] + request[2 + i] * length;
      const random_stream random = stream_for(stream_purpose::masking, seed, static_cast<std::uint32_t>(request[0]));
      for (std::int64_t t = from; t < to; ++t) {
        task(tokens + begin + t, random, static_cast<std::uint64_t>(begin + t), inputs[i * length + t],
             labels[i * length + t]);
      }
    }
  };

 private:
  token_view tokens_;
  token_options options_;
  Task task_;
  std::int64_t room_;  // tokens that no item may have for itself: the last label, the places of the first cut
  detail::letter<std::int64_t, Device> request_;
  tensor<rank<2>, std::int32_t, Device> inputs_, labels_;  // [B, length]
};

LIGHTNET_END_NAMESPACE
