// SPDX-License-Identifier: Apache-2.0
// The list of cases: recurrence x traversal x position x dims x dtype.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "question.hpp"

// A recurrence of your own, a traversal, an encoding: one line here. E is made in every storage type, B in double and
// float, D in double alone. A recurrence with the same encoding and dims compiles once for all ordered traversals.
// clang-format off
#define LIGHTNET_CASES_ADDITIVE_KEYS(E, B, D)                          \
  E(ln::additive, ln::causal, ln::no_position, 1)                      \
  E(ln::additive, ln::bidirectional, ln::no_position, 1)               \
  E(ln::additive, ln::causal, ln::md_lrpe, 2)                          \
  D(ln::additive, ln::bidirectional, ln::md_lrpe, 2)                   \
  B(ln::additive, ln::axial, ln::md_lrpe, 2)                           \
  D(ln::additive, ln::causal, ln::no_position, 4)                      \
  D(ln::additive, ln::axial, ln::no_position, 4)
#define LIGHTNET_CASES_ADDITIVE_SINK(E, B, D)                          \
  B(ln::additive_with_sink, ln::causal, ln::md_lrpe, 3)                \
  D(ln::additive_with_sink, ln::bidirectional, ln::md_lrpe, 3)         \
  D(ln::additive_with_sink, ln::axial, ln::md_lrpe, 3)
#define LIGHTNET_CASES_ADDITIVE(E, B, D)                               \
  LIGHTNET_CASES_ADDITIVE_KEYS(E, B, D)                                \
  LIGHTNET_CASES_ADDITIVE_SINK(E, B, D)
#define LIGHTNET_CASES_GLOBAL_KEYS(E, B, D)                            \
  E(ln::additive, ln::global, ln::no_position, 1)                      \
  E(ln::additive, ln::global, ln::md_lrpe, 2)                          \
  B(ln::additive, ln::global, ln::md_lrpe_rotate, 3)                   \
  D(ln::additive, ln::global, md_lrpe_neighbours, 1)                   \
  B(ln::additive_with_sink, ln::global, ln::no_position, 2)
#define LIGHTNET_CASES_GLOBAL_LOGITS(E, B, D)                          \
  B(ln::additive_gated, ln::global, ln::md_lrpe, 1)                    \
  D(ln::additive_gated, ln::global, ln::md_lrpe_rotate, 2)             \
  B(ln::additive_gated_per_head, ln::global, ln::no_position, 3)       \
  B(ln::no_decay, ln::global, ln::md_lrpe_rotate, 2)                   \
  D(ln::no_decay, ln::global, ln::no_position, 4)
#define LIGHTNET_CASES_GLOBAL(E, B, D)                                 \
  LIGHTNET_CASES_GLOBAL_KEYS(E, B, D)                                  \
  LIGHTNET_CASES_GLOBAL_LOGITS(E, B, D)
#define LIGHTNET_CASES_GATED(E, B, D)                                  \
  E(ln::additive_gated, ln::causal, ln::no_position, 1)                \
  D(ln::additive_gated, ln::bidirectional, ln::no_position, 1)         \
  D(ln::additive_gated, ln::causal, ln::md_lrpe, 2)                    \
  D(ln::additive_gated, ln::axial, ln::md_lrpe, 2)                     \
  B(ln::additive_gated_per_head, ln::causal, ln::md_lrpe_rotate, 2)    \
  D(ln::additive_gated_per_head, ln::bidirectional, ln::md_lrpe_rotate, 2) \
  B(ln::additive_gated_per_head, ln::axial, ln::md_lrpe_rotate, 2)
#define LIGHTNET_CASES_PLAIN(E, B, D)                                  \
  E(ln::additive_plain, ln::causal, ln::no_position, 1)                \
  B(ln::additive_plain, ln::bidirectional, ln::no_position, 1)         \
  D(ln::additive_plain, ln::causal, ln::md_lrpe, 3)                    \
  D(ln::additive_plain, ln::axial, ln::md_lrpe, 3)                     \
  B(ln::additive_plain_per_head, ln::causal, ln::md_lrpe_rotate, 1)    \
  D(ln::additive_plain_per_head, ln::bidirectional, ln::md_lrpe_rotate, 1) \
  D(ln::additive_plain_per_head, ln::axial, ln::md_lrpe_rotate, 1)
#define LIGHTNET_CASES_NO_DECAY(E, B, D)                               \
  B(ln::no_decay, ln::causal, ln::no_position, 1)                      \
  D(ln::no_decay, ln::causal, ln::md_lrpe, 4)                          \
  D(ln::no_decay, ln::bidirectional, ln::md_lrpe, 4)                   \
  D(ln::no_decay, ln::axial, md_lrpe_neighbours, 2)
