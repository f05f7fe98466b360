"""What the service and its delivery process say to each other: arguments, frames, exit statuses.

Apart from both, so that the one need not import the other.
"""

import struct

CANNOT_GO_ON, MISCONFIGURED = 70, 78
"""Exit statuses (EX_SOFTWARE, EX_CONFIG): starting again would not help."""
CHECK = "check"
"""The argument instead of FD: only tell whether the configuration can be built."""
LENGTH = struct.Struct("Q")
DEADLINE = struct.Struct("d")
"""What the parent sends: when to have ended, on the monotonic clock, which processes of one machine share."""
