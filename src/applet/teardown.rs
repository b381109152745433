//! `kak teardown`: ends a jail. How it is taken down is [`build::take_down`]'s.

use lexopt::Arg::{Long, Short};

use super::{Applet, Call, print, unexpected};
use crate::config;
use crate::error::Result;
use crate::jail::{build, process, shell};
use crate::step::Step;

/// `kak teardown`.
pub const APPLET: Applet = Applet {
    name: "teardown",
    links: &["kak-teardown"],
    own_words: false,
    help: "\
usage: kak teardown [-n JAIL] [-v]

End a jail's sessions and take back everything that setup made.

The last step is undone first. What was there before setup stays, and so does a
directory that somebody has put something into. An error does not stop it: the
rest is still done, and every error is reported. It is no error if there is no
jail.

  -n, --name JAIL  the jail's name [$KAK_JAIL, else USER]
  -v, --verbose    say what is taken back
      --help       show this

Exit status: 0 done, 1 something is left, 2 wrong usage.
",
    run,
};

/// Runs the applet.
fn run(call: Call) -> Result<u8> {
    let mut parser = lexopt::Parser::from_args(call.args);
    let (mut name, mut verbose) = (None, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') | Long("name") => {
                name = Some(config::jail_name(&parser.value()?)?);
            }
            Short('v') | Long("verbose") => verbose = true,
            other => return Err(unexpected(other)),
        }
    }
    let name = config::jail(name)?;
    shell::check_outside("it can be ended")?;
    process::apart(&format!("kak teardown -n {name}"), |waits| {
        let mut tell = |mark, step: &Step| {
            if verbose {
                print(&format!(
                    "{mark} {}\n",
                    step.act.to_string().lines().next().unwrap_or_default()
                ));
            }
        };
        build::take_down(&name, &mut tell, waits)
    })
    .map(|()| 0)
}
