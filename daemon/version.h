// TALLYD_VERSION, a string literal: the project's as CMake knows it.

#ifndef TALLYD_DAEMON_VERSION_H_
#define TALLYD_DAEMON_VERSION_H_

// The fuzzers take files of the daemon by themselves.
#ifndef TALLYD_VERSION
#define TALLYD_VERSION "unknown"
#endif

#endif  // TALLYD_DAEMON_VERSION_H_
