// expect: use the traversal causal
// SPDX-License-Identifier: Apache-2.0
// A model that predicts the next token must not see it.
#include <lightnet/model/causal_language_model.hpp>

namespace ln = lightnet;

struct seeing : ln::causal_language_model_options {
  using traversal = ln::global;
};
constexpr auto misuse = ln::causal_language_model<seeing, 1>::parameter_count;
