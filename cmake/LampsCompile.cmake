# SPDX-License-Identifier: Apache-2.0
# lamps_options: what every target of this project is compiled with.
# lamps_warnings: strict warnings, linked only by our own tests and benchmarks and by the core
# when those are built; a user's newer compiler must never fail the build over a new warning.

add_library(lamps_options INTERFACE)
target_compile_features(lamps_options INTERFACE cxx_std_20)

if(LAMPS_SANITIZE)
  list(JOIN LAMPS_SANITIZE "," _sanitizers)
  target_compile_options(lamps_options INTERFACE
    -fsanitize=${_sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(lamps_options INTERFACE -fsanitize=${_sanitizers})
endif()

add_library(lamps_warnings INTERFACE)
if(LAMPS_BUILD_TESTS OR LAMPS_BUILD_BENCHMARKS)
  target_compile_options(lamps_warnings INTERFACE -Wall -Wextra -Wconversion -Werror)
endif()
