// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cpu/repeated_calls.hpp>
#include <lightnet/backend/cuda/graph.cuh>

#include <map>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// A graph for each call that comes again. The default stream cannot be captured: its calls are made as they are.
template <>
class repeated_calls<cuda> {
 public:
  /// Makes the call: the first time as it is, then by one launch, with the same bits. `call` may run twice, and must not
  /// mind.
  template <class Call>
  void run(execution<cuda>& on, const call_key& key, const Call& call) {
    if (!captured_call::possible(on)) return call();
    const auto known = graphs_.find(key);
    if (known != graphs_.end() && known->second.fits(on)) return known->second.replay(on);
    call();
    if (graphs_.size() >= most) graphs_.clear();
    graphs_[key].capture(on, call);
  }

 private:
  static constexpr std::size_t most = 8;  // whole batches and the last of an epoch are two

  std::map<call_key, captured_call> graphs_;
};

}  // namespace detail

LIGHTNET_END_NAMESPACE
