// SPDX-License-Identifier: Apache-2.0
// The same bits however a call is run: a hundred times, on two streams at once, from a graph.
#pragma once

#include <lightnet/backend/execution.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../few.hpp"

namespace same_bits {

namespace ln = lightnet;

// Where a call writes.
struct place {
  std::string name;
  void* data;
  std::size_t bytes;
};
using places = std::vector<place>;
using bytes = std::vector<unsigned char>;

template <class View>
void add_place(places& all, const std::string& name, const View& view) {
  if (view.size() == 0) return;
  all.push_back({name, view.data(), static_cast<std::size_t>(view.size()) * sizeof(typename View::element_type)});
}

// NaN everywhere, or another number that nobody wants.
inline void spoil(const ln::execution<ln::cuda>& on, const places& all) {
  for (const place& one : all) REQUIRE(cudaMemsetAsync(one.data, 0xff, one.bytes, on.stream()) == cudaSuccess);
}

inline std::vector<bytes> read(const ln::execution<ln::cuda>& on, const places& all) {
  on.synchronize();
  std::vector<bytes> list;
  for (const place& one : all) {
    list.emplace_back(one.bytes);
    ln::cuda::copy(list.back().data(), one.data, one.bytes);
  }
  return list;
}

inline void check_same(const places& all, const std::vector<bytes>& got, const std::vector<bytes>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t n = 0; n < got.size(); ++n) {
    INFO(all[n].name);
    CHECK(got[n] == expected[n]);
  }
}

// A stream that waits for no other, and a call with memory of its own on it.
template <class Call>
struct lane {
  cudaStream_t stream = nullptr;
  Call call;
  places written = call.written();

  template <class... Argument>
  explicit lane(const Argument&... arguments) : call(arguments...) {
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  }
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;
  ~lane() { cudaStreamDestroy(stream); }
};

// A call of a type with
//   Call(arguments...);                        its inputs, always the same numbers
//   places written();                          where its outputs are
//   void operator()(execution<cuda>&);         what is asked
// gives the same bits however it is run, in memory that starts with other bytes each time.
template <class Call, class... Argument>
void check(const Argument&... arguments) {
  const int runs = often(100), rounds = often(10), replays = often(3);
  lane<Call> one(arguments...), two(arguments...);
  ln::execution<ln::cuda> on(one.stream), beside(two.stream);
  on.allow_hopper = beside.allow_hopper = std::getenv("LIGHTNET_TEST_AMPERE") == nullptr;
  one.call(on);  // the workspace takes its size
  two.call(beside);
  const auto expected = read(on, one.written);

  for (int run = 0; run < runs; ++run) {
    INFO("run " << run);
    {
      ln::execution<ln::cuda>::scope scratch{on};
      constexpr std::int64_t size = std::int64_t{1} << 20;
      auto* const memory = scratch.take<unsigned char>(size);
      REQUIRE(cudaMemsetAsync(memory, run % 2 == 0 ? 0xff : run, size, on.stream()) == cudaSuccess);
    }
    spoil(on, one.written);
    one.call(on);
    check_same(one.written, read(on, one.written), expected);
  }

  for (int round = 0; round < rounds; ++round) {
    INFO("two streams, round " << round);
    on.synchronize();
    beside.synchronize();
    spoil(on, one.written);
    spoil(beside, two.written);
    for (int turn = 0; turn < 4; ++turn) {
      one.call(on);
      two.call(beside);
    }
    check_same(one.written, read(on, one.written), expected);
    check_same(two.written, read(beside, two.written), expected);
  }

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t runnable = nullptr;
  REQUIRE(cudaStreamBeginCapture(one.stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  one.call(on);
  REQUIRE(cudaStreamEndCapture(one.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&runnable, graph, 0) == cudaSuccess);
  for (int replay = 0; replay < replays; ++replay) {
    INFO("replay " << replay);
    spoil(on, one.written);
    REQUIRE(cudaGraphLaunch(runnable, one.stream) == cudaSuccess);
    check_same(one.written, read(on, one.written), expected);
  }
  CHECK(cudaGraphExecDestroy(runnable) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  on.check();
}

}  // namespace same_bits
