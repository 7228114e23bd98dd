// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/train/source.hpp>

#include <algorithm>
#include <array>
#include <future>
#include <vector>

LIGHTNET_BEGIN_NAMESPACE

/// A source of batches for a trainer that reads ahead: while the device works on a batch, the next one is loaded by another
/// thread. It gives the batches that the Source alone would give, in their order and with the same bits, and what `load`
/// throws is thrown where that batch is asked for. For a Source whose `load` takes time on the host, as it reads
/// files or changes what it reads; one that fills its batches on the device has nothing to read ahead, and does not compile.
///
/// Two copies of the Source take turns, and one may load while the batch of the other is in use: what copies share they must
/// not change. Where it ends, or was asked for another batch than was announced, it waits for the one under way.
template <class Source, class Device = cpu>
class prefetching_batches {
 public:
  static_assert(
      !detail::fills<Source, Device>,
      "lightnet::prefetching_batches: this source fills its batches on the device, so that nothing is left to "
      "read ahead; give it to the trainer as it is");
  using batch = detail::batch_of<Source>;

  explicit prefetching_batches(const Source& source) : sources_{source, source} {}
  prefetching_batches(const prefetching_batches&) = delete;
  prefetching_batches& operator=(const prefetching_batches&) = delete;

  std::int64_t size() const { return sources_[0].size(); }

  /// The batch of these items, valid until the next call. Throws what the Source throws.
  batch load(std::span<const std::int64_t> items, std::int64_t epoch) {
    if (coming_.valid()) {
      std::future<batch> coming = std::move(coming_);
      if (epoch == epoch_ && std::ranges::equal(items, items_)) {
        turn_ = 1 - turn_;
        return coming.get();
      }
      coming.wait();
    }
    return sources_[turn_].load(items, epoch);
  }

  /// Begins to load the batch that will be asked for next; the one before stays valid.
  void prefetch(std::span<const std::int64_t> items, std::int64_t epoch) {
    if (coming_.valid()) coming_.wait();
    items_.assign(items.begin(), items.end());
    epoch_ = epoch;
    coming_ = std::async(std::launch::async, [this, &from = sources_[1 - turn_], device = Device::current()] {
      Device::make_current(device);  // of this thread
      return from.load(items_, epoch_);
    });
  }

 private:
  std::array<Source, 2> sources_;
  std::size_t turn_ = 0;  // of the source whose batch is in use
  std::vector<std::int64_t> items_;
  std::int64_t epoch_ = 0;     // with the items: what is coming
  std::future<batch> coming_;  // the last member, for its end waits for the thread
};

LIGHTNET_END_NAMESPACE
