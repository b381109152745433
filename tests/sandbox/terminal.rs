//! A terminal with a program on it, and what a person at it does: type, read, resize the window, and close it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

/// A terminal. Dropped, its window is closed.
pub struct Terminal {
    /// Our end.
    master: File,
    /// The path of the program's end, to look at it; nothing is kept open.
    name: std::ffi::CString,
    /// The program.
    child: Child,
    /// What has been read and not been waited for.
    unread: String,
}

/// Ctrl-C.
pub const INTERRUPT: &str = "\x03";
/// Ctrl-D.
pub const END: &str = "\x04";
/// Ctrl-Z.
pub const SUSPEND: &str = "\x1a";
/// Ctrl-\.
pub const QUIT: &str = "\x1c";

impl Terminal {
    /// Starts a program as the leader of a session on a new terminal.
    pub fn start(argv: &[&str]) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        // Before anybody is there who would notice a change.
        resize(&master, 24, 200);
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = open(&name);
        let copy = || slave.try_clone().unwrap();
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(argv)
            .envs([("TERM", "vt100"), ("PS1", "[$?]$ ")])
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .unwrap();
        Self {
            master: master.into(),
            name,
            child,
            unread: String::new(),
        }
    }

    /// Starts an interactive shell, up to its prompt, which shows the last status.
    pub fn shell(shell: &str) -> Self {
        let argv: &[&str] = if shell.ends_with("bash") {
            &[shell, "--norc", "-i"]
        } else {
            &[shell, "-i"]
        };
        let mut terminal = Self::start(argv);
        terminal.prompt(0);
        terminal
    }

    /// The program's PID.
    pub fn pid(&self) -> i64 {
        self.child.id().into()
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\n"));
    }

    /// Waits, ten seconds at most, until a text is there; what came before it.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(at) = self.unread.find(wanted) {
                let rest = self.unread.split_off(at + wanted.len());
                let mut before = std::mem::replace(&mut self.unread, rest);
                before.truncate(at);
                return before;
            }
            let open = self.receive(deadline.saturating_duration_since(Instant::now()));
            assert!(
                open && Instant::now() < deadline,
                "no {wanted:?} (the terminal is {}) in {:?}",
                if open { "open" } else { "closed" },
                self.unread
            );
        }
    }

    /// Waits for a prompt of the outer shell that shows this status; what came before it.
    #[track_caller]
    pub fn prompt(&mut self, status: u8) -> String {
        let before = self.wait_for("]$ ");
        let Some((said, shown)) = before.rsplit_once('[') else {
            panic!("no prompt after {before:?}")
        };
        assert_eq!(shown, status.to_string(), "the status after {said:?}");
        said.to_owned()
    }

    /// Reads what comes within this time; returns whether anybody still holds the other end.
    fn receive(&mut self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap(),
            tv_nsec: limit.subsec_nanos().into(),
        };
        if poll(&mut fds, Some(&limit)).unwrap() == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        // A master reads EIO when nobody holds the other end any more.
        let Ok(read @ 1..) = self.master.read(&mut bytes) else {
            return false;
        };
        self.unread += &String::from_utf8_lossy(&bytes[..read]);
        true
    }

    /// Gives the window another size.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// The terminal's modes, to be compared.
    pub fn modes(&self) -> String {
        format!("{:?}", tcgetattr(open(&self.name)).unwrap())
    }

    /// Waits until the program has ended and all that it said is read.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.receive(deadline.saturating_duration_since(Instant::now())) {
            assert!(
                Instant::now() < deadline,
                "it does not end: {:?}",
                self.unread
            );
        }
        (self.child.wait().unwrap(), self.unread)
    }

    /// Closes the window.
    pub fn close(self) {
        drop(self.master);
    }
}

/// Gives a terminal's window a size.
fn resize(master: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

/// Opens a terminal without making it the controlling one.
fn open(name: &std::ffi::CStr) -> OwnedFd {
    rustix::fs::open(
        name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap()
}
