//! `exec`: runs a command in a namespace. This process becomes the command, so that terminal, signals and status are
//! the command's; with `-all` and in a batch a child does.

use std::ffi::{CString, OsStr, OsString};

use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::directory;
use super::options::Options;
use crate::applet::print_bytes;
use crate::error::{Error, Result, What as _, complain};
use crate::jail::shell::{c_string, search};
use crate::netns::{self, enter};
use crate::sys;
use crate::text::shown;

/// `exec NAME CMD [ARG]...`.
pub fn exec(options: &Options, words: &[OsString]) -> Result<u8> {
    if options.all {
        return everywhere(words);
    }
    let (name, command) = command(words)?;
    if options.batch.is_some() {
        return apart(|| become_command(name, command));
    }
    Ok(become_command(name, command))
}

/// The name and the command.
fn command(words: &[OsString]) -> Result<(&OsStr, &[OsString])> {
    let Some((name, command)) = words.split_first() else {
        return Err(Error::text("", "No netns name specified"));
    };
    if command.is_empty() {
        return Err(Error::text("", "No command specified"));
    }
    Ok((name, command))
}

/// `-all exec CMD [ARG]...`: in one namespace after the other.
fn everywhere(command: &[OsString]) -> Result<u8> {
    if command.is_empty() {
        return Err(Error::text("", "No command specified"));
    }
    for name in directory(netns::names())?.unwrap_or_default() {
        let mut text = b"\nnetns: ".to_vec();
        text.extend(name.as_encoded_bytes());
        text.push(b'\n');
        print_bytes(&text);
        apart(|| become_command(&name, command))?;
    }
    Ok(0)
}

/// Runs `work`, which becomes a command, in a child; returns its status. If a signal killed the child nothing more is
/// done, and nothing reported: whoever sent the signal knows.
fn apart(work: impl FnOnce() -> u8) -> Result<u8> {
    let Some(pid) = sys::fork().what(|| "fork")? else {
        sys::exit_now(work());
    };
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Ok(Some((_, status))) => {
                let code = status.exit_status().ok_or_else(|| Error::told(1))?;
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            // ECHILD: our caller ignored SIGCHLD, and so do we, having inherited that.
            _ => return Ok(0),
        }
    }
}

/// Becomes a command in a namespace. Nothing of this process changes but the network, /sys, the files of
/// /etc/netns/NAME, and `KAK_NETNS` in the environment. Returns the exit status if that fails.
fn become_command(name: &OsStr, command: &[OsString]) -> u8 {
    match prepare(name, command) {
        Ok((paths, argv, env)) => {
            let errno = sys::execute(&paths, &argv, &env);
            let shown = command.first().map_or_else(String::new, shown);
            complain(&format!(
                "exec of \"{shown}\" failed: {}\n",
                Error::reason(errno)
            ));
            if errno == Errno::NOENT { 127 } else { 126 }
        }
        Err(error) => {
            complain(&error.lines(""));
            255
        }
    }
}

/// Enters the namespace; returns the paths at which the command may be, its words, and its environment.
fn prepare(
    name: &OsStr,
    command: &[OsString],
) -> Result<(Vec<CString>, Vec<CString>, Vec<CString>)> {
    netns::check(name)?;
    let home = enter::network(name)?;
    enter::mounts(name, home)?;
    let file = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let paths = search(file, std::env::var_os("PATH").as_deref())?;
    let argv = command
        .iter()
        .map(|word| c_string(word))
        .collect::<Result<_>>()?;
    let mut own = OsString::from("KAK_NETNS=");
    own.push(name);
    let mut env = sys::environment();
    env.retain(|pair| !pair.as_bytes().starts_with(b"KAK_NETNS="));
    env.push(c_string(&own)?);
    Ok((paths, argv, env))
}
