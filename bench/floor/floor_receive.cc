// floor-receive: what the kernel alone costs. Receives datagrams and does nothing with them; prints
// its account as JSON at the end.

#include <cstdio>

#include "bench/floor/receiver.h"

int main(int argc, char** argv) {
  using namespace tallyd::bench;  // NOLINT: this file is the program
  Receiver receiver(ReceiverOptionsFromFlags("Receives datagrams and drops them.", argc, argv));
  const ReceiverAccount account = receiver.Run([](absl::string_view) {});
  std::printf("{%s}\n", ReceiverJson(account).c_str());
}
