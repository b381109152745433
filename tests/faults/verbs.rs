//! The verbs that are tested.

use crate::matrix::{After, Verb};

/// A jail with steps of every kind.
const SETUP: &str = "kak setup --ipv6 --publish 8080:80";

/// The defaults of a verb's fields.
const NONE: Verb = Verb {
    name: "",
    once: "",
    each: "",
    command: "",
    back: "",
    prefix: "",
    codes: &[1],
    after: After::Nothing,
    again: true,
    every: 1,
    about: &[],
};

/// The paths of the calls that change a login shell.
const ACCOUNTS: &[&str] = &["/etc/passwd", "/etc/.pwd.lock"];

/// `kak setup`.
pub const SETUP_VERB: Verb = Verb {
    name: "setup",
    command: SETUP,
    back: "kak teardown",
    prefix: "kak: setup: ",
    every: 2,
    ..NONE
};

/// `kak teardown`.
pub const TEARDOWN: Verb = Verb {
    name: "teardown",
    each: SETUP,
    command: "kak teardown",
    back: "kak teardown",
    prefix: "kak: teardown: ",
    after: After::Rest,
    every: 2,
    ..NONE
};

/// A jail for one command, from setup to teardown, with its keeper.
pub const LIFE: Verb = Verb {
    name: "setup -- CMD",
    command: "kak setup --ipv6 --publish 8080:80 -- /bin/true",
    back: "kak teardown",
    prefix: "kak: ",
    codes: &[1, 125, 126],
    after: After::NothingOrRest,
    every: 6,
    ..NONE
};

/// nssh, with no jail up: it makes one.
pub const CREATE: Verb = Verb {
    name: "nssh, the first",
    command: "nssh -c true",
    back: "kak teardown",
    prefix: "kak: ",
    codes: &[125, 126],
    after: After::NothingOrWhole,
    every: 6,
    ..NONE
};

/// nssh, with the jail up.
pub const JOIN: Verb = Verb {
    name: "nssh, another",
    once: SETUP,
    command: "nssh -c true",
    prefix: "kak: nssh: ",
    codes: &[125, 126],
    ..NONE
};

/// `kak netns add` of the first namespace.
pub const ADD: Verb = Verb {
    name: "netns add",
    command: "kak netns add blue",
    // delete leaves /run/netns and its mount, as ip does.
    back: "kak netns delete blue; umount /run/netns; rmdir /run/netns",
    codes: &[1, 255],
    ..NONE
};

/// `kak netns add --uplink`.
pub const UPLINK: Verb = Verb {
    name: "netns add --uplink",
    command: "kak netns add blue --uplink",
    back: "kak netns delete blue",
    codes: &[1, 255],
    // A half-made namespace counts as existing: it has to be deleted first.
    again: false,
    every: 2,
    ..NONE
};

/// `kak netns exec`.
pub const EXEC: Verb = Verb {
    name: "netns exec",
    once: "kak netns add blue; mkdir -p /etc/netns/blue; echo nameserver 203.0.113.1 >/etc/netns/blue/resolv.conf",
    command: "kak netns exec blue true",
    codes: &[1, 126, 127, 255],
    ..NONE
};

/// `kak netns delete`.
pub const DELETE: Verb = Verb {
    name: "netns delete",
    once: "kak netns add red",
    each: "kak netns add blue",
    command: "kak netns delete blue",
    back: "kak netns delete blue",
    codes: &[1, 255],
    ..NONE
};

/// `kak netns delete` of a namespace with an uplink.
pub const UNLINK: Verb = Verb {
    name: "netns delete, of an uplink",
    each: "kak netns add blue --uplink",
    command: "kak netns delete blue",
    back: "kak netns delete blue",
    codes: &[1, 255],
    after: After::Rest,
    every: 2,
    ..NONE
};

/// Setting a login shell.
pub const PASSWD: Verb = Verb {
    name: "setup --login-shell",
    command: "kak setup --login-shell root",
    back: "kak teardown",
    prefix: "kak: setup: ",
    about: ACCOUNTS,
    ..NONE
};

/// Restoring the old login shell.
pub const PASSWD_BACK: Verb = Verb {
    name: "teardown, of a login shell",
    each: "kak setup --login-shell root",
    command: "kak teardown",
    back: "kak teardown",
    prefix: "kak: teardown: ",
    after: After::Rest,
    about: ACCOUNTS,
    ..NONE
};

/// Makes /etc/passwd a mount, so that it is changed in place, with a shell whose name is shorter than nssh's.
const MOUNTED: &str = "mountpoint -q /etc/passwd || { sed -i 's|/bin/bash|/bin/sh|' /etc/passwd
    cp /etc/passwd /var/passwd; mount --bind /var/passwd /etc/passwd; }";

/// Setting a login shell in place.
pub const PASSWD_MOUNT: Verb = Verb {
    name: "setup --login-shell, in place",
    once: MOUNTED,
    ..PASSWD
};

/// Restoring it in place.
pub const PASSWD_MOUNT_BACK: Verb = Verb {
    name: "teardown, of a login shell in place",
    once: MOUNTED,
    ..PASSWD_BACK
};
