// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lightnet/backend/cuda/mma.cuh>

#include <type_traits>

LIGHTNET_BEGIN_NAMESPACE

namespace detail {

/// The larger magnitudes of pairs of bfloat16, whose signs mean nothing; NaN where any of them is.
__device__ inline std::uint32_t larger_magnitudes(std::uint32_t a, std::uint32_t b) {
  std::uint32_t larger;
  asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}
/// Whether any of them is a bound, given twice, or more, or NaN.
__device__ inline bool reach(std::uint32_t magnitudes, std::uint32_t bounds) {
  return __vcmpgeu2(magnitudes & 0x7FFF7FFFU, bounds) != 0;
}
/// From here on keys are no plain ones: 1e6.
inline constexpr std::uint32_t wide_bfloat16 = 0x49744974U, infinite_bfloat16 = 0x7F807F80U;

// What four warps of a Hopper GPU do together (PTX, wgmma and the barriers of a block): D[64, N] += A[64, 16] B[16, N] in
// bfloat16 with sums in float. B lies in shared memory, A there or in registers. Thread t of the four warps holds of D, for
// every 8 columns from n on, the rows t / 32 * 16 + t % 32 / 4 and the 8th after it, of each the columns n + 2 (t % 4) and
// the next, in d[n / 2 .. n / 2 + 3]; and so of A, packed.

/// How the matrix units find 16 steps of an operand in shared memory; Transposed: they are rows there, not columns.
template <bool Transposed>
struct group_operand {
  std::uint64_t descriptor;
};

/// A matrix of bfloat16 in shared memory that the matrix units read: panels of 64 columns, a row of a panel 128 bytes, its
/// eight parts of 16 bytes exchanged by the row (the swizzle of 128 bytes). A panel starts at a multiple of 1024 bytes.
template <int Rows>
struct swizzled_tile {
  static constexpr int row_bytes = 128, panel_bytes = Rows * row_bytes;
  LIGHTNET_HOST_DEVICE static constexpr int bytes(int columns) { return columns / 64 * panel_bytes; }

  unsigned char* data;

  /// Where the 8 columns from `column` on of a row lie.
  __device__ unsigned char* part(int row, int column) const {
    return data + column / 64 * panel_bytes + row * row_bytes + ((column / 8 % 8) ^ (row % 8)) * 16;
  }
  __device__ std::uint16_t* at(int row, int column) const {
    return reinterpret_cast<std::uint16_t*>(part(row, column)) + column % 8;
  }

  /// The rows from `row` on as those of A, or as the columns of B; the columns [column, column + 16) are summed over.
  __device__ group_operand<false> along_columns(int row, int column) const {
    return {descriptor(data + column / 64 * panel_bytes + row * row_bytes + column % 64 * 2)};
  }
  /// The 128 columns of two panels as the columns of B; the rows [row, row + 16) are summed over.
  __device__ group_operand<true> along_rows_of_panels(int row) const {
    constexpr std::uint64_t one = 1, next_panel = panel_bytes >> 4;
    return {descriptor(data + row * row_bytes) + ((next_panel - one) << 16)};
  }
  /// The 64 columns from `column` on as the rows of A, or as the columns of B; the rows [row, row + 16) are summed over.
  __device__ group_operand<true> along_rows(int row, int column) const {
    return {descriptor(data + column / 64 * panel_bytes + row * row_bytes)};
  }

 private:
  // Address / 16, the distance of groups of eight rows / 16, the swizzle.
  __device__ static std::uint64_t descriptor(const unsigned char* first) {
    const auto address = static_cast<std::uint64_t>(__cvta_generic_to_shared(first));
    return (address >> 4 & 0x3FFF) | std::uint64_t{1} << 16 | std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
  }
};

/// Before the first product, and whenever registers that products read or add to were written.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" : : : "memory"); }
/// Keeps what the compiler does with registers of products on its side of a fence or a wait.
template <int Count>
__device__ __forceinline__ void keep_order(float (&d)[Count]) {
#pragma unroll
  for (int n = 0; n < Count; ++n) asm volatile("" : "+f"(d[n]) : : "memory");
}
/// Has the compiler work out once more what follows from x, which is not negative, rather than keep it in registers that it
/// does not have.
template <class T>
__device__ __forceinline__ T anew(T x) {
  static_assert(sizeof(T) == 4);
  asm volatile("" : "+r"(x));
  if constexpr (std::is_signed_v<T>) __builtin_assume(x >= 0);
  return x;
}
/// Ends a group of products.
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" : : : "memory"); }
/// Until all but the last `Pending` groups are done.
template <int Pending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" : : "n"(Pending) : "memory");
}

