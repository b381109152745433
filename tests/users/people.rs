//! The users of a machine, and how a test runs a command as one of them.

use std::process::Command;

use crate::sandbox::*;

/// A user.
#[derive(Clone, Copy)]
pub struct Person {
    /// The name, which is also that of the home directory.
    pub name: &'static str,
    /// The user ID.
    pub user: u32,
    /// The group ID.
    pub group: u32,
    /// The supplementary group IDs, separated by commas; may be empty.
    pub beside: &'static str,
}

/// A user whom the jails of these tests allow.
pub const ALICE: Person = Person {
    name: "alice",
    user: 1000,
    group: 1000,
    beside: "50,2000",
};
/// A user whom they do not allow.
pub const BOB: Person = Person {
    name: "bob",
    user: 1001,
    group: 1001,
    beside: "",
};

impl Person {
    /// A command that runs as this person, with `options` of setpriv(1).
    pub fn command(self, options: &[&str], argv: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.user));
        command.arg(format!("--regid={}", self.group));
        if self.beside.is_empty() {
            command.arg("--clear-groups");
        } else {
            command.arg(format!("--groups={}", self.beside));
        }
        let home = format!("/home/{}", self.name);
        command.args(options).args(argv).env("HOME", home);
        command
    }

    /// Runs one program as this person.
    pub fn program(self, argv: &[&str]) -> Ended {
        end(&mut self.command(&[], argv))
    }

    /// Runs a script with bash, which may fail.
    pub fn run(self, script: &str) -> Ended {
        self.program(&["bash", "-c", script])
    }

    /// Runs a script with bash, asserts success and returns what it printed, trimmed.
    #[track_caller]
    pub fn bash(self, script: &str) -> String {
        let ended = self.program(&["bash", "-ec", script]);
        ended.code(0).text().trim().to_owned()
    }
}

/// Makes the users, their homes, and /bin/nssh as a set-user-ID copy, but no jail.
pub fn move_in() {
    sh("echo 'alice:x:1000:1000::/home/alice:/bin/bash
bob:x:1001:1001::/home/bob:/bin/nssh' >>/etc/passwd
        echo 'alice:x:1000:
bob:x:1001:
staff:x:50:carol
club:x:2000:' >>/etc/group
        mkdir -p /home/alice /home/bob
        chown 1000:1000 /home/alice; chown 1001:1001 /home/bob
        kak --install --setuid-nssh /bin/nssh");
}

/// [`move_in`], and a jail that allows alice.
pub fn live_together() {
    move_in();
    sh("kak setup --allow alice");
}

/// Asserts that a user was refused: status 125, one line that says why, and no output.
#[track_caller]
pub fn refused(ended: Ended) -> Ended {
    let ended = ended.code(125);
    assert_eq!(ended.text(), "", "{ended}");
    assert!(
        ended.stderr.starts_with("kak: ") && ended.stderr.lines().count() == 1,
        "{ended}"
    );
    ended
}
