// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// The recurrences as one writes them down without further thought: one head, token after token, the whole state for
/// each token. What the rows are compared with. Logits are taken as they are, and must not overflow.
namespace bench::plain {

/// One head, d = e = width: in each array the numbers of a token lie side by side, and those of the next token `stride`
/// further on.
struct head {
  std::int64_t tokens, width, stride;
  const float *q, *k, *v;  // [tokens, d], the same, [tokens, e]
  const float* log_decay;  // [tokens, d], or [tokens] for a scalar decay
  std::int64_t log_decay_stride;
  const float* do_;                      // [tokens, e]
  const float *cosine, *sine;            // [tokens, d], densely
  float *o, *dq, *dk, *dv, *dlog_decay;  // as v, q, k, v, log_decay
};

using function = void (*)(const head&);

void additive_causal_forward(const head& h);
void additive_causal_backward(const head& h);
void additive_global_forward(const head& h);
void additive_global_backward(const head& h);

/// MD-LRPE, cosine: o and dq are q times the cosines and the sines.
void md_lrpe_apply(const head& h);

/// With MD-LRPE: a state of 2 d keys.
void additive_causal_lrpe_forward(const head& h);
void additive_global_lrpe_forward(const head& h);

/// A decay for all tokens, the first of `log_decay`; its gradient is summed over them.
void constant_decay_forward(const head& h);
void constant_decay_backward(const head& h);
void scalar_decay_forward(const head& h);
void scalar_decay_backward(const head& h);
void vector_decay_forward(const head& h);
void vector_decay_backward(const head& h);

/// With 1 - a for the key.
void hgrn2_forward(const head& h);

/// o = a o + v, channel by channel.
void elementwise_forward(const head& h);
void elementwise_backward(const head& h);

/// The same with decays in place of their logarithms; backward reads o.
void affine_forward(const head& h);
void affine_backward(const head& h);

}  // namespace bench::plain
