//! The relay for resolvers that only the outer network reaches: those on loopback addresses, as Docker's 127.0.0.11 and
//! systemd's 127.0.0.53 are. It listens on the same address and port in the jail's network namespace and asks outside.
//! It does not understand questions or answers, caches nothing, and keeps what it holds within bounds.
//!
//! A socket stays in the namespace that it was made in. So one process, the relay, has sockets on both sides, and no
//! address, firewall rule or resolv.conf has to change. It is the keeper's child, and ends with it or with init.

mod connection;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::process::Signal;
use rustix::thread::LinkNameSpaceType;

use super::{Init, process};
use crate::error::{Result, What as _};
use crate::facts;
use crate::netns;
use crate::step::file;
use crate::sys::{self, SignalSet};
use connection::{Connection, Flow, IDLE};

/// The port of resolvers (RFC 1035, section 4.2).
const PORT: u16 = 53;
/// How many questions by UDP may be open; further ones are dropped, as UDP's are. Each is a descriptor.
const QUESTIONS: usize = 256;
/// How many connections may be open; further ones wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long an answer by UDP may take: longer than a C library waits (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(15);
/// The largest UDP payload.
const DATAGRAM: usize = 65_535;

/// Starts the relay of a jail that is up, if it needs one: as a child of the keeper, who calls this.
pub fn start(init: &Init, jail: &str) -> Result<()> {
    let Some(relay) = Relay::prepare(jail)? else {
        return Ok(());
    };
    if sys::fork().what(|| "fork")?.is_some() {
        return Ok(());
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    relay.serve(&init.fd)
}

/// Starts the relay of a network without a jail, if it needs one. It is nobody's child; who wants to end it finds it by
/// the lock.
pub fn start_alone(name: &str) -> Result<()> {
    let Some(relay) = Relay::prepare(name)? else {
        return Ok(());
    };
    let (ours, theirs) = process::channel()?;
    let Some(between) = sys::fork().what(|| "fork")? else {
        drop(ours);
        if let Ok(None) = sys::fork() {
            relay.alone(name, theirs);
        }
        sys::exit_now(0);
    };
    drop(theirs);
    process::wait_status(between);
    let mut byte = [0];
    match rustix::net::recv(&ours, &mut byte, RecvFlags::empty()) {
        Ok((1, _)) => Ok(()),
        _ => Err(crate::error::Error::text(
            "kak-dns",
            "the relay for the resolvers did not start",
        )),
    }
}

impl Relay {
    /// Opens the doors of a jail's resolvers; none if it needs no relay.
    fn prepare(jail: &str) -> Result<Option<Self>> {
        let own = Path::new("/etc/netns").join(jail).join("resolv.conf");
        let text = match file::read(&own)? {
            text if text.is_empty() => file::read(Path::new("/etc/resolv.conf"))?,
            text => text,
        };
        let resolvers = facts::loopbacks(&text);
        if resolvers.is_empty() {
            return Ok(None);
        }
        let namespace = netns::open(jail.as_ref())?;
        let doors = listen_in(namespace.as_fd(), &resolvers)
            .what(|| format!("listen on {}:{PORT}", list(&resolvers)))?;
        Ok(Some(Self {
            doors,
            questions: Vec::new(),
            connections: Vec::new(),
        }))
    }

    /// The life of a relay that nobody keeps: says that it can be found, and serves until a signal ends it.
    fn alone(self, name: &str, report: OwnedFd) {
        let path = crate::record::dir(name).join("lock");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        let lock = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        let Ok(lock) =
            lock.and_then(|lock| sys::lock_bytes(lock.as_fd(), super::RELAY).map(|()| lock))
        else {
            return;
        };
        let me = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        );
        if let Ok(me) = me {
            rustix::net::send(&report, &[0], SendFlags::NOSIGNAL).ok();
            drop(report);
            self.serve(&me);
        }
        drop(lock);
    }

    /// Leaves everything that belongs to the caller, and relays until this process ends, or the one of `end`.
    fn serve(self, end: &OwnedFd) -> ! {
        rustix::thread::set_name(c"kak-dns").ok();
        rustix::process::setsid().ok();
        rustix::process::chdir("/").ok();
        process::silence().ok();
        sys::set_signal_mask(&SignalSet::empty());
        self.run(end)
    }
}

