//! `kak kill`: ends sessions that cannot be ended otherwise, such as that of a `docker exec` whose client died.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use lexopt::Arg::{Long, Short, Value};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use super::{Applet, Call, unexpected};
use crate::config;
use crate::error::{Error, Result, What as _};
use crate::jail::sessions::Processes;
use crate::jail::{self, Life, shell};

/// `kak kill`.
pub const APPLET: Applet = Applet {
    name: "kill",
    links: &["kak-kill"],
    own_words: false,
    help: "\
usage: kak kill [-n JAIL] SESSION...
       kak kill [-n JAIL] --all

End sessions of a jail.

SESSION is the number that 'kak status' shows. Its shell and what that has
started get SIGHUP, a second later SIGTERM, and two seconds after that SIGKILL.

  -n, --name JAIL  the jail's name [$KAK_JAIL, else USER]
      --all        every session
      --help       show this

Exit status: 0 done, 1 there is no such session or it did not end, 2 wrong
usage.
",
    run,
};

/// What is sent in each stage, and how long the sessions then have to end.
const STAGES: [(&[Signal], Duration); 3] = [
    (&[Signal::HUP, Signal::CONT], Duration::from_secs(1)),
    (&[Signal::TERM, Signal::CONT], Duration::from_secs(2)),
    (&[Signal::KILL], Duration::from_secs(2)),
];

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let mut parser = lexopt::Parser::from_args(call.args);
    let (mut name, mut all, mut wanted) = (None, false, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') | Long("name") => {
                name = Some(config::jail_name(&parser.value()?)?);
            }
            Long("all") => all = true,
            Value(word) => {
                let number: Option<i32> = word.to_str().and_then(|word| word.parse().ok());
                wanted.push(number.ok_or_else(|| {
                    Error::usage(format!(
                        "{word:?}: a session is a number, as 'kak status' shows it"
                    ))
                })?);
            }
            other => return Err(unexpected(other)),
        }
    }
    if all != wanted.is_empty() {
        return Err(Error::usage("takes sessions, or --all"));
    }
    let name = config::jail(name)?;
    shell::check_outside("its sessions can be ended")?;
    let mut sessions = match Life::of(&name)? {
        Life::Up(init) | Life::Ending(init) => Processes::now().sessions(init.pid),
        Life::Down | Life::Starting(_) => Vec::new(),
    };
    let mut errors = Vec::new();
    for number in &wanted {
        if !sessions.iter().any(|session| session.pid == *number) {
            errors.push(Error::text(
                format!("kill {number}"),
                format!("is no session of the jail {name}"),
            ));
        }
    }
    sessions.retain(|session| all || wanted.contains(&session.pid));
    let mut pids = Vec::new();
    for session in &sessions {
        // A session that has ended meanwhile needs no signal.
        if let Some(pid) = Pid::from_raw(session.pid)
            && let Some(fd) = session.pin()
        {
            pids.push((pid, fd, session));
        }
    }
    for (signals, patience) in STAGES {
        let deadline = Instant::now() + patience;
        let processes = Processes::now();
        for (pid, fd, session) in &pids {
            let started = processes.started_by(session.monitor, session.session, session.pid);
            for signal in signals {
                // The shell's process group is the session, too, but its number is only certain while the shell lives.
                let lives = !jail::wait_readable(fd.as_fd(), Duration::ZERO);
                if lives && crate::sys::leads_group(*pid) {
                    rustix::process::kill_process_group(*pid, *signal).ok();
                }
                pidfd_send_signal(fd, *signal).ok();
                for fd in &started {
                    pidfd_send_signal(fd, *signal).ok();
                }
            }
        }
        // The deadline is one for all of them.
        pids.retain(|(_, fd, _)| {
            let rest = deadline.saturating_duration_since(Instant::now());
            !jail::wait_readable(fd.as_fd(), rest)
        });
        if pids.is_empty() {
            break;
        }
    }
    for (pid, ..) in pids {
        errors.extend(
            Err::<(), _>(rustix::io::Errno::BUSY)
                .what(|| format!("kill -KILL {}", pid.as_raw_nonzero()))
                .err(),
        );
    }
    Error::all(errors).map(|()| 0)
}