#define LIGHTNET_CASES_CONSTANT_DECAY(E, B, D)                         \
  E(ln::constant_decay, ln::causal, ln::no_position, 1)                \
  E(ln::constant_decay, ln::bidirectional, ln::no_position, 1)         \
  B(ln::constant_decay, ln::causal, ln::md_lrpe_rotate, 2)             \
  D(ln::constant_decay, ln::axial, ln::md_lrpe_rotate, 2)              \
  E(ln::constant_decay, ln::bidirectional, ln::md_lrpe, 2)             \
  B(ln::signed_decay<ln::constant_decay>, ln::causal, ln::no_position, 1) \
  D(ln::signed_decay<ln::constant_decay>, ln::axial, ln::no_position, 1) \
  D(ln::signed_decay<ln::constant_decay>, ln::bidirectional, ln::md_lrpe, 2)
#define LIGHTNET_CASES_CONSTANT(E, B, D)                               \
  LIGHTNET_CASES_NO_DECAY(E, B, D)                                     \
  LIGHTNET_CASES_CONSTANT_DECAY(E, B, D)
#define LIGHTNET_CASES_SCALAR(E, B, D)                                 \
  E(ln::scalar_decay, ln::causal, ln::no_position, 1)                  \
  E(ln::scalar_decay, ln::bidirectional, ln::no_position, 1)           \
  D(ln::scalar_decay, ln::causal, ln::md_lrpe_rotate, 3)               \
  D(ln::scalar_decay, ln::axial, ln::md_lrpe_rotate, 3)                \
  B(ln::signed_decay<ln::scalar_decay>, ln::causal, ln::no_position, 1) \
  D(ln::signed_decay<ln::scalar_decay>, ln::bidirectional, ln::no_position, 1) \
  D(ln::signed_decay<ln::scalar_decay>, ln::axial, ln::md_lrpe, 2)
#define LIGHTNET_CASES_VECTOR_DECAY(E, B, D)                           \
  E(ln::vector_decay, ln::causal, ln::no_position, 1)                  \
  B(ln::vector_decay, ln::bidirectional, ln::no_position, 1)           \
  D(ln::vector_decay, ln::causal, ln::md_lrpe, 2)                      \
  B(ln::vector_decay, ln::axial, ln::md_lrpe, 2)
#define LIGHTNET_CASES_SIGNED_VECTOR(E, B, D)                          \
  B(ln::signed_decay<ln::vector_decay>, ln::causal, ln::no_position, 1) \
  D(ln::signed_decay<ln::vector_decay>, ln::bidirectional, ln::no_position, 1) \
  D(ln::signed_decay<ln::vector_decay>, ln::causal, ln::md_lrpe, 3)    \
  D(ln::signed_decay<ln::vector_decay>, ln::axial, ln::md_lrpe, 3)
#define LIGHTNET_CASES_HGRN2(E, B, D)                                  \
  E(ln::hgrn2, ln::causal, ln::no_position, 1)                         \
  E(ln::hgrn2, ln::bidirectional, ln::no_position, 1)                  \
  D(ln::hgrn2, ln::causal, ln::md_lrpe, 2)                             \
  B(ln::hgrn2, ln::axial, ln::md_lrpe, 2)
#define LIGHTNET_CASES_VECTOR(E, B, D)                                 \
  LIGHTNET_CASES_VECTOR_DECAY(E, B, D)                                 \
  LIGHTNET_CASES_SIGNED_VECTOR(E, B, D)                                \
  LIGHTNET_CASES_HGRN2(E, B, D)
#define LIGHTNET_CASES_ALL(E, B, D)  \
  LIGHTNET_CASES_ADDITIVE(E, B, D)   \
  LIGHTNET_CASES_GLOBAL(E, B, D)     \
  LIGHTNET_CASES_GATED(E, B, D)      \
  LIGHTNET_CASES_PLAIN(E, B, D)      \
  LIGHTNET_CASES_CONSTANT(E, B, D)   \
  LIGHTNET_CASES_SCALAR(E, B, D)     \
  LIGHTNET_CASES_VECTOR(E, B, D)
// clang-format on

namespace cases {

// All of them, as they were linked: of the CPU (cases_test.cpp), or of CUDA.
const std::vector<operation>& operations();

inline const operation& find(const std::string& name) {
  for (const operation& one : operations()) {
    if (one.name == name) return one;
  }
  throw std::invalid_argument("no such case: " + name);
}

}  // namespace cases
