// SPDX-License-Identifier: Apache-2.0

#include "torch/operator.cuh"

template struct recurrence_operator<lightnet::no_decay>;
