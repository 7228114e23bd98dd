// SPDX-License-Identifier: Apache-2.0
#pragma once

/// One function for each file of rows; they run in the order of main().
namespace bench {

void add_additive_causal_rows();
void add_additive_global_rows();
void add_bfloat16_rows();
void add_constant_decay_rows();
void add_scalar_decay_rows();
void add_vector_decay_rows();
void add_hgrn2_rows();
void add_elementwise_rows();
void add_md_lrpe_rows();
void add_md_tpe_rows();
void add_training_rows();
void add_decoding_rows();

}  // namespace bench
