//! How each command may end while others run at the same time: a table, with a reason for each row.
//!
//! In a peaceful round no command ends jails or sessions of others, so everything must work. Where some do, a session
//! may end with its jail; where processes are killed, a command that has lost one may fail, with a message.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// What the other commands of a round do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Beside {
    /// No command ends what another has made or uses.
    Peace,
    /// The same, but the jail that guests join is not up when the round begins, or does not allow them.
    Shut,
    /// Jails are taken down, and sessions ended.
    Ends,
    /// Also, the processes of jails, and those that work on jails, are killed.
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
    /// Its words. `JAIL` stands for a jail's name, `NAME` for a network's, `SESSION` for a session's number.
    pub words: &'static [&'static str],
    /// The first kind of round in which it is run.
    pub from: Beside,
    /// Each way in which it may end, the first kind of round in which it may, and why.
    pub ends: &'static [(End, Beside, &'static str)],
}

impl Command {
    /// Whether it may end with this status in such a round.
    pub fn may(&self, beside: Beside, status: ExitStatus) -> bool {
        let end = status
            .code()
            .map_or_else(|| Signal(status.signal().unwrap()), Exit);
        let mut rows = self.ends.iter();
        rows.any(|(allowed, from, _)| *allowed == end && beside >= *from)
    }
}

/// Its own process was killed.
const KILLED: (End, Beside, &str) = (Signal(9), Kills, "the command itself was killed");
/// The process that worked for it was killed.
const FAILED: (End, Beside, &str) = (
    Exit(1),
    Kills,
    "the process that works for it was killed, and the command says so",
);

/// How root's session whose script ends with 7 may end.
const SESSION: &[(End, Beside, &str)] = &[
    (
        Exit(7),
        Peace,
        "with a jail that is up, or that comes up for it, the session has its own status",
    ),
    (Exit(125), Ends, "the jail is going down"),
    (Exit(137), Ends, "the jail is gone"),
    (
        Signal(1),
        Ends,
        "its shell was sent SIGHUP as sessions were ended",
    ),
    (Signal(9), Ends, "its shell was killed with the jail"),
    (
        Signal(15),
        Ends,
        "its shell was sent SIGTERM, as was everything in the jail",
    ),
];

/// How a guest's session whose script ends with 7 may end.
const GUEST: &[(End, Beside, &str)] = &[
    (
        Exit(7),
        Peace,
        "with a jail that is up and allows the guest, the session has its own status",
    ),
    (
        Exit(125),
        Shut,
        "the jail is not up or does not allow the guest, and a guest's nssh does not bring one up",
    ),
    (Exit(137), Ends, "the jail is gone"),
    (
        Signal(1),
        Ends,
        "its shell was sent SIGHUP as sessions were ended",
    ),
    (Signal(9), Ends, "its shell was killed with the jail"),
    (
        Signal(15),
        Ends,
        "its shell was sent SIGTERM, as was everything in the jail",
    ),
];

/// All commands that are run.
pub const COMMANDS: &[Command] = &[
    Command {
        words: &["kak", "setup", "-n", "JAIL"],
        from: Peace,
        ends: &[
            (
                Exit(0),
                Peace,
                "of several setups and teardowns at once, one works and the others wait",
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
                "the jail is up with other options, which do not change",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "setup", "-n", "JAIL", "--dry-run"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "a dry run changes nothing, whatever exists"),
            KILLED,
        ],
    },
    // If it has made the jail, the jail ends with it.
    Command {
        words: &["kak", "setup", "-n", "JAIL", "--", "sh", "-c", "exit 7"],
        from: Ends,
        ends: &[
            (Exit(7), Peace, "the first session's status"),
            (
                Exit(125),
                Ends,
                "the jail was taken down before the session was in it",
            ),
            (Exit(137), Ends, "the jail is gone"),
            (
                Signal(1),
                Ends,
                "its shell was sent SIGHUP as sessions were ended",
            ),
            (Signal(15), Ends, "its shell was sent SIGTERM"),
            (Exit(129), Ends, "death by that signal, as an exit status"),
            (Exit(143), Ends, "death by that signal, as an exit status"),
            (Signal(9), Ends, "its shell was killed with the jail"),
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
                "whatever exists is removed; several teardowns work one after the other",
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
            (Exit(3), Peace, "not all are up"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "kill", "-n", "JAIL", "--all"],
        from: Ends,
        ends: &[
            (
                Exit(0),
                Peace,
                "sessions that have ended meanwhile count as ended",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "kill", "-n", "JAIL", "SESSION"],
        from: Ends,
        ends: &[
            (Exit(0), Peace, "the session has been ended"),
            (
                Exit(1),
                Peace,
                "the session had ended already, or is another jail's",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "add", "NAME"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "the name exists already"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "add", "--uplink", "NAME"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "the name exists already"),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "delete", "NAME"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "the name does not exist"),
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
                "the name does not exist; the status is ip's",
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
                "the name does not exist; the status is ip's",
            ),
            KILLED,
        ],
    },
    Command {
        words: &["kak", "netns", "pids", "JAIL"],
        from: Peace,
        ends: &[
            (Exit(0), Peace, "done"),
            (Exit(1), Peace, "the name does not exist"),
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
