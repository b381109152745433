//! `kak status`: which steps of a jail are done, and which sessions are in it.

use std::path::Path;

use lexopt::Arg::{Long, Short};

use super::{Applet, Call, print, unexpected};
use crate::config;
use crate::engine;
use crate::error::{Error, Result};
use crate::file;
use crate::jail::sessions::{Processes, Session};
use crate::jail::{Life, dns, shell};
use crate::passwd;
use crate::plan::Plan;
use crate::record::{self, Record};
use crate::step::{Machine, Seen};
use crate::text::{harmless, quoted};

/// `kak status`.
pub const APPLET: Applet = Applet {
    name: "status",
    links: &["kak-status"],
    own_words: false,
    help: "\
usage: kak status [-n JAIL] [--json]
       kak status --all [--json]

Show which steps of a jail are done, and who is in it.

  -n, --name JAIL  the jail's name [$KAK_JAIL, else USER]
      --all        a line for each jail, and for each network that
                   'kak netns add --uplink' made
      --json       print JSON, for programs; with --all a list
      --help       show this

Exit status: 0 the jail is up and complete, 3 it is not, 1 failed, 2 wrong
usage. With --all, 0 if there are any, and all are complete.
",
    run,
};

/// What is shown of one jail.
struct Status {
    /// The jail.
    jail: String,
    /// Init's pid, if the jail is up.
    init: Option<i32>,
    /// The first line of each step's command, and whether it is done or what is there instead.
    steps: Vec<(String, Seen)>,
    /// Who is in it.
    sessions: Vec<Session>,
    /// The outer /etc/passwd, for the users' names.
    passwd: Vec<u8>,
    /// It is a network without a jail, which has no init.
    bare: bool,
}

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let mut parser = lexopt::Parser::from_args(call.args);
    let (mut name, mut all, mut json) = (None, false, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') | Long("name") => {
                name = Some(config::jail_name(&parser.value()?)?);
            }
            Long("all") => all = true,
            Long("json") => json = true,
            other => return Err(unexpected(other)),
        }
    }
    if all && name.is_some() {
        return Err(Error::usage("--all and --name exclude each other"));
    }
    shell::check_outside("it can be looked at")?;
    if all {
        return list(json);
    }
    let status = Status::of(config::jail(name)?)?;
    print(&if json {
        format!("{}\n", status.json())
    } else {
        status.text()
    });
    Ok(if status.is_complete() { 0 } else { 3 })
}

/// `--all`: every jail that has state here, by name. One that cannot be read is reported, the others are shown.
fn list(json: bool) -> Result<u8> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for jail in record::jails()? {
        match Status::of(jail) {
            Ok(status) => all.push(status),
            Err(error) => errors.push(error),
        }
    }
    print(&if json {
        let all: Vec<String> = all.iter().map(Status::json).collect();
        format!("[{}]\n", all.join(","))
    } else {
        all.iter().map(Status::headline).collect()
    });
    let up = !all.is_empty() && all.iter().all(Status::is_complete);
    Error::all(errors).map(|()| if up { 0 } else { 3 })
}

impl Status {
    /// Looks at a jail.
    fn of(jail: String) -> Result<Self> {
        let mut status = Self {
            init: None,
            steps: Vec::new(),
            sessions: Vec::new(),
            passwd: Vec::new(),
            bare: false,
            jail,
        };
        let mut machine = Machine::new(&status.jail);
        if let Life::Up(init) = Life::of(&status.jail)? {
            machine.view = init.view()?;
            status.init = Some(init.pid.as_raw_nonzero().get());
            status.sessions = Processes::now().sessions(init.pid);
            status.passwd = file::read(Path::new("/etc/passwd")).unwrap_or_default();
        }
        if let Some(record) = Record::read(&status.jail)? {
            status.bare = record.config.bare;
            let plan = Plan::new(&record);
            let relay = dns::alone(&record)?;
            for steps in [&plan.outer, &plan.inner] {
                status
                    .steps
                    .extend(engine::observe(steps, &mut machine).into_iter().map(
                        |(step, seen)| {
                            (
                                step.act
                                    .to_string()
                                    .lines()
                                    .next()
                                    .unwrap_or_default()
                                    .to_owned(),
                                seen,
                            )
                        },
                    ));
            }
            // Only for a network without a jail: the relay of a jail is its keeper's business.
            if let Some(there) = relay {
                let seen = if there { Seen::Done } else { Seen::Absent };
                status.steps.push((
                    format!("kak netns add {} --uplink # kak-dns", status.jail),
                    seen,
                ));
            }
        }
        Ok(status)
    }