/// D[64, 32] += A B, both in shared memory.
template <bool TransposedA, bool TransposedB>
__device__ __forceinline__ void multiply_add_group(float (&d)[16], group_operand<TransposedA> a,
                                                   group_operand<TransposedB> b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "%16, %17, 1, 1, 1, %18, %19;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
      : "l"(a.descriptor), "l"(b.descriptor), "n"(int{TransposedA}), "n"(int{TransposedB}));
}
/// D[64, 64] += A B, both in shared memory.
template <bool TransposedA, bool TransposedB>
__device__ __forceinline__ void multiply_add_group(float (&d)[32], group_operand<TransposedA> a,
                                                   group_operand<TransposedB> b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, 1, 1, 1, %34, %35;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a.descriptor), "l"(b.descriptor), "n"(int{TransposedA}), "n"(int{TransposedB}));
}
/// D[64, 64] += A B, A in registers.
template <bool TransposedB>
__device__ __forceinline__ void multiply_add_group(float (&d)[32], const std::uint32_t (&a)[4],
                                                   group_operand<TransposedB> b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, 1, 1, 1, %37;"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor), "n"(int{TransposedB}));
}

/// D[64, 128] += A B in two halves of 64 columns, both in shared memory.
template <bool TransposedA, bool TransposedB>
__device__ __forceinline__ void multiply_add_group(float (&d)[2][32], group_operand<TransposedA> a,
                                                   group_operand<TransposedB> b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
      "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, 1, 1, 1, %66, %67;"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[0][4]), "+f"(d[0][5]), "+f"(d[0][6]),
        "+f"(d[0][7]), "+f"(d[0][8]), "+f"(d[0][9]), "+f"(d[0][10]), "+f"(d[0][11]), "+f"(d[0][12]), "+f"(d[0][13]),
        "+f"(d[0][14]), "+f"(d[0][15]), "+f"(d[0][16]), "+f"(d[0][17]), "+f"(d[0][18]), "+f"(d[0][19]), "+f"(d[0][20]),
        "+f"(d[0][21]), "+f"(d[0][22]), "+f"(d[0][23]), "+f"(d[0][24]), "+f"(d[0][25]), "+f"(d[0][26]), "+f"(d[0][27]),
        "+f"(d[0][28]), "+f"(d[0][29]), "+f"(d[0][30]), "+f"(d[0][31]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]),
        "+f"(d[1][3]), "+f"(d[1][4]), "+f"(d[1][5]), "+f"(d[1][6]), "+f"(d[1][7]), "+f"(d[1][8]), "+f"(d[1][9]),
        "+f"(d[1][10]), "+f"(d[1][11]), "+f"(d[1][12]), "+f"(d[1][13]), "+f"(d[1][14]), "+f"(d[1][15]), "+f"(d[1][16]),
        "+f"(d[1][17]), "+f"(d[1][18]), "+f"(d[1][19]), "+f"(d[1][20]), "+f"(d[1][21]), "+f"(d[1][22]), "+f"(d[1][23]),
        "+f"(d[1][24]), "+f"(d[1][25]), "+f"(d[1][26]), "+f"(d[1][27]), "+f"(d[1][28]), "+f"(d[1][29]), "+f"(d[1][30]),
        "+f"(d[1][31])
      : "l"(a.descriptor), "l"(b.descriptor), "n"(int{TransposedA}), "n"(int{TransposedB}));
}

