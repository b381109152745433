//! `kak dns`: the last command of a script that `kak setup --explain` prints, where a relay is needed. Not for people.

use lexopt::Arg::{Long, Short};

use super::{Applet, Call, unexpected};
use crate::config;
use crate::error::{Error, Result};
use crate::jail::{Life, dns};
use crate::sys;

/// `kak dns`.
pub const APPLET: Applet = Applet {
    name: "dns",
    links: &[],
    own_words: false,
    help: "\
usage: kak dns [-n JAIL]

Relay the resolvers of a jail that a script has put together.

The relay ends with the jail. 'kak setup --explain' prints the script.

  -n, --name JAIL  the jail's name [$KAK_JAIL, else USER]
      --help       show this
",
    run,
};

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let mut parser = lexopt::Parser::from_args(call.args);
    let mut name = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') | Long("name") => name = Some(config::jail_name(&parser.value()?)?),
            other => return Err(unexpected(other)),
        }
    }
    sys::close_from(3);
    let jail = config::jail(name)?;
    let Life::Up(init) = Life::of(&jail)? else {
        return Err(Error::text(format!("kak dns -n {jail}"), "it is not up"));
    };
    dns::start_unkept(&init, &jail).map(|()| 0)
}
