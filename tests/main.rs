//! The program as its users meet it, each test on a machine of its own (see [`sandbox`]).
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test runs programs and waits between two looks at a condition; the program does neither"
)]
#![allow(
    clippy::zombie_processes,
    reason = "the sandbox's first process reaps, and its end ends all"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has failed"
)]

/// Fresh namespaces and a root of its own for each test, and what a test asks such a machine.
#[macro_use]
mod sandbox;

/// nssh as a login shell: /etc/passwd changed, and restored.
mod accounts;
/// Up again, on a machine that has become another.
mod again;
/// A jail for one command, which ends as that does.
mod attached;
/// Wrong usage and machines that lack something: the message, the exit status, and nothing left behind.
mod bad;
/// Names, links, help: how the binary is called.
mod cli;
/// Resolvers that only this machine reaches, from inside.
mod dns;
/// What would stop kak, each provoked, and each cured by what is said.
mod doctor;
/// What falls to a first process.
mod duties;
/// The kernel says no, and not only once.
mod faults;
/// Machines on which somebody else drops packets.
mod firewall;
/// Forwarding is what it was.
mod forwarding;
/// IPv6 (`--ipv6`): packets, ports, neighbours, routers that say that they are there.
mod ipv6;
/// Who does not reach whom.
mod isolation;
/// What the inside of a jail looks like, and that it is the inside.
mod jail;
/// Keepers: what is heard of them, and what they leave.
mod keeper;
/// Setup, setup again, drift, crash, teardown.
mod life;
/// What kak knows of a jail is lost.
mod lost;
/// Packets of the right size.
mod mtu;
/// More namespaces of a jail's own: host name, IPC, control groups, time.
mod namespaces;
/// Named network namespaces, beside the real `ip`.
mod netns;
/// Packets: jail, veth, NAT, upstream.
mod network;
/// Sessions: arguments, statuses, signals, descriptors.
mod nssh;
/// kak itself, as the jail sees it.
mod program;
/// Sessions with a terminal of their own.
mod pty;
/// Ports of the machine's that lead into a jail.
mod publish;
/// What is reached of the outside through the processes in a jail.
mod reach;
/// Resolvers of one's own stay one's own.
mod resolvers;
/// Who is in a jail, and how that is ended.
mod sessions;
/// Several jails side by side, and which of them is meant.
mod several;
/// One line in /etc/shells.
mod shells;
/// Terminals: job control, signals, hang-ups, statuses.
mod terminal;
/// Every step against the shell command that it prints, both ways.
mod truth;
