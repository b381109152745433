"""Runs a command in which a system call fails (seccomp(2)): refuse.py ERRNO NUMBER[,ARGUMENT=VALUE...] COMMAND...
   For what strace cannot do: choose a call by its arguments, or one whose name strace does not know yet."""

import ctypes
import os
import struct
import sys

LOAD, EQUAL, END = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x50000

errno, what = int(sys.argv[1]), sys.argv[2]
number, *arguments = what.split(",")
# The offsets in struct seccomp_data.
wanted = [(0, int(number))] + [(16 + 8 * int(n), int(value)) for n, value in (each.split("=") for each in arguments)]
program = []
for at, (offset, value) in enumerate(wanted):
    program += [(LOAD, 0, 0, offset), (EQUAL, 0, 2 * (len(wanted) - at) - 1, value)]
program += [(END, 0, 0, REFUSE | errno), (END, 0, 0, ALLOW)]

code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
filter = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and libc.prctl(PR_SET_SECCOMP, 2, filter, 0, 0) == 0
os.execvp(sys.argv[3], sys.argv[3:])
