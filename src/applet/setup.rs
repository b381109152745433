//! `kak setup`: reads the options, and has the plan carried out, compared (`--dry-run`) or printed (`--explain`).

use std::ffi::OsString;
use std::path::Path;

use lexopt::Arg::{Long, Short, Value};
use rustix::io::Errno;

use super::{Applet, Call, install, print, unexpected};
use crate::config::{self, Config, Takes};
use crate::engine;
use crate::error::{Error, Result, What as _, complain};
use crate::facts::resolvers::OUTER;
use crate::file;
use crate::jail::Life;
use crate::jail::build::{self, Teller, Wanted};
use crate::jail::end::End;
use crate::jail::entrypoint;
use crate::jail::keeper::{self, Over, Stay};
use crate::jail::process;
use crate::jail::session::{self, IfDown, Terminal};
use crate::jail::shell::{self, Called, Program};
use crate::netns;
use crate::plan::Plan;
use crate::record::{self, Record};
use crate::step::{Machine, Seen, Step};
use crate::sys;
use crate::text::quote;

/// `kak setup`.
pub const APPLET: Applet = Applet {
    name: "setup",
    links: &["kak-setup"],
    own_words: false,
    help: "\
usage: kak setup [-n JAIL] [OPTION]... [-- CMD [ARG]...]

Make a jail and bring it up.

What is there already is kept, what is missing is made, and a setup that fails
takes back what it made. As a container's entrypoint (also with 'docker run
--init'), with --attach or with a CMD, it runs a first session in the jail;
when that and all other sessions have ended, it takes everything back and
returns the first session's status. In a jail that was up before, this session
is like any other, and the jail stays. 'docker run -d' without -t or a CMD runs
no session: the jail stays until the container is stopped.

  -n, --name JAIL      the jail's name [$KAK_JAIL, else USER]
      --root DIR       where its root is put together [/mnt/ and the name in
                       lower case]
      --hide DIR       give it a DIR of its own, as it has of /mnt, /opt and
                       /tmp (repeatable)
      --bind SRC[:DST][:ro]
                       mount SRC at DST in it (repeatable)
      --subnet CIDR    its addresses [the first private /24 that is free, from
                       10.0.0.0 on]
      --dns ADDR       its resolvers (repeatable) [the outer ones]
      --ipv6           give it IPv6 as well: a /64 of its own from fd00::/8,
                       and a way out under the machine's address
      --publish [ADDR:]PORT[:JAILPORT][/udp]
                       forward a port of the machine to the jail (repeatable);
                       without ADDR at every IPv4 address of the machine,
                       127.0.0.1 too; with --ipv6 at its IPv6 addresses as
                       well, and ADDR may be one of these, in brackets
      --no-nat         no rules for its packets: they are not masqueraded, and
                       nobody is kept from reaching the jail
      --unshare LIST   more namespaces of its own, beside pid, mnt and net: any
                       of uts,ipc,cgroup,time
      --hostname NAME  its host name (implies --unshare uts)
      --allow USER|GROUP
                       who may join it by a set-user-ID nssh, by name or number
                       (repeatable) [nobody but root]
      --shell PATH     what nssh runs in it [/bin/bash, else /bin/sh]
      --login-shell USER
                       make /bin/nssh this user's login shell (repeatable)
      --attach         run a shell in it, as said above
      --dry-run        say what would be done, and do nothing
      --explain        print a script for sh that does the same
  -v, --verbose        give the reason for each step, too
      --help           show this

A jail needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_SYS_CHROOT. Exit status:
0 done, 1 failed, 2 wrong usage; with a session, that session's.
",
    run,
};

/// What is to be done with the plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Carry it out.
    Do,
    /// Say what is missing.
    DryRun,
    /// Print it as a script.
    Explain,
}

/// The options.
pub struct Options {
    /// The jail, and whether anything but its name was said about it.
    pub wanted: Wanted,
    /// What to do.
    mode: Mode,
    /// Whether a first session is wanted.
    attach: bool,
    /// What that session runs.
    command: Option<Program>,
    /// Whether to say why.
    verbose: bool,
}

/// Reads the command line.
pub fn parse(args: Vec<OsString>) -> Result<Options> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut name = None;
    let mut said: Vec<(String, OsString)> = Vec::new();
    let (mut mode, mut attach, mut verbose) = (Mode::Do, false, false);
    let mut command = Vec::new();
    loop {
        // What follows '--' is the command's, options too.
        if let Some(mut raw) = parser.try_raw_args()
            && raw.next_if(|word| word == "--").is_some()
        {
            command.extend(raw);
            break;
        }
        let Some(arg) = parser.next()? else { break };
        match arg {
            Short('n') | Long("name") => {
                name = Some(config::jail_name(&parser.value()?)?);
            }
            Long("attach") => attach = true,
            Long("dry-run") => mode = Mode::DryRun,
            Long("explain") => mode = Mode::Explain,
            Short('v') | Long("verbose") => verbose = true,
            Long(option) if config::takes(option).is_some() => {
                let option = option.to_owned();
                let value = match config::takes(&option) {
                    Some(Takes::Value) => parser.value()?,
                    _ => OsString::new(),
                };
                said.push((option, value));
            }
            Value(word) => {
                return Err(Error::usage(format!(
                    "{word:?}: a command comes after '--', as in: kak setup -- {}",
                    quote(&word)
                )));
            }
            other => return Err(unexpected(other)),
        }
    }
    let name = config::jail(name)?;
    let mut config = Config::new(&name);
    for (option, value) in &said {
        config.set(option, value)?;
    }
    config.check_published()?;
    check_places(&config)?;
    let given = config != Config::new(&name);
    let command = if command.is_empty() {
        None
    } else {
        Some(Program::Command(command))
    };
    Ok(Options {
        wanted: Wanted { config, given },
        mode,
        attach,
        command,
        verbose,
    })
}

