# SPDX-License-Identifier: Apache-2.0
#
# The language CUDA and its toolkit. Nothing here looks for a GPU: what is built runs on machines that are not this one.

# The toolkit's own installer puts nvcc into no PATH.
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(CMAKE_CUDA_COMPILER NAMES nvcc PATHS /usr/local/cuda/bin)
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "lightnet: LIGHTNET_CUDA is on, and there is no nvcc, neither on the PATH nor in /usr/local/cuda/bin. "
                        "Install the CUDA Toolkit 13, or set CMAKE_CUDA_COMPILER.")
  endif()
endif()
if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual CACHE STRING "GPUs to compile for")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED GLOBAL)
if(NOT TARGET CUDA::cublasLt)
  message(FATAL_ERROR "lightnet: the CUDA Toolkit in ${CUDAToolkit_LIBRARY_DIR} has no cuBLASLt.")
endif()
