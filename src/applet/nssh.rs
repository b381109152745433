//! `nssh`: runs the jail's shell, for people and for programs that take nssh for an ordinary shell.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use lexopt::Arg::{Long, Short, Value};

use super::{Applet, Call, unexpected};
use crate::config::{self, DEFAULT_JAIL};
use crate::error::{Error, Result};
use crate::jail::end::End;
use crate::jail::guest::Guest;
use crate::jail::session::{self, IfDown, Terminal};
use crate::jail::shell::{self, Called, Environment, Program, c_string};
use crate::survey;
use crate::sys;
use crate::text::quote;

/// `nssh`.
pub const APPLET: Applet = Applet {
    name: "nssh",
    links: &["nssh"],
    own_words: true,
    help: "\
usage: kak nssh [--pty] [-n JAIL] [--] [ARG]...
       nssh [ARG]...

Run the jail's shell in the jail, with exactly these arguments.

Called by its own name it has no options: every word goes to the shell, which
is a login shell if called as one ('-nssh' makes '-bash'), and the variable
KAK_JAIL names the jail. If the jail is not up, a call by root brings it up.
Inside the jail nssh is simply the real shell.

Users other than root join the jail USER while it is up, if 'setup --allow'
lets them, by a set-user-ID copy that 'kak --install --setuid-nssh PATH' makes.
That copy runs only under the name nssh, and heeds no variable.

  -n, --name JAIL  the jail's name [$KAK_JAIL, else USER]
      --pty        give the session a terminal of its own, in the jail: the
                   caller's only shows it, and stays out of the jail's reach
      --help       show this

Exit status: the shell's, or death by the same signal; 127 the shell was not
found, 126 it cannot be run, 137 the jail is gone, 125 kak itself failed.
",
    run,
};

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let Call {
        called,
        own_name,
        args,
        guest,
    } = call;
    let (options, called) = if own_name {
        let all = Options {
            jail: None,
            terminal: Terminal::Callers,
            args,
        };
        (all, called)
    } else {
        // Then argv[0] is about kak, not about a shell.
        (parse(args)?, Called::default())
    };
    let Options {
        jail,
        terminal,
        args,
    } = options;
    if let Some(guest) = guest {
        return run_for(&guest, called, args);
    }
    if jail.is_some() {
        shell::check_outside("another one can be joined")
            .map_err(|error| error.with_status(125))?;
    }
    if let Some(shell) = shell::real_shell().map_err(|error| error.with_status(125))? {
        return become_it(&shell, called, args, Environment::of_caller());
    }
    let jail = config::jail(jail).map_err(|error| {
        // A caller that takes nssh for a shell would take any other status for the command's.
        if own_name {
            error.with_status(125)
        } else {
            error
        }
    })?;
    let program = Program::Shell { called, args };
    Ok(session::follow(terminal, &jail, &program, IfDown::BringUp))
}

/// kak's own options, and the shell's arguments.
pub struct Options {
    /// The jail that was named.
    pub jail: Option<String>,
    /// Whose terminal the session is on.
    terminal: Terminal,
    /// The shell's arguments.
    pub args: Vec<OsString>,
}

/// The same for the caller of the set-user-ID copy, who lacks the rights that this process has.
fn run_for(guest: &Guest, called: Called, args: Vec<OsString>) -> Result<u8> {
    if let Some(shell) = Guest::real_shell() {
        let rid = guest.drop_rights().and_then(|()| guest.give_back_limit());
        rid.map_err(|error| error.with_status(125))?;
        return become_it(&shell, called, args, guest.environment());
    }
    let program = Program::Shell { called, args };
    Ok(session::follow(
        Terminal::Callers,
        DEFAULT_JAIL,
        &program,
        IfDown::Wait(guest),
    ))
}

/// Reads kak's own options.
pub fn parse(args: Vec<OsString>) -> Result<Options> {
    let mut parser = lexopt::Parser::from_args(args);
    let (mut jail, mut terminal) = (None, Terminal::Callers);
    let mut rest = Vec::new();
    loop {
        // Everything from the first word that is not ours is the shell's.
        if let Some(mut raw) = parser.try_raw_args() {
            match raw.peek() {
                Some(word) if word == "--" => {
                    raw.next();
                    rest.extend(raw);
                    break;
                }
                Some(word) if !is_ours(word.as_bytes()) => {
                    rest.extend(raw);
                    break;
                }
                _ => {}
            }
        }
        match parser.next()? {
            Some(Short('n') | Long("name")) => {
                jail = Some(config::jail_name(&parser.value()?)?);
            }
            Some(Long("pty")) => terminal = Terminal::Own,
            Some(Value(word)) => return Err(Error::usage(format!("unexpected {word:?}"))),
            Some(other) => return Err(unexpected(other)),
            None => break,
        }
    }
    Ok(Options {
        jail,
        terminal,
        args: rest,
    })
}

/// Whether a word is one of kak's options.
fn is_ours(word: &[u8]) -> bool {
    word.starts_with(b"-n")
        || word.starts_with(b"--name")
        || [&b"--pty"[..], b"--help"].contains(&word)
}

/// Inside the jail: executes the real shell in place of this process.
fn become_it(
    shell: &Path,
    called: Called,
    args: Vec<OsString>,
    mut env: Environment,
) -> Result<u8> {
    if survey::is_kak(shell) {
        // It would execute itself for ever.
        return Err(Error::cure(
            format!("exec {}", quote(shell)),
            "the jail's shell is kak itself",
            "name another one: kak setup --shell PATH",
        )
        .with_status(126));
    }
    let argv: Vec<CString> = std::iter::once(called.zero(shell))
        .chain(args)
        .map(|word| c_string(&word))
        .collect::<Result<_>>()?;
    env.set("SHELL", shell.as_os_str())?;
    let errno = sys::execve(&c_string(shell.as_os_str())?, &argv, &env.into_c_strings());
    Ok(End::NotRun(shell.display().to_string(), errno).follow("kak: nssh"))
}
