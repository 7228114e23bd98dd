// SPDX-License-Identifier: Apache-2.0
// The matrix product in double, compiled once for all units of a program that include this: Eigen's costs 4 s each.
#pragma once

#include <lightnet/backend/cpu/gemm.hpp>

extern template void lightnet::detail::gemm<double>(lightnet::execution<lightnet::cpu>&,
                                                    const lightnet::dynamic_view<2, const double, lightnet::cpu>&,
                                                    const lightnet::dynamic_view<2, const double, lightnet::cpu>&,
                                                    const lightnet::dynamic_view<2, double, lightnet::cpu>&, bool);
