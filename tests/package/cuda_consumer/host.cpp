// SPDX-License-Identifier: Apache-2.0
#include <lightnet/backend/execution.hpp>

#if !defined(LIGHTNET_CUDA)
#error "the target lightnet::cuda does not say LIGHTNET_CUDA"
#endif
#if defined(LIGHTNET_HAS_CUDA)
#error "a host compiler sees the CUDA backend"
#endif

int threads() { return lightnet::execution<lightnet::cpu>{3}.threads(); }
