# Warnings are errors, everywhere; sanitizers come from a preset.

# Beast asserts of the last chunk of a body what a peer that sends it in pieces can break (mended after
# Debian 12's 1.74 by boostorg/beast#2861). Where asserts are on, anybody could end the program.
add_compile_definitions(BOOST_DISABLE_ASSERTS)

add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wcast-align
                    -Woverloaded-virtual -Wconversion -Wno-sign-conversion -Werror
                    -fno-omit-frame-pointer)
include_directories(${PROJECT_SOURCE_DIR})

if(TALLYD_SANITIZE)
  add_compile_options(-fsanitize=${TALLYD_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TALLYD_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # What the sanitizers add hides from GCC that an optional is empty; the release build looks.
    add_compile_options(-Wno-maybe-uninitialized)
  endif()
  if(TALLYD_SANITIZE MATCHES "address,undefined" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # AddressSanitizer stops at most of such accesses as well, and the fuzz targets have them all;
    # without them a build takes two fifths less.
    add_compile_options(-fno-sanitize=null,vptr,object-size,alignment,pointer-overflow)
  endif()
  if(TALLYD_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's ThreadSanitizer cannot see fences. The fences are the model checker's to prove
    # (tests/model); everything that TSan shall see is plain data between acquire and release.
    add_compile_options(-Wno-tsan)
  endif()
endif()

# What most files include is compiled once where sanitizers are built, for a quarter of their time.
# What is shipped is built without: so every file still says what it uses.
if(TALLYD_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(TALLYD_PRECOMPILE ON)
  # The one flag must be the same wherever the headers are used; the other is ccache's wish.
  add_compile_options(-pthread -fpch-preprocess)
endif()

# tally_precompiled(HEADER DEPENDS...): cmake/HEADER.h, for those that tally_precompile says.
function(tally_precompiled header)
  if(NOT TALLYD_PRECOMPILE)
    return()
  endif()
  set(source ${PROJECT_BINARY_DIR}/generated/${header}.cc)
  file(GENERATE OUTPUT ${source} CONTENT "")
  add_library(tally_${header} OBJECT ${source})
  target_link_libraries(tally_${header} PRIVATE ${ARGN})
  target_precompile_headers(tally_${header} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/${header}.h)
endfunction()

function(tally_precompile target header)
  if(TALLYD_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM tally_${header})
  endif()
endfunction()

# tally_library(NAME SOURCES ... DEPENDS ...): one static library a folder.
function(tally_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS})
  tally_precompile(${name} precompiled)
endfunction()

# Builds the tests labelled "concurrent" alone: those that ThreadSanitizer is for.
add_custom_target(concurrent_tests)

# tally_test(NAME SOURCES ... DEPENDS ... LABELS ...): a GoogleTest program, run by CTest as one test.
function(tally_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} GTest::gmock GTest::gtest_main)
  tally_precompile(${name} precompiled_for_tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "unit;${ARG_LABELS}" TIMEOUT 300)
  if("concurrent" IN_LIST ARG_LABELS)
    add_dependencies(concurrent_tests ${name})
  endif()
endfunction()
