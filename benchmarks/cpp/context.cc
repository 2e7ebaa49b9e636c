// SPDX-License-Identifier: Apache-2.0
// What a result must say about where it comes from, in the context block of every report.
#include <benchmark/benchmark.h>
#include <sys/utsname.h>

#include <fstream>
#include <string>

#include "benchmark_commit.h"

#if !defined(__OPTIMIZE__)
#error "benchmarks need an optimised build: -DCMAKE_BUILD_TYPE=Release (the default)"
#endif

namespace {

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

std::string system_name() {
  utsname names{};
  if (uname(&names) != 0) return "unknown";
  return std::string(names.sysname) + " " + names.release + " " + names.machine;
}

[[maybe_unused]] const bool kContextAdded = [] {
  benchmark::AddCustomContext("commit", LAMPS_COMMIT);
  benchmark::AddCustomContext("processor", processor());
  benchmark::AddCustomContext("system", system_name());
  benchmark::AddCustomContext("compiler", __VERSION__);
  benchmark::AddCustomContext("build_type", LAMPS_BUILD_TYPE);
  return true;
}();

}  // namespace
