# SPDX-License-Identifier: Apache-2.0
# Run at every build: writes OUTPUT, a header with the commit of SOURCE_DIR ("-dirty": with changes).
execute_process(COMMAND git describe --always --dirty --abbrev=12
                WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE commit
                OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  set(commit "unknown")
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "#define LAMPS_COMMIT \"${commit}\"\n")
