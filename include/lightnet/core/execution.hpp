// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/core/config.hpp>

LIGHTNET_BEGIN_NAMESPACE

/// What a call needs beyond its arguments (threads or a stream, and a workspace), one specialisation a device. There
/// is no global state; one execution serves one call at a time.
template <class Device>
class execution;

LIGHTNET_END_NAMESPACE