/// D[64, 128] += A B in two halves of 64 columns, A in registers.
template <bool TransposedB>
__device__ __forceinline__ void multiply_add_group(float (&d)[2][32], const std::uint32_t (&a)[4],
                                                   group_operand<TransposedB> b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
      "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
      "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63}, "
      "{%64, %65, %66, %67}, %68, 1, 1, 1, %69;"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[0][4]), "+f"(d[0][5]), "+f"(d[0][6]),
        "+f"(d[0][7]), "+f"(d[0][8]), "+f"(d[0][9]), "+f"(d[0][10]), "+f"(d[0][11]), "+f"(d[0][12]), "+f"(d[0][13]),
        "+f"(d[0][14]), "+f"(d[0][15]), "+f"(d[0][16]), "+f"(d[0][17]), "+f"(d[0][18]), "+f"(d[0][19]), "+f"(d[0][20]),
        "+f"(d[0][21]), "+f"(d[0][22]), "+f"(d[0][23]), "+f"(d[0][24]), "+f"(d[0][25]), "+f"(d[0][26]), "+f"(d[0][27]),
        "+f"(d[0][28]), "+f"(d[0][29]), "+f"(d[0][30]), "+f"(d[0][31]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]),
        "+f"(d[1][3]), "+f"(d[1][4]), "+f"(d[1][5]), "+f"(d[1][6]), "+f"(d[1][7]), "+f"(d[1][8]), "+f"(d[1][9]),
        "+f"(d[1][10]), "+f"(d[1][11]), "+f"(d[1][12]), "+f"(d[1][13]), "+f"(d[1][14]), "+f"(d[1][15]), "+f"(d[1][16]),
        "+f"(d[1][17]), "+f"(d[1][18]), "+f"(d[1][19]), "+f"(d[1][20]), "+f"(d[1][21]), "+f"(d[1][22]), "+f"(d[1][23]),
        "+f"(d[1][24]), "+f"(d[1][25]), "+f"(d[1][26]), "+f"(d[1][27]), "+f"(d[1][28]), "+f"(d[1][29]), "+f"(d[1][30]),
        "+f"(d[1][31])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor), "n"(int{TransposedB}));
}

/// What this thread has written to shared memory can be read by the matrix units of whom it meets next.
__device__ inline void publish_to_products() { asm volatile("fence.proxy.async.shared::cta;" : : : "memory"); }

/// A barrier of some warps of a block, by number (0 is that of the whole block).
struct warps_barrier {
  int id, threads;

  /// Waits for the others.
  __device__ void meet() const { asm volatile("barrier.cta.sync %0, %1;" : : "r"(id), "r"(threads) : "memory"); }
  /// Waits for the others; whether any said yes.
  __device__ bool any(bool yes) const {
    int result;
    asm volatile(
        "{\n.reg .pred p, q;\nsetp.ne.s32 p, %3, 0;\nbarrier.cta.red.or.pred q, %1, %2, p;\nselp.s32 %0, 1, 0, q;\n}"
        : "=r"(result)
        : "r"(id), "r"(threads), "r"(static_cast<int>(yes))
        : "memory");
    return result != 0;
  }
};

/// A barrier in shared memory: some are counted, and others wait for them.
struct counting_barrier {
  std::uint64_t state;

  /// By one thread, before anybody uses it; so many are counted.
  __device__ void begin(int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" : : "r"(address()), "r"(count) : "memory");
  }
  /// Counts this thread, once the copies that it has started are there.
  __device__ void pass_after_copies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" : : "r"(address()) : "memory");
  }
  /// Counts this thread.
  __device__ void pass() {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" : : "r"(address()) : "memory");
  }
  /// Counts this thread, and has the barrier wait for so many bytes of the copy engine, too.
  __device__ void pass_with_bytes(int bytes) {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}"
                 :
                 : "r"(address()), "r"(bytes)
                 : "memory");
  }
  /// Until all have been counted n + 1 times; who waits is at most one round behind.
  __device__ void wait(unsigned n) const {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n@!done bra again;\n}"
        :
        : "r"(address()), "r"(n % 2)
        : "memory");
  }

  __device__ std::uint32_t address() const { return static_cast<std::uint32_t>(__cvta_generic_to_shared(&state)); }
};

/// Starts to bring bytes of global memory, a multiple of 16 from such an address on, nearer to all. By one thread.
__device__ inline void prefetch_bytes(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" : : "l"(from), "r"(bytes) : "memory");
}

/// Starts to bring a line of 128 bytes of global memory nearer to all.
__device__ inline void prefetch_line(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" : : "l"(from) : "memory");
}

/// Goes from so many registers a thread of this group of four warps to so many; more of them once others gave them back.
template <int From, int To>
__device__ __forceinline__ void change_registers() {
  if constexpr (To < From) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" : : "n"(To));
  if constexpr (To > From) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" : : "n"(To));
}

/// Four 8 x 8 matrices of registers to rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8.
__device__ inline void store_matrices(void* row, const std::uint32_t (&from)[4]) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
               :
               : "r"(address), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}
/// Four 8 x 8 matrices of registers, each transposed, to rows of 16 bytes; lane l gives the address of row l % 8 of matrix
/// l / 8 after that.
__device__ inline void store_matrices_transposed(void* row, const std::uint32_t (&from)[4]) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
               :
               : "r"(address), "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}

}  // namespace detail

LIGHTNET_END_NAMESPACE
