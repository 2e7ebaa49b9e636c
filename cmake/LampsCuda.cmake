# SPDX-License-Identifier: Apache-2.0
# Decides whether there is a CUDA compiler to use, from LAMPS_CUDA = AUTO | ON | OFF.
# The answer is printed, and reported by lamps_ext.build_info(). csrc/swap/cuda is what it is for.

include(CheckLanguage)

if(NOT LAMPS_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LAMPS_CUDA is '${LAMPS_CUDA}', but must be AUTO, ON or OFF")
endif()

set(LAMPS_HAVE_CUDA OFF)
set(LAMPS_CUDA_VERSION "")
if(NOT LAMPS_CUDA STREQUAL "OFF")
  find_program(LAMPS_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH
               PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(LAMPS_NVCC)
    execute_process(COMMAND "${LAMPS_NVCC}" --version OUTPUT_VARIABLE _nvcc_banner
                    RESULT_VARIABLE _nvcc_status ERROR_QUIET)
    if(_nvcc_status EQUAL 0 AND _nvcc_banner MATCHES "release ([0-9]+\\.[0-9]+)")
      set(LAMPS_CUDA_VERSION "${CMAKE_MATCH_1}")
      # An nvcc is not enough: it must get along with the C++ compiler, and its runtime be there.
      set(ENV{CUDACXX} "${LAMPS_NVCC}")
      check_language(CUDA)
      find_package(CUDAToolkit QUIET)
      if(CMAKE_CUDA_COMPILER AND TARGET CUDA::cudart_static)
        set(LAMPS_HAVE_CUDA ON)
      else()
        message(STATUS "nvcc ${LAMPS_CUDA_VERSION} at ${LAMPS_NVCC} does not work here")
        set(LAMPS_CUDA_VERSION "")
      endif()
    endif()
  endif()
  if(LAMPS_CUDA STREQUAL "ON" AND NOT LAMPS_HAVE_CUDA)
    message(FATAL_ERROR "LAMPS_CUDA is ON, but no working nvcc was found. "
                        "Put it on PATH or set CUDA_HOME, or use LAMPS_CUDA=AUTO or OFF.")
  endif()
endif()

if(LAMPS_HAVE_CUDA)
  message(STATUS "LAMPS_CUDA=${LAMPS_CUDA}: nvcc ${LAMPS_CUDA_VERSION} at ${LAMPS_NVCC}")
  # Every architecture from A100 on that this nvcc knows; the last also as PTX, for later ones.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    if(LAMPS_CUDA_VERSION VERSION_LESS 12.8)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90)
    else()
      set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120)
    endif()
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  # A CMake much older than the nvcc (3.25 beside CUDA 13) does not know its language levels.
  if(NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
    if(LAMPS_CUDA STREQUAL "ON")
      message(FATAL_ERROR "LAMPS_CUDA is ON, but CMake ${CMAKE_VERSION} does not know "
                          "nvcc ${LAMPS_CUDA_VERSION}: use a newer CMake.")
    endif()
    message(STATUS "CMake ${CMAKE_VERSION} does not know nvcc ${LAMPS_CUDA_VERSION}: "
                   "building without CUDA")
    set(LAMPS_HAVE_CUDA OFF)
    set(LAMPS_CUDA_VERSION "")
  endif()
else()
  message(STATUS "LAMPS_CUDA=${LAMPS_CUDA}: no CUDA compiler in use")
endif()
