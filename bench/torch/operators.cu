// SPDX-License-Identifier: Apache-2.0

// The additive recurrence behind functions of C, for programs that load a library: operators.py gives them to PyTorch.
// Memory is the caller's; a call is put on the stream of its execution, and returns before it is done. A function that
// fails says why, in memory that lasts until the thread's next call.

#include <lightnet/recurrence.hpp>

#include <cstdint>
#include <exception>
#include <string>

namespace ln = lightnet;

extern "C" {

/// Numbers [B, N, H, channels], any strides, in elements; no data: not given.
struct lightnet_tokens {
  void* data;
  std::int64_t extents[4], strides[4];
};

/// What a call works on. Element type: 0 float, 1 bfloat16. `lengths` [sequences + 1] packs sequences into a batch of one.
struct lightnet_call {
  std::int32_t type, global;
  const std::int64_t* lengths;
  std::int64_t sequences;
  lightnet_tokens q, k, v;
};
}

namespace {

template <class T>
ln::dynamic_view<4, T, ln::cuda> view_of(const lightnet_tokens& from) {
  ln::dynamic_view<4, T, ln::cuda> to;
  if (from.data == nullptr) return to;
  return {static_cast<T*>(from.data),
          {{from.extents[0], from.extents[1], from.extents[2], from.extents[3]}},
          {from.strides[0], from.strides[1], from.strides[2], from.strides[3]}};
}

template <class T>
ln::scan_inputs<ln::additive, 1, T, ln::cuda> inputs_of(const lightnet_call& call) {
  ln::scan_inputs<ln::additive, 1, T, ln::cuda> inputs{
      .q = view_of<const T>(call.q), .k = view_of<const T>(call.k), .v = view_of<const T>(call.v)};
  if (call.lengths) inputs.cumulative_lengths = {call.lengths, {{call.sequences + 1}}};
  return inputs;
}

/// Calls body<T, Traversal>() with what a call names; the sentence that says why it failed, or null.
template <class Body>
const char* run(const lightnet_call& call, const Body& body) {
  thread_local std::string message;
  try {
    const auto of_type = [&]<class T>() {
      call.global ? body.template operator()<T, ln::global>() : body.template operator()<T, ln::causal>();
    };
    call.type == 0 ? of_type.template operator()<float>() : of_type.template operator()<ln::bfloat16>();
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace

extern "C" {

/// An execution on a stream of the current device; null where there is none.
void* lightnet_make_execution(void* stream) {
  try {
    return new ln::execution<ln::cuda>{static_cast<cudaStream_t>(stream)};
  } catch (const std::exception&) {
    return nullptr;
  }
}

/// o [B, N, H, e] = the additive recurrence of q, k [B, N, H, d] and v [B, N, H, e].
const char* lightnet_additive(void* execution, const lightnet_call* call, const lightnet_tokens* o) {
  return run(*call, [&]<class T, class Traversal>() {
    ln::scan<ln::additive, Traversal, ln::no_position, 1, T>(*static_cast<ln::execution<ln::cuda>*>(execution),
                                                             inputs_of<T>(*call), {.o = view_of<T>(*o)});
  });
}

/// Its gradients, from that by o; those without data are not made.
const char* lightnet_additive_backward(void* execution, const lightnet_call* call, const lightnet_tokens* d_o,
                                       const lightnet_tokens* dq, const lightnet_tokens* dk,
                                       const lightnet_tokens* dv) {
  return run(*call, [&]<class T, class Traversal>() {
    ln::scan_backward<ln::additive, Traversal, ln::no_position, 1, T>(
        *static_cast<ln::execution<ln::cuda>*>(execution), inputs_of<T>(*call), {.o = view_of<const T>(*d_o)},
        {.q = view_of<T>(*dq), .k = view_of<T>(*dk), .v = view_of<T>(*dv)});
  });
}
}
