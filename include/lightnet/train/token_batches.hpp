// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/for_each.hpp>
#include <lightnet/backend/letter.hpp>
#include <lightnet/core/reach.hpp>
#include <lightnet/train/data_order.hpp>

#include <algorithm>
#include <span>

LIGHTNET_BEGIN_NAMESPACE

/// How a text is cut for a causal language model.
struct token_options {
  std::int64_t length = 512;  ///< tokens of an item
  bool shift = false;         ///< whether the cuts lie elsewhere, at random, in every epoch
  std::uint64_t seed = 1;     ///< of what is random
};

/// A text of tokens in memory of the device as a source of batches for a trainer: each item is `length` tokens, labelled by
/// those that come next. Items follow each other without a gap; what does not fill one at the end is left out. The text is
/// somebody else's, and must outlive it.
template <class Device = cpu>
class token_batches {
 public:
  using token_view = dynamic_view<1, const std::int32_t, Device>;
  struct batch {
    dynamic_view<2, const std::int32_t, Device> inputs;  // [B, length]
    dynamic_view<2, const std::int32_t, Device> labels;  // [B, length]
  };

  /// tokens [n], dense. Throws device_error, shape_error, or value_error for a text that is shorter than an item.
  token_batches(const token_view& tokens, const token_options& options)
      : tokens_{tokens}, options_{options}, room_{options.shift ? options.length : 1} {
    if (!tokens.contiguous()) throw shape_error("token_batches", "tokens", "a dense array", tokens.describe());
    detail::check_reach("token_batches", "tokens", tokens);
    if (options.length < 1 || options.length > 0xFFFFFFFF) {
      throw value_error("token_batches", "length", "1 to 2^32 - 1", std::to_string(options.length));
    }
    if (size() < 1) {
      throw value_error(
          "token_batches", "tokens",
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
        throw value_error("token_batches", "items", "those of " + std::to_string(size()), std::to_string(item));
      }
    }
    const auto count = static_cast<std::int64_t>(items.size());
    if (inputs_.extent(0) != count) {
      inputs_.resize({{count, options_.length}});
      labels_.resize({{count, options_.length}});
    }
    request_.resize(count + 1);
    request_.data()[0] = first(epoch);
    std::copy(items.begin(), items.end(), request_.data() + 1);
    return {std::as_const(inputs_).view(), std::as_const(labels_).view()};
  }

  /// Makes the batch that was chosen last. A graph that captured this call makes the one chosen before its launch, of as many
  /// items.
  void fill(execution<Device>& on) {
    const std::int64_t count = inputs_.extent(0);
    const cut body{request_.send(on, count + 1), tokens_.data(), inputs_.data(), labels_.data(), options_.length};
    detail::for_each_row(on, "token_batches::fill", count, options_.length, body);
  }

  // Tokens [from, to) of item i of the batch. What the backend calls is public, for nvcc makes no kernel of a private type.
  struct cut {
    const std::int64_t* request;  // where the first item begins, then items
    const std::int32_t* tokens;
    std::int32_t *inputs, *labels;
    std::int64_t length;

    LIGHTNET_HOST_DEVICE void operator()(std::int64_t i, std::int64_t from, std::int64_t to) const noexcept {
      const std::int32_t* const text = tokens + request[0] + request[1 + i] * length;
      for (std::int64_t t = from; t < to; ++t) {
        inputs[i * length + t] = text[t];
        labels[i * length + t] = text[t + 1];
      }
    }
  };

 private:
  token_view tokens_;
  token_options options_;
  std::int64_t room_;  // tokens that no item may have for itself: the last label, the places of the first cut
  detail::letter<std::int64_t, Device> request_;
  tensor<rank<2>, std::int32_t, Device> inputs_, labels_;  // [B, length]
};

LIGHTNET_END_NAMESPACE
