// expect: use md_lrpe_rotate
// SPDX-License-Identifier: Apache-2.0
// Encodings that know distances alone make a text and the same text backwards one.
#include <lightnet/model/masked_language_model.hpp>

namespace ln = lightnet;

struct options : ln::masked_language_model_options {
  using position = ln::md_lrpe;
};

ln::masked_language_model<options, 1> misuse() { return {}; }