/// Addresses, for people.
fn list(resolvers: &[IpAddr]) -> String {
    resolvers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A resolver's place in the jail.
struct Door {
    /// The resolver, on both sides.
    resolver: SocketAddr,
    /// Where questions by UDP come.
    udp: OwnedFd,
    /// Where connections come.
    tcp: OwnedFd,
}

/// A question by UDP that is not answered yet.
struct Question {
    /// Outside, connected to the resolver; nobody else's answer arrives here.
    outside: OwnedFd,
    /// Which door it came by.
    door: usize,
    /// Who asks.
    asker: SocketAddr,
    /// When it is given up.
    until: Instant,
}

/// The relay's state.
struct Relay {
    /// Where questions come.
    doors: Vec<Door>,
    /// Open questions.
    questions: Vec<Question>,
    /// Open connections.
    connections: Vec<Connection>,
}

/// Listens in another network namespace: a child goes there, and ends.
fn listen_in(namespace: BorrowedFd<'_>, resolvers: &[IpAddr]) -> rustix::io::Result<Vec<Door>> {
    sys::elsewhere(|| {
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        resolvers.iter().map(|address| listen(*address)).collect()
    })
}

/// A socket that does not wait.
fn socket(address: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    rustix::net::socket_with(
        family,
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// A resolver's door, where we are.
fn listen(address: IpAddr) -> rustix::io::Result<Door> {
    let resolver = SocketAddr::new(address, PORT);
    let (udp, tcp) = (
        socket(resolver, SocketType::DGRAM)?,
        socket(resolver, SocketType::STREAM)?,
    );
    sockopt::set_socket_reuseaddr(&tcp, true)?;
    rustix::net::bind(&udp, &resolver)?;
    rustix::net::bind(&tcp, &resolver)?;
    rustix::net::listen(&tcp, 64)?;
    Ok(Door { resolver, udp, tcp })
}

impl Relay {
    /// Relays until init is gone.
    fn run(mut self, end: &OwnedFd) -> ! {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let ready = self.wait(end);
            let mut ready = ready.into_iter();
            if ready.next().unwrap_or(true) {
                sys::exit_now(0);
            }
            // In the order in which they were polled.
            let doors: Vec<(bool, bool)> = self
                .doors
                .iter()
                .map(|_| (ready.next() == Some(true), ready.next() == Some(true)))
                .collect();
            let answered: Vec<bool> = self
                .questions
                .iter()
                .map(|_| ready.next() == Some(true))
                .collect();
            self.answer(&answered, &mut buffer);
            for connection in &mut self.connections {
                connection.pump(&mut buffer);
            }
            for (door, (udp, tcp)) in doors.into_iter().enumerate() {
                if udp {
                    self.ask(door, &mut buffer);
                }
                if tcp {
                    self.accept(door);
                }
            }
            let now = Instant::now();
            self.questions.retain(|question| question.until > now);
            self.connections
                .retain(|connection| !connection.is_over() && connection.until > now);
        }
    }

    /// Waits for something to do: whether it is over, then for each door both sockets, then each question.
    fn wait(&self, end: &OwnedFd) -> Vec<bool> {
        let mut fds = vec![PollFd::new(end, PollFlags::IN)];
        // A flood waits in the kernel, which drops what is too much.
        let room = |full: bool| {
            if full {
                PollFlags::empty()
            } else {
                PollFlags::IN
            }
        };
        for door in &self.doors {
            fds.push(PollFd::new(
                &door.udp,
                room(self.questions.len() >= QUESTIONS),
            ));
            fds.push(PollFd::new(
                &door.tcp,
                room(self.connections.len() >= CONNECTIONS),
            ));
        }
        fds.extend(
            self.questions
                .iter()
                .map(|question| PollFd::new(&question.outside, PollFlags::IN)),
        );
        for connection in &self.connections {
            for end in 0..2 {
                let flags = connection.interest(end);
                fds.extend(connection.ends.get(end).map(|fd| PollFd::new(fd, flags)));
            }
        }
        let ends = self.questions.iter().map(|question| question.until);
        let ends = ends.chain(self.connections.iter().map(|connection| connection.until));
        let limit = ends
            .min()
            .map(|end| super::timespec(end.saturating_duration_since(Instant::now())));
        poll(&mut fds, limit.as_ref()).ok();
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    }

    /// Takes questions from a door and passes them on, each by a socket of its own: its answer can be nobody else's.
    fn ask(&mut self, door: usize, buffer: &mut [u8]) {
        let Some(Door { resolver, udp, .. }) = self.doors.get(door) else {
            return;
        };
        while self.questions.len() < QUESTIONS {
            let Ok((length, _, Some(asker))) =
                rustix::net::recvfrom(udp, &mut *buffer, RecvFlags::DONTWAIT)
            else {
                return;
            };
            let Ok(asker) = SocketAddr::try_from(asker) else {
                continue;
            };
            let question = buffer.get(..length).unwrap_or_default();
            let outside = socket(*resolver, SocketType::DGRAM).and_then(|outside| {
                rustix::net::connect(&outside, resolver)?;
                rustix::net::send(&outside, question, SendFlags::NOSIGNAL)?;
                Ok(outside)
            });
            // One that cannot be asked is not answered; the asker asks again.
            if let Ok(outside) = outside {
                self.questions.push(Question {
                    outside,
                    door,
                    asker,
                    until: Instant::now() + PATIENCE,
                });
            }
        }
    }

    /// Passes answers on.
    fn answer(&mut self, answered: &[bool], buffer: &mut [u8]) {
        let mut answered = answered.iter();
        let doors = &self.doors;
        self.questions.retain(|question| {
            if answered.next() != Some(&true) {
                return true;
            }
            match rustix::net::recv(&question.outside, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => true,
                Ok((length, _)) => {
                    if let Some(door) = doors.get(question.door) {
                        let answer = buffer.get(..length).unwrap_or_default();
                        rustix::net::sendto(
                            &door.udp,
                            answer,
                            SendFlags::NOSIGNAL,
                            &question.asker,
                        )
                        .ok();
                    }
                    false
                }
                // The resolver is not there; the asker learns it by waiting, as from any that is down.
                Err(_) => false,
            }
        });
    }

    /// Takes connections from a door and opens others to the resolver.
    fn accept(&mut self, door: usize) {
        let Some(Door { resolver, tcp, .. }) = self.doors.get(door) else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.connections.len() < CONNECTIONS
            && let Ok(asker) = rustix::net::accept_with(tcp, flags)
        {
            let outside =
                socket(*resolver, SocketType::STREAM).and_then(
                    |outside| match rustix::net::connect(&outside, resolver) {
                        Ok(()) | Err(Errno::INPROGRESS) => Ok(outside),
                        Err(errno) => Err(errno),
                    },
                );
            if let Ok(outside) = outside {
                let flow = || Flow {
                    bytes: Vec::new(),
                    over: false,
                };
                let until = Instant::now() + IDLE;
                self.connections.push(Connection {
                    ends: [asker, outside],
                    flows: [flow(), flow()],
                    until,
                });
            }
        }
    }
}