    /// Whether it is up with everything that belongs to it.
    fn is_complete(&self) -> bool {
        (self.bare || self.init.is_some())
            && !self.steps.is_empty()
            && self.steps.iter().all(|(_, seen)| *seen == Seen::Done)
    }

    /// The one line that sums it up.
    fn headline(&self) -> String {
        match self.init {
            Some(pid) if self.is_complete() => format!("{}: up, init is {pid}\n", self.jail),
            Some(pid) => format!("{}: up but not complete, init is {pid}\n", self.jail),
            None if self.bare && self.is_complete() => {
                format!("{}: a network without a jail\n", self.jail)
            }
            None if self.bare => {
                format!("{}: a network without a jail, not complete\n", self.jail)
            }
            None => format!("{}: not up\n", self.jail),
        }
    }

    /// For people.
    fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = self.headline();
        for (step, seen) in &self.steps {
            match seen {
                Seen::Done => writeln!(text, "ok  {step}"),
                Seen::Absent | Seen::Torn => writeln!(text, "--  {step}"),
                Seen::Other(there) => writeln!(text, "!!  {step}  # there is {there}"),
            }
            .ok();
        }
        for session in &self.sessions {
            let (pid, user) = (session.pid, session.user(&self.passwd));
            let (terminal, age, command) = (session.terminal(), session.age(), session.command());
            writeln!(
                text,
                "session {pid}  {user}  {terminal}  {age} s  {command}"
            )
            .ok();
        }
        text
    }

    /// For programs.
    fn json(&self) -> String {
        let steps: Vec<String> = self
            .steps
            .iter()
            .map(|(step, seen)| {
                format!(
                    "{{\"step\":{},\"done\":{}}}",
                    quoted(step),
                    *seen == Seen::Done
                )
            })
            .collect();
        let session = |session: &Session| {
            format!(
                "{{\"pid\":{},\"uid\":{},\"user\":{},\"terminal\":{},\"seconds\":{},\"command\":{}}}",
                session.pid,
                session.uid,
                quoted(&session.user(&self.passwd)),
                quoted(&session.terminal()),
                session.age(),
                quoted(&session.command())
            )
        };
        let sessions: Vec<String> = self.sessions.iter().map(session).collect();
        format!(
            "{{\"jail\":{},\"up\":{},\"complete\":{},\"network_only\":{},\"init\":{},\"steps\":[{}],\"sessions\":[{}]}}",
            quoted(&self.jail),
            self.init.is_some() || self.is_complete(),
            self.is_complete(),
            self.bare,
            self.init.map_or("null".into(), |pid| pid.to_string()),
            steps.join(","),
            sessions.join(",")
        )
    }
}

impl Session {
    /// Its user's name, or the uid if that has none.
    fn user(&self, passwd: &[u8]) -> String {
        passwd::user(passwd, self.uid, None).map_or_else(
            || self.uid.to_string(),
            |user| harmless(user.name.as_encoded_bytes()),
        )
    }

    /// Its terminal, as ps(1) names it.
    fn terminal(&self) -> String {
        let number = u64::from(self.terminal.unsigned_abs());
        // proc_pid_stat(5): the minor number is in bits 31 to 20 and 7 to 0, the major one in bits 15 to 8.
        let (major, minor) = (number >> 8 & 0xff, number >> 12 & 0xf_ff00 | number & 0xff);
        match major {
            0 => "no terminal".into(),
            136..=143 => format!("pts/{}", (major - 136) << 20 | minor),
            _ => format!("{major}:{minor}"),
        }
    }

    /// Its age in seconds.
    fn age(&self) -> u64 {
        /// Ticks of /proc in a second: `USER_HZ`, which is 100 everywhere.
        const TICKS: u64 = 100;
        let uptime = file::read(Path::new("/proc/uptime")).unwrap_or_default();
        let now: u64 = std::str::from_utf8(&uptime)
            .ok()
            .and_then(|text| text.split('.').next()?.parse().ok())
            .unwrap_or_default();
        now.saturating_sub(self.started / TICKS)
    }

    /// The words it was started with.
    fn command(&self) -> String {
        let blank = |byte: &u8| if *byte == 0 { b' ' } else { *byte };
        let words: Vec<u8> = self.command.iter().map(blank).collect();
        harmless(words.trim_ascii_end())
    }
}
