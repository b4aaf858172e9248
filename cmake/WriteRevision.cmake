# Writes the commit that is built into a header, and leaves the header alone if it is the same:
#   cmake -DSOURCE=<source dir> -DHEADER=<file> -P WriteRevision.cmake
cmake_minimum_required(VERSION 3.25)

execute_process(
  COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD
  OUTPUT_VARIABLE REVISION
  OUTPUT_STRIP_TRAILING_WHITESPACE
  ERROR_QUIET)
if(NOT REVISION)
  set(REVISION unknown)
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define TALLYD_REVISION \"@REVISION@\"\n" @ONLY)
