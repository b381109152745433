//! The loops over a list of steps: `setup`, `teardown`, `status`, `--dry-run` and `--explain` have the list in common,
//! and differ only in what is here.

use std::path::Path;

use crate::error::{Error, Result};
use crate::facts::resolvers::loopbacks;
use crate::plan::{Plan, follows};
use crate::record::Record;
use crate::step::{Machine, Seen, Step};
use crate::text::quote;

/// The callback that is given what became of a step (`=`, `+` or `-`), and the step.
pub type Tell<'a> = &'a mut dyn FnMut(char, &Step);

/// The steps that a [`setup`] has made, in order.
pub struct Made<'a>(Vec<&'a Step>);

impl Made<'_> {
    /// Takes them back, last first; returns what failed.
    pub fn take_back(self, machine: &mut Machine) -> Vec<Error> {
        let steps = self.0.into_iter().rev();
        steps
            .filter_map(|step| step.act.undo(machine).err())
            .collect()
    }
}

/// Makes every step that is not there, in order: `=` was there, `+` was made. It ends where a step fails or something
/// else is in its place; then what *this* call made is taken back, last first.
pub fn setup<'a>(steps: &'a [Step], machine: &mut Machine, tell: Tell<'_>) -> Result<Made<'a>> {
    let mut made = Made(Vec::new());
    for step in steps {
        match make(step, machine) {
            Ok(Seen::Done) => tell('=', step),
            Ok(before) => {
                tell('+', step);
                // A torn step was partly there before this run, and is in an earlier record.
                if before == Seen::Absent {
                    made.0.push(step);
                }
            }
            Err(error) => return Err(error.and(made.take_back(machine))),
        }
    }
    Ok(made)
}

/// Makes a step, and returns how much of it was there before. A step that was absent and fails leaves nothing behind.
fn make(step: &Step, machine: &mut Machine) -> Result<Seen> {
    match step.act.observe(machine)? {
        Seen::Done => return Ok(Seen::Done),
        Seen::Absent => {}
        Seen::Torn => return step.act.mend(machine).map(|()| Seen::Torn),
        Seen::Other(there) => {
            let why = format!("there is {there}");
            return Err(Error::text(step.act.to_string(), why));
        }
    }
    let Err(error) = step.act.apply(machine) else {
        return Ok(Seen::Absent);
    };
    // A step is several system calls, and one that reports an error may have taken effect. Where that cannot be
    // observed the step is undone all the same: before, there was nothing.
    let left = match step.act.observe(machine) {
        Ok(Seen::Absent | Seen::Other(_)) => None,
        Ok(Seen::Done | Seen::Torn) | Err(_) => step.act.undo(machine).err(),
    };
    Err(error.and(left))
}

/// Takes back every step that is there, last first, except those for which `keep` is true: `-` was taken back. Errors
/// are collected, and the rest is still done. What else is in a step's place is left, and is an error.
pub fn teardown(
    steps: &[Step],
    machine: &mut Machine,
    keep: impl Fn(&str) -> bool,
    tell: Tell<'_>,
) -> Result<()> {
    let mut errors = Vec::new();
    for step in steps
        .iter()
        .rev()
        .filter(|step| !keep(&step.act.to_string()))
    {
        match step.act.observe(machine) {
            Ok(Seen::Done | Seen::Torn) => match step.act.undo(machine) {
                Ok(()) => tell('-', step),
                Err(error) => errors.push(error),
            },
            Ok(Seen::Absent) => {}
            Ok(Seen::Other(there)) => {
                errors.push(Error::text(
                    step.act.to_string(),
                    format!("there is {there}; it is left"),
                ));
            }
            Err(error) => errors.push(error),
        }
    }
    Error::all(errors)
}

/// Looks at every step, for `status` and `--dry-run`. One that cannot be observed is [`Seen::Other`] with the error.
pub fn observe<'a>(steps: &'a [Step], machine: &mut Machine) -> Vec<(&'a Step, Seen)> {
    let seen = |step: &Step, machine: &mut Machine| {
        step.act
            .observe(machine)
            .unwrap_or_else(|error| Seen::Other(error.to_string()))
    };
    steps
        .iter()
        .map(|step| (step, seen(step, machine)))
        .collect()
}

/// The plan as a script for sh and the ordinary tools. The last command of its inner part is kak's own init, since a
/// shell cannot take a POSIX lock. `kak` is the path of this program, which may not be visible in the jail.
///
/// If the jail `is_up` the script is only to be read, and exits at once: its commands make everything anew, and most of
/// them do not check what is there.
pub fn explain(record: &Record, plan: &Plan, kak: &Path, is_up: bool) -> String {
    use std::fmt::Write as _;
    let jail = &record.config.jail;
    let kak = quote(kak);
    let lock = quote(crate::record::dir(jail).join("lock"));
    let mut text = format!(
        "#!/bin/sh\n# Makes the jail {jail} with ordinary tools. 'kak teardown -n {jail}' takes it back.\nset -e\n"
    );
    for note in &plan.notes {
        writeln!(text, "# note: {note}").ok();
    }
    if is_up {
        writeln!(text, "echo 'the jail {jail} is up' >&2; exit 1").ok();
    }
    writeln!(
        text,
        "\n# where all jails have their state\nmkdir -p -m 700 {}",
        crate::record::DIR
    )
    .ok();
    for step in &plan.outer {
        writeln!(text, "\n# {}\n{}", step.why, step.act).ok();
    }
    let (spaces, inner) = plan.inner.split_at(plan.started);
    text.push_str("\n# The rest is done in the jail: in its network, and in PID and mount namespaces of its own.\n");
    for step in spaces {
        writeln!(text, "# - {}", step.why).ok();
    }
    write!(text, "nsenter --net=/run/netns/{jail} ").ok();
    for step in spaces {
        write!(text, "{} \\\n    ", step.act).ok();
    }
    write!(
        text,
        "unshare --pid --mount --fork --kill-child --propagation unchanged \\\n\
         \x20   sh -e 3<>{lock} 4<{kak} >/dev/null <<'JAIL' &\n"
    )
    .ok();
    for step in inner {
        writeln!(text, "\n# {}\n{}", step.why, step.act).ok();
    }
    write!(
        text,
        "\n# PID 1 of the jail: takes the lock that says so, and reaps\n\
         exec /proc/self/fd/4 init 3\n\
         JAIL\n\n\
         # waits until it is up\n\
         until {kak} status -n {jail} >/dev/null; do kill -0 $!; sleep 0.1; done\n"
    )
    .ok();
    if follows(record) || !loopbacks(&record.facts.resolvers).is_empty() {
        write!(
            text,
            "\n# relays resolvers that only the machine reaches, now or later, as a keeper's child would\n\
             {kak} dns -n {jail}\n"
        )
        .ok();
    }
    text
}
