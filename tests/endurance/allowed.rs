//! How each command may end while others are at work: a table, with the rule beside each row.
//!
//! In a peaceful round nobody ends anything, so that everything must work. Where others end jails and sessions, a session
//! may end with them; where processes are killed, who has lost one may say so.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// What happens in a round beside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Beside {
    /// Nobody ends anything of another's.
    Peace,
    /// Nor then, but the jail that guests know is not up when it begins, or does not let them in.
    Shut,
    /// Jails are taken down, sessions ended.
    Ends,
    /// The processes of jails are killed, too, and those at work on them.
    Kills,
}

use Beside::{Ends, Kills, Peace, Shut};

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

use End::{Exit, Signal};

/// A command, and how it may end.
pub struct Command {
    /// Its words. `JAIL` is one of the jails, `NAME` one of the names of networks, `SESSION` one of the sessions.
    pub words: &'static [&'static str],
    /// From which kind of round on it is called.
    pub from: Beside,
    /// Each way in which it may end, from which kind of round on, and why that is right.
    pub ends: &'static [(End, Beside, &'static str)],
}

impl Command {
    /// Whether it may end so, and has said why.
    pub fn may(&self, beside: Beside, status: ExitStatus) -> bool {
        let end = status
            .code()
            .map_or_else(|| Signal(status.signal().unwrap()), Exit);
        let mut rows = self.ends.iter();
        rows.any(|(allowed, from, _)| *allowed == end && beside >= *from)
    }
}

/// Somebody's process was killed under it.
const KILLED: (End, Beside, &str) = (Signal(9), Kills, "the command itself was killed");
/// The process that worked for it was.
const FAILED: (End, Beside, &str) = (
    Exit(1),
    Kills,
    "who works for it was killed (R9), which it says",
);

/// How a session that ends with 7 may end.
const SESSION: &[(End, Beside, &str)] = &[
    (
        Exit(7),
        Peace,
        "P7, R8: with a jail that is up, or that comes up for it, it has its own status",
    ),
    (Exit(125), Ends, "R8: the jail is going down"),
    (Exit(137), Ends, "P13, R9: the jail is gone"),
    (Signal(1), Ends, "R8: its shell was told to hang up"),
    (Signal(9), Ends, "R8: its shell was killed with the jail"),
    (
        Signal(15),
        Ends,
        "P5: its shell was told to end, with everything in the jail",
    ),
];

/// How a guest's session that ends with 7 may end.
const GUEST: &[(End, Beside, &str)] = &[
    (
        Exit(7),
        Peace,
        "S1, P7: with a jail that is up and lets him in, it has its own status",
    ),
    (
        Exit(125),
        Shut,
        "S1, L9: the jail is not up or not for him, and a guest makes nothing",
    ),
    (Exit(137), Ends, "P13, R9: the jail is gone"),
    (Signal(1), Ends, "R8: its shell was told to hang up"),
    (Signal(9), Ends, "R8: its shell was killed with the jail"),
    (
        Signal(15),
        Ends,
        "P5: its shell was told to end, with everything in the jail",
    ),
];