/// Checks that nothing is put in a place that is the jail's own, or kak's. Only the options of this call are checked: a
/// record may have a place that was allowed at the time.
fn check_places(config: &Config) -> Result<()> {
    const OWN: [&str; 6] = ["/proc", "/sys", "/dev", "/run", netns::DIR, OUTER];
    let is_own = |path: &&Path| {
        path.starts_with(record::DIR) || OWN.iter().any(|own| *path == Path::new(own))
    };
    let targets = config.binds.iter().map(|bind| bind.target.as_path());
    match targets.chain([config.root.as_path()]).find(is_own) {
        Some(path) => Err(Error::usage(format!(
            "{}: this place is the jail's own, or kak's",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let options = parse(call.args)?;
    // Neither the keeper nor the jail inherits the caller's other file descriptors.
    sys::close_from(3);
    shell::check_outside("a jail can be made")?;
    if let Some(text) = install::misplaced_bit() {
        complain(&format!("kak: setup: {text}\n"));
    }
    match options.mode {
        Mode::Explain => {
            let record = planned(&options.wanted)?;
            let kak =
                file::real_path(Path::new("/proc/self/exe")).what(|| "readlink /proc/self/exe")?;
            let is_up = matches!(Life::of(&record.config.jail)?, Life::Up(_));
            print(&engine::explain(&record, &Plan::new(&record), &kak, is_up));
            return Ok(0);
        }
        Mode::DryRun => return dry_run(&options),
        Mode::Do => {}
    }
    let entrypoint = entrypoint::is_it();
    let attached = options.attach || options.command.is_some();
    // A caller that gets a session wants no list of steps before it.
    let quiet = (entrypoint || attached) && !options.verbose;
    let mut tell = |mark, step: &Step| {
        if !quiet {
            print(&shown(mark, step, options.verbose));
        }
    };
    let mut note = |text: &str| complain(&format!("kak: setup: {text}\n"));
    let mut teller = Teller {
        step: &mut tell,
        note: &mut note,
    };
    if entrypoint {
        return entrypoint::run(&options.wanted, options.command, &mut teller);
    }
    let stay = if attached {
        Stay::Attached
    } else {
        Stay::Background
    };
    let keeper = keeper::spawn(&options.wanted, stay, &mut teller)?;
    if !attached {
        return Ok(0);
    }
    let jail = &options.wanted.config.jail;
    let program = options.command.unwrap_or(Program::Shell {
        called: Called::default(),
        args: Vec::new(),
    });
    attend(jail, &program, keeper)
}

/// Runs the first session of an attached jail in this process's place, and waits for the others.
fn attend(jail: &str, program: &Program, keeper: keeper::Keeper) -> Result<u8> {
    // Joining a jail cannot be undone, so a child does it.
    let session =
        process::in_place_of(|| session::follow(Terminal::Callers, jail, program, IfDown::Refuse))?;
    if let Life::Up(init) = Life::of(jail)? {
        init.tell_open();
    }
    match keeper.release()? {
        Over::Done => Ok(End::of(session).follow("kak: setup")),
        Over::Off => Ok(0),
        // The keeper has reported what went wrong.
        Over::Failed(status) => Err(Error::told(status)),
    }
}

/// The record that setup would work with.
fn planned(wanted: &Wanted) -> Result<Record> {
    let jail = &wanted.config.jail;
    let mut machine = Machine::new(jail);
    match (Life::of(jail)?, Record::read(jail)?) {
        (Life::Up(_), Some(record)) => build::check_options(wanted, &record).map(|()| record),
        (_, Some(old)) => {
            let new = build::sketch_anew(wanted, &old, &mut machine)?;
            let same = (&new.config, &new.facts) == (&old.config, &old.facts);
            Ok(if same { old } else { new })
        }
        // Nothing is changed, so a caller that may not look at everything still gets the plan.
        (_, None) => build::draw_up(wanted.config.clone(), &mut machine, |error| {
            match error.errno() {
                Some(Errno::PERM | Errno::ACCESS) => Ok(()),
                _ => Err(error),
            }
        }),
    }
}

/// `--dry-run`.
fn dry_run(options: &Options) -> Result<u8> {
    let record = planned(&options.wanted)?;
    let plan = Plan::new(&record);
    let mut machine = Machine::new(&record.config.jail);
    if let Life::Up(init) = Life::of(&record.config.jail)? {
        machine.view = init.view()?;
    }
    for note in &plan.notes {
        complain(&format!("kak: setup: {note}\n"));
    }
    for steps in [&plan.outer, &plan.inner] {
        for (step, seen) in engine::observe(steps, &mut machine) {
            match seen {
                Seen::Done => print(&shown('=', step, options.verbose)),
                Seen::Absent | Seen::Torn => print(&shown('+', step, options.verbose)),
                Seen::Other(there) => {
                    print(&shown('!', step, options.verbose));
                    complain(&format!("kak: setup: in its place there is {there}\n"));
                }
            }
        }
    }
    Ok(0)
}

/// A step as a line: its mark and the first line of its command.
fn shown(mark: char, step: &Step, why: bool) -> String {
    let text = step.act.to_string();
    let line = text.lines().next().unwrap_or_default();
    if why {
        format!("{mark} {line}  # {}\n", step.why)
    } else {
        format!("{mark} {line}\n")
    }
}
