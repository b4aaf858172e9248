// What an answer over HTTP says to a sender of remote write.

#ifndef TALLYD_DAEMON_PUSH_WRITE_ANSWER_H_
#define TALLYD_DAEMON_PUSH_WRITE_ANSWER_H_

#include "daemon/push/http_client.h"
#include "daemon/push/remote_write_sender.h"

namespace tallyd {

// One that did not come to its end is no answer, unless what came is the refusal.
WriteAnswer AnswerOf(const HttpResult& result);

}  // namespace tallyd

#endif  // TALLYD_DAEMON_PUSH_WRITE_ANSWER_H_
