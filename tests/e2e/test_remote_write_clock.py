"""Remote write while the wall clock steps: nothing from the future leaves the host."""

import os
import pathlib
import time
import unittest

from harness import have, wait_for
from receivers import PrometheusReceiver
from remote_write_case import RemoteWriteCase, emit


@unittest.skipUnless(have("prometheus", "faketime"), "needs prometheus and faketime")
class ClockTest(RemoteWriteCase):
    def test_a_step_of_the_wall_clock_suspends(self):
        receiver = self.enterContext(PrometheusReceiver())
        stamp = pathlib.Path(self.directory) / "clock"
        stamp.write_text("+0")
        library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime*.so.1"))
        daemon = self.tallyd({"url": receiver.url()}, env={
            **os.environ, "LD_PRELOAD": str(library), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(stamp), "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1"})
        emit(daemon)
        self.assert_same_series(receiver, daemon)
        stamp.write_text("+10d")
        wait_for("the suspension", lambda: self.push(daemon, "tallyd_push_clock_suspended") == 1)
        emit(daemon)
        time.sleep(4)
        self.assertEqual(self.push(daemon, "tallyd_push_clock_suspended"), 1)
        self.assertIn("suspended", daemon.get("/-/ready").body.decode())
        future = receiver.query("app_depth", time.time() + 10 * 24 * 3600)
        self.assertEqual(future, [], "nothing from the future")
        stamp.write_text("+0")
        wait_for("the end of it", lambda: self.push(daemon, "tallyd_push_clock_suspended") == 0)
        self.assert_same_series(receiver, daemon)
        self.assert_account(daemon)


if __name__ == "__main__":
    unittest.main()
