// How many file descriptors there are, and how many of them connections may take.

#ifndef TALLYD_DAEMON_DESCRIPTOR_LIMIT_H_
#define TALLYD_DAEMON_DESCRIPTOR_LIMIT_H_

namespace tallyd {

// Raises the soft limit on descriptors to the hard one.
void RaiseDescriptorLimit();

// How many connections of events there may be at a time: what the limit leaves over what is open
// now, less a reserve for scrapes and files. `open_connections` of those are open already.
int ConnectionLimit(int open_connections = 0);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_DESCRIPTOR_LIMIT_H_
