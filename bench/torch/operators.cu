// SPDX-License-Identifier: Apache-2.0

// The recurrences behind functions of C, for programs that load a library: operators.py gives them to PyTorch. A call is
// put on the stream of its execution, and returns before it is done. A function that fails says why, in memory that
// lasts until the thread's next call.

#include "torch/operator.hpp"

#include <lightnet/recurrence/additive.hpp>
#include <lightnet/recurrence/elementwise.hpp>
#include <lightnet/recurrence/no_decay.hpp>
#include <lightnet/recurrence/vector_decay.hpp>

#include <array>
#include <exception>
#include <string>

namespace ln = lightnet;

namespace {

/// The functions of a recurrence, by its name.
struct entry {
  const char* name;
  decltype(&recurrence_operator<ln::additive>::forward) forward;
  decltype(&recurrence_operator<ln::additive>::backward) backward;
};

template <class... Recurrences>
constexpr std::array<entry, sizeof...(Recurrences)> entries_of() {
  return {{{Recurrences::name, &recurrence_operator<Recurrences>::forward,
            &recurrence_operator<Recurrences>::backward}...}};
}

constexpr auto entries = entries_of<ln::additive, ln::no_decay, ln::constant_decay, ln::scalar_decay, ln::vector_decay,
                                    ln::hgrn2, ln::elementwise>();

/// Calls body(entry) with that of a recurrence; the sentence that says why it failed, or null.
template <class Body>
const char* run(const std::string& recurrence, const Body& body) {
  thread_local std::string message;
  try {
    for (const entry& each : entries) {
      if (recurrence == each.name) {
        body(each);
        return nullptr;
      }
    }
    message = "lightnet: there is no operator for the recurrence '" + recurrence + "'";
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
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

/// o = the recurrence of that name, a policy's, of the inputs of a call.
const char* lightnet_scan(void* execution, const char* recurrence, const lightnet_call* call,
                          const lightnet_tensor* o) {
  return run(recurrence,
             [&](const entry& of) { of.forward(*static_cast<ln::execution<ln::cuda>*>(execution), *call, *o); });
}

/// Its gradients, from that by o; those without data are not made.
const char* lightnet_scan_backward(void* execution, const char* recurrence, const lightnet_call* call,
                                   const lightnet_tensor* d_o, const lightnet_operands* gradients) {
  return run(recurrence, [&](const entry& of) {
    of.backward(*static_cast<ln::execution<ln::cuda>*>(execution), *call, *d_o, *gradients);
  });
}
}