/// All that is called.
pub const COMMANDS: &[Command] = &[
    Command {
        words: &["kak", "setup", "-n", "JAIL"],
        from: Peace,
        ends: &[
            (
                Exit(0),
                Peace,
                "R8: setup beside setup: one works, the other waits; beside teardown: one after the other",
            ),
            FAILED,
            KILLED,
        ],
    },
    Command {
        words: &["kak", "setup", "-n", "USER", "--allow", "alice"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "as without options"),
            (
                Exit(1),
                Peace,
                "it is up with other options, which do not change",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "setup", "-n", "JAIL", "--dry-run"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "it changes nothing, whatever is there"),
            KILLED,
        ],
    },
    // Its end is the jail's, if it has made that.
    Command {
        words: &["kak", "setup", "-n", "JAIL", "--", "sh", "-c", "exit 7"],
        from: Ends,
        ends: &[
            (Exit(7), Peace, "P7: the first session's status"),
            (
                Exit(125),
                Ends,
                "R8: the jail was taken down before the session was in it",
            ),
            (Exit(137), Ends, "P13, R9: the jail is gone"),
            (Signal(1), Ends, "R8: its shell was told to hang up"),
            (Signal(15), Ends, "P5: its shell was told to end"),
            (Exit(129), Ends, "the same as a number"),
            (Exit(143), Ends, "the same as a number"),
            (Signal(9), Ends, "R8: its shell was killed with the jail"),
            FAILED,
        ],
    },
    Command {
        words: &["kak", "teardown", "-n", "JAIL"],
        from: Ends,
        ends: &[
            (
                Exit(0),
                Peace,
                "R5, R8: whatever is there, one after the other",
            ),
            FAILED,
            KILLED,
        ],
    },
    Command {
        words: &["kak", "nssh", "-n", "JAIL", "--", "-c", "exit 7"],
        from: Peace,
        ends: SESSION,
    },
    Command {
        words: &["kak", "nssh", "-n", "JAIL", "--", "-c", "sleep 0.1; exit 7"],
        from: Peace,
        ends: SESSION,
    },
    Command {
        words: &[
            "kak",
            "nssh",
            "-n",
            "JAIL",
            "--pty",
            "--",
            "-c",
            "sleep 0.05; exit 7",
        ],
        from: Peace,
        ends: SESSION,
    },
    Command {
        words: &[
            "kak",
            "nssh",
            "-n",
            "JAIL",
            "--",
            "-c",
            "(setsid sleep 0.3 &) ; (sleep 0.2 &) ; exit 7",
        ],
        from: Peace,
        ends: SESSION,
    },
    Command {
        words: &[
            "setpriv",
            "--reuid=1000",
            "--regid=1000",
            "--groups=50,2000",
            "nssh",
            "-c",
            "exit 7",
        ],
        from: Peace,
        ends: GUEST,
    },
    Command {
        words: &[
            "setpriv",
            "--reuid=1000",
            "--regid=1000",
            "--groups=50,2000",
            "nssh",
            "-c",
            "sleep 0.1; exit 7",
        ],
        from: Peace,
        ends: GUEST,
    },
    Command {
        words: &[
            "setpriv",
            "--reuid=1000",
            "--regid=1000",
            "--groups=50,2000",
            "nssh",
            "-c",
            "(setsid sleep 0.3 &) ; (sleep 0.2 &) ; exit 7",
        ],
        from: Peace,
        ends: GUEST,
    },
    Command {
        words: &["kak", "status", "-n", "JAIL"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "up"),
            (Exit(3), Peace, "not fully up"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "status", "--all", "--json"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "all are up"),
            (Exit(3), Peace, "not all of them"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "kill", "-n", "JAIL", "--all"],
        from: Ends,
        ends: &[
            (Exit(0), Peace, "those that are gone meanwhile are as well"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "kill", "-n", "JAIL", "SESSION"],
        from: Ends,
        ends: &[
            (Exit(0), Peace, "it is gone"),
            (Exit(1), Peace, "it was gone already, or is another jail's"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "add", "NAME"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "it is there"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "add", "--uplink", "NAME"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "it is there"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "delete", "NAME"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "it is not there"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "exec", "NAME", "sh", "-c", "exit 7"],
        from: Peace,
        ends: &[
            (Exit(7), Peace, "the command's own"),
            (
                Exit(255),
                Peace,
                "as ip says it: there is none of this name",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "exec", "JAIL", "sh", "-c", "exit 7"],
        from: Peace,
        ends: &[
            (Exit(7), Peace, "the command's own"),
            (
                Exit(255),
                Peace,
                "as ip says it: there is none of this name",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "pids", "JAIL"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "there is none of this name"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "list"],
        from: Peace,
        ends: &[(Exit(0), Peace, "done"), KILLED],
    },
    Command {
        words: &["kak", "netns", "list-id"],
        from: Peace,
        ends: &[(Exit(0), Peace, "done"), KILLED],
    },
    Command {
        words: &["kak", "netns", "identify", "1"],
        from: Peace,
        ends: &[(Exit(0), Peace, "done"), KILLED],
    },
];
