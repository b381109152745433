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
/// A jail brought up again, on a machine that has changed meanwhile.
mod again;
/// `kak setup -- CMD`: ends as the first session does.
mod attached;
/// Wrong usage and machines that lack something: the message, the exit status, and nothing left behind.
mod bad;
/// Names, links, help: how the binary is called.
mod cli;
/// Resolvers that only this machine reaches, from inside.
mod dns;
/// `kak doctor`: each defect made for real, and cured by what it says.
mod doctor;
/// The duties of a PID 1.
mod duties;
/// System calls that fail not only once.
mod faults;
/// Machines on which somebody else's firewall drops packets.
mod firewall;
/// Forwarding is restored to what it was.
mod forwarding;
/// IPv6 (`--ipv6`): packets, ports, neighbours, router advertisements.
mod ipv6;
/// Isolation: who does not reach whom.
mod isolation;
/// What the inside of a jail looks like, and that it is the inside.
mod jail;
/// Keepers: what they report, and what they leave behind.
mod keeper;
/// Setup, setup again, drift, crash, teardown.
mod life;
/// A jail whose state in /run/kak is lost.
mod lost;
/// MTU: packets of the right size.
mod mtu;
/// More namespaces of a jail's own: host name, IPC, control groups, time.
mod namespaces;
/// Named network namespaces, beside the real `ip`.
mod netns;
/// Packets: jail, veth, NAT, upstream.
mod network;
/// Sessions: arguments, statuses, signals, descriptors.
mod nssh;
/// kak's own files, as the jail sees them.
mod program;
/// Sessions with a terminal of their own.
mod pty;
/// Published ports of the machine, which lead into a jail.
mod publish;
/// What root in a jail reaches of the outside through the processes there.
mod reach;
/// A resolv.conf that kak did not make stays as it is.
mod resolvers;
/// Sessions: who is in a jail, and how they are ended.
mod sessions;
/// Several jails side by side, and which of them is meant.
mod several;
/// One line in /etc/shells.
mod shells;
/// Terminals: job control, signals, hang-ups, statuses.
mod terminal;
/// Every step against the shell command that it prints, both ways.
mod truth;
