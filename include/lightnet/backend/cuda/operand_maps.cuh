// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/warpgroup.cuh>
#include <lightnet/core/half.hpp>

#include <array>
#include <cstdint>

#include <cuda.h>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// How the copy engine of Hopper finds operands in memory, each bfloat16 [batch, tokens, heads, channels], and which part of
/// them it takes at a time: all channels, 64 or 128, of 64 tokens, as a swizzled_tile has them. Where an operand lies in
/// another way than the engine can follow, none is `given`.
template <int Count>
struct operand_maps {
  CUtensorMap of[Count];
  bool given;

  /// Starts to copy a tile that begins with a token, and tells `barrier` when its bytes are there. By one thread.
  __device__ void copy(int number, unsigned char* to, int token, int head, int batch,
                       const counting_barrier& barrier) const {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %2, %4, %5}], "
        "[%6];"
        :
        : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(to))), "l"(&of[number]), "r"(0), "r"(token),
          "r"(head), "r"(batch), "r"(barrier.address())
        : "memory");
  }
};

/// The driver's function that makes such a map; null where there is none.
inline auto* tensor_map_encoder() {
  static auto* const found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
    const bool there = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(there ? function : nullptr);
  }();
  return found;
}

/// Makes the map of an operand whose tokens have `wide` channels; whether it can be made.
template <class Sequence>
bool map_operand(const Sequence& sequence, std::int64_t wide, CUtensorMap& map) {
  constexpr std::int64_t alignment = 16, farthest = std::int64_t{1} << 40, most = INT32_MAX;
  constexpr cuuint32_t side = 64;  // of a panel
  constexpr int rank = 5;          // channels of a panel, tokens, panels, heads, batch
  std::int64_t step = 0;
  if (!sequence || !sequence.evenly_spaced(step) || sequence.channel_stride() != 1 || sequence.channels() != wide) {
    return false;
  }
  const auto* const first = sequence.token(0, 0, 0);
  const auto bytes = [](std::int64_t elements) { return elements * static_cast<std::int64_t>(sizeof(bfloat16)); };
  const std::array<std::int64_t, rank - 1> extents{sequence.tokens(), wide / side, sequence.heads(), sequence.batch()};
  const std::array<std::int64_t, rank - 1> steps{bytes(step), bytes(side), bytes(sequence.token(0, 1, 0) - first),
                                                 bytes(sequence.token(1, 0, 0) - first)};
  std::array<cuuint64_t, rank> extent{side};
  std::array<cuuint64_t, rank - 1> stride{};
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const std::int64_t apart = extents[i] > 1 ? steps[i] : bytes(wide);  // of one there is no next
    if (extents[i] < 1 || extents[i] > most || apart <= 0 || apart >= farthest || apart % alignment != 0) return false;
    extent[i + 1] = static_cast<cuuint64_t>(extents[i]);
    stride[i] = static_cast<cuuint64_t>(apart);
  }
  if (reinterpret_cast<std::uintptr_t>(first) % alignment != 0) return false;
  const std::array<cuuint32_t, rank> box{side, side, static_cast<cuuint32_t>(wide) / side, 1, 1}, each{1, 1, 1, 1, 1};
  auto* const encode = tensor_map_encoder();
  return encode != nullptr &&
         encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<bfloat16*>(first), extent.data(),
                stride.data(), box.data(), each.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
