# SPDX-License-Identifier: Apache-2.0
# Where GoogleTest and Google Benchmark come from: the system (or CMAKE_PREFIX_PATH) first,
# else the pinned source release.
include(FetchContent)
include(GoogleTest)

# Makes the targets GTest::gtest and GTest::gtest_main available.
macro(lamps_require_googletest)
  if(NOT TARGET GTest::gtest_main)
    find_package(GTest 1.12 CONFIG QUIET)
    if(GTest_FOUND)
      message(STATUS "GoogleTest ${GTest_VERSION}: ${GTest_DIR}")
    else()
      message(STATUS "GoogleTest: not installed, fetching its source release")
      FetchContent_Declare(googletest
        URL https://github.com/google/googletest/releases/download/v1.17.0/googletest-1.17.0.tar.gz
        URL_HASH SHA256=65fab701d9829d38cb77c14acdc431d2108bfdbf8979e40eb8ae567edf10b27c)
      set(INSTALL_GTEST OFF CACHE INTERNAL "")
      FetchContent_MakeAvailable(googletest)
    endif()
  endif()
endmacro()

# Makes the targets benchmark::benchmark and benchmark::benchmark_main available.
macro(lamps_require_benchmark)
  if(NOT TARGET benchmark::benchmark_main)
    find_package(benchmark 1.7 CONFIG QUIET)
    if(benchmark_FOUND)
      message(STATUS "Google Benchmark ${benchmark_VERSION}: ${benchmark_DIR}")
    else()
      message(STATUS "Google Benchmark: not installed, fetching its source release")
      FetchContent_Declare(benchmark
        URL https://github.com/google/benchmark/archive/refs/tags/v1.9.4.tar.gz
        URL_HASH SHA256=b334658edd35efcf06a99d9be21e4e93e092bd5f95074c1673d5c8705d95c104)
      set(BENCHMARK_ENABLE_TESTING OFF CACHE INTERNAL "")
      set(BENCHMARK_ENABLE_INSTALL OFF CACHE INTERNAL "")
      FetchContent_MakeAvailable(benchmark)
    endif()
  endif()
endmacro()

# What the tests share: GoogleTest's header compiled once (it is most of what a small test takes),
# and -O1, with sanitizers -O0: the core they link is optimised, and they take less to compile.
function(lamps_add_test_header)
  set(_source "${PROJECT_BINARY_DIR}/test_header.cc")
  if(NOT EXISTS "${_source}")
    file(WRITE "${_source}" "")
  endif()
  add_library(lamps_test_header OBJECT "${_source}")
  if(LAMPS_SANITIZE)
    target_compile_options(lamps_test_header PUBLIC -O0)
  else()
    target_compile_options(lamps_test_header PUBLIC -O1)
  endif()
  target_link_libraries(lamps_test_header PUBLIC lamps_core lamps_warnings GTest::gtest_main)
  target_precompile_headers(lamps_test_header PRIVATE <gtest/gtest.h>)
endfunction()

# lamps_add_test(NAME SOURCE...): a GoogleTest binary on the core, one ctest case per TEST, its name
# behind LAMPS_TEST_PREFIX.
function(lamps_add_test name)
  lamps_require_googletest()
  if(NOT TARGET lamps_test_header)
    lamps_add_test_header()
  endif()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE lamps_test_header)
  target_precompile_headers(${name} REUSE_FROM lamps_test_header)
  if(LAMPS_TEST_PREFIX)
    set(_prefix TEST_PREFIX "${LAMPS_TEST_PREFIX}")
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 ${_prefix})
endfunction()

# lamps_add_benchmark(NAME SOURCE...): a Google Benchmark binary on the core, in the build's bin.
function(lamps_add_benchmark name)
  lamps_require_benchmark()
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE lamps_core lamps_warnings benchmark::benchmark_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  install(TARGETS ${name} COMPONENT benchmarks EXCLUDE_FROM_ALL)
endfunction()
