//! `kak doctor`: prints what on this machine would stop kak. The checks themselves are in [`crate::doctor`].

use lexopt::Arg::Long;

use super::{Applet, Call, print, unexpected};
use crate::doctor::{self, Check, Cure};
use crate::error::Result;
use crate::text::quoted;

/// `kak doctor`.
pub const APPLET: Applet = Applet {
    name: "doctor",
    links: &["kak-doctor"],
    own_words: false,
    help: "\
usage: kak doctor [--json]

Say what on this machine would stop kak, and how to cure it.

A line for each check says ok, warn or fail, what was looked at, and what was
seen. Where it is not ok, a second line has the cure: a command to run, or what
else to do. Nothing is changed: what can only be seen by trying is tried in
namespaces that end at once. Without root some things cannot be checked; their
lines say so.

      --json   print a JSON list, for programs
      --help   show this

Exit status: 0 nothing fails, 1 something does, 2 wrong usage.
",
    run,
};

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let mut parser = lexopt::Parser::from_args(call.args);
    let mut json = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("json") => json = true,
            other => return Err(unexpected(other)),
        }
    }
    let report = doctor::examine();
    let form = if json { object } else { lines };
    let all: Vec<String> = report.0.iter().map(form).collect();
    print(&if json {
        format!("[{}]\n", all.join(","))
    } else {
        all.concat()
    });
    Ok(u8::from(report.has_failed()))
}

/// A check as text for people.
fn lines(check: &Check) -> String {
    let Check {
        state, what, why, ..
    } = check;
    let mut text = format!("{:<4}  {what}", state.word());
    if !why.is_empty() {
        text.extend([": ", why]);
    }
    text.push('\n');
    match &check.cure {
        Cure::None => {}
        Cure::Run(command) => text.extend(["      run: ", command, "\n"]),
        Cure::Say(cure) => text.extend(["      cure: ", cure, "\n"]),
    }
    text
}

/// A check as a JSON object.
fn object(check: &Check) -> String {
    let (cure, is_command) = match &check.cure {
        Cure::None => ("null".into(), false),
        Cure::Run(text) => (quoted(text), true),
        Cure::Say(text) => (quoted(text), false),
    };
    format!(
        "{{\"name\":\"{}\",\"state\":\"{}\",\"what\":{},\"why\":{},\"cure\":{cure},\"command\":{is_command}}}",
        check.name,
        check.state.word(),
        quoted(&check.what),
        quoted(&check.why),
    )
}
