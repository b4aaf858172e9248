// What most tests include; see Compiler.cmake.

#ifndef TALLYD_CMAKE_PRECOMPILED_FOR_TESTS_H_
#define TALLYD_CMAKE_PRECOMPILED_FOR_TESTS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cmake/precompiled.h"

#endif  // TALLYD_CMAKE_PRECOMPILED_FOR_TESTS_H_
