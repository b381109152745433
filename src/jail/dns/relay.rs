//! The relay: passes questions and connections from the jail to the resolvers outside, and answers back. It parses
//! neither, and caches nothing.
//!
//! What it holds is bounded for each door. When all places are taken, a new question replaces the oldest one, which its
//! asker has most likely given up, and a new connection the one that has been silent for longest. So a flood makes
//! service worse but stops it for nobody, and questions take nothing from connections.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::super::timespec;
use super::connection::Connection;
use super::door::{Door, socket};
use crate::sys;

/// How many doors there may be: more resolvers than any C library asks (resolv.conf(5)).
pub const DOORS: usize = 8;
/// How many questions of a door may be open. Each is a descriptor.
const QUESTIONS: usize = 256;
/// How many connections of a door may be open. Each is two descriptors.
const CONNECTIONS: usize = 64;
/// Descriptors for all else.
const REST: usize = 64;
/// How long an answer may take: longer than a C library waits (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(15);
/// How often to look for what has taken too long.
const SWEEP: Duration = Duration::from_secs(1);
/// How much of one kind is done at a time, before it is the others' turn.
const TURN: usize = 64;
/// The largest UDP payload.
const DATAGRAM: usize = 65_535;

/// What an event is about.
mod topic {
    /// Something that is not the relay's.
    pub const OTHER: u8 = 0;
    /// Questions at a door.
    pub const UDP: u8 = 1;
    /// Connections at a door.
    pub const TCP: u8 = 2;
    /// An answer to a question.
    pub const ANSWER: u8 = 3;
    /// An end of a connection.
    pub const CONNECTION: u8 = 4;
}

/// What an event bears: its topic, the door, and which of the door's questions or connections.
fn data(topic: u8, door: usize, place: usize) -> EventData {
    let [_, _, _, _, _, _, _, door] = door.to_be_bytes();
    let [_, _, _, _, a, b, c, d] = place.to_be_bytes();
    EventData::new_u64(u64::from_be_bytes([topic, 0, 0, door, a, b, c, d]))
}

/// A socket for one question at a time. For the next one the kernel chooses another port: late answers to the last one
/// are lost.
struct Question {
    /// Outside, connected to the resolver: nobody else's answer arrives here.
    outside: OwnedFd,
    /// Who asks.
    asker: SocketAddr,
    /// When it is given up; none once it is answered.
    until: Option<Instant>,
}

/// What occupies a place for a time.
trait Open {
    /// When it is given up; none where its place is free.
    fn until(&self) -> Option<Instant>;
}

impl Open for Question {
    fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Open for Connection {
    fn until(&self) -> Option<Instant> {
        Some(self.until)
    }
}

/// Places for what is open.
struct Places<T> {
    /// Those that have been needed so far.
    all: Vec<Option<T>>,
    /// How many there may be.
    limit: usize,
}

impl<T: Open> Places<T> {
    /// None taken.
    fn new(limit: usize) -> Self {
        Self {
            all: Vec::new(),
            limit,
        }
    }

    /// A place for something new, and what was in it: something that is over, nothing, or, if all places are taken,
    /// what would be given up first.
    fn free(&mut self) -> (usize, Option<T>) {
        let over = |place: &Option<T>| place.as_ref().is_some_and(|open| open.until().is_none());
        let free = self.all.iter().position(over);
        let free = free.or_else(|| self.all.iter().position(Option::is_none));
        let place = match free {
            Some(free) => free,
            None if self.all.len() < self.limit => {
                self.all.push(None);
                self.all.len() - 1
            }
            None => {
                let until = |(_, place): &(usize, &Option<T>)| place.as_ref().and_then(T::until);
                let first = self.all.iter().enumerate().min_by_key(until);
                first.map_or(0, |(place, _)| place)
            }
        };
        (place, self.all.get_mut(place).and_then(Option::take))
    }

    /// What is at a place.
    fn get(&mut self, place: usize) -> Option<&mut T> {
        self.all.get_mut(place)?.as_mut()
    }

    /// Puts something in a place, or takes it away.
    fn set(&mut self, place: usize, open: Option<T>) {
        if let Some(place) = self.all.get_mut(place) {
            *place = open;
        }
    }

    /// Gives up what has taken too long, and drops what is over; returns whether anything is left.
    fn sweep(&mut self, now: Instant) -> bool {
        for place in &mut self.all {
            let over = |open: &T| open.until().is_none_or(|until| until <= now);
            if place.as_ref().is_some_and(over) {
                *place = None;
            }
        }
        self.all.iter().any(Option::is_some)
    }
}

/// A door with all that came by it.
struct Service {
    /// The door.
    door: Door,
    /// Open questions.
    questions: Places<Question>,
    /// Open connections.
    connections: Places<Connection>,
    /// Whether no connections are accepted for the moment, since this machine has no descriptors left.
    closed: bool,
}

/// The relay.
pub struct Relay {
    /// Reports events.
    epoll: OwnedFd,
    /// What is served, each at the place that its events name.
    services: Vec<Option<Service>>,
    /// How many questions, and how many connections, of a door may be open.
    limits: (usize, usize),
    /// When to look for what has taken too long, if anything is open.
    sweep: Option<Instant>,
    /// For bytes in transit.
    buffer: Vec<u8>,
}

impl Relay {
    /// One without doors, for as many descriptors as the hard limit allows: see [`Relay::raise_limit`].
    pub fn new() -> Result<Self> {
        let files = sys::most_descriptors().unwrap_or(u64::MAX);
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let room = files.saturating_sub(REST) / DOORS;
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            services: Vec::new(),
            limits: (
                (room / 2).clamp(1, QUESTIONS),
                (room / 4).clamp(1, CONNECTIONS),
            ),
            sweep: None,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Raises the limit of descriptors of this process, which should be nothing but a relay, as far as it may.
    pub fn raise_limit() {
        let most = sys::most_descriptors();
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        if most.is_some() {
            setrlimit(Resource::Nofile, limit).ok();
        }
    }

    /// Makes [`Relay::turn`] report events of another descriptor, by this number.
    pub fn tell_of(&self, fd: impl AsFd, number: usize, flags: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, fd, data(topic::OTHER, 0, number), flags)
    }

    /// Its descriptors.
    pub fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        let doors = self.services.iter().flatten().map(|service| &service.door);
        [&self.epoll].into_iter().chain(doors.flat_map(Door::fds))
    }

    /// The resolvers that are served.
    pub fn resolvers(&self) -> impl Iterator<Item = IpAddr> {
        let services = self.services.iter().flatten();
        services.map(|service| service.door.resolver.ip())
    }

    /// Serves at a door.
    pub fn open(&mut self, door: Door) -> Result<()> {
        let number = self
            .services
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.services.push(None);
                self.services.len() - 1
            });
        epoll::add(
            &self.epoll,
            &door.udp,
            data(topic::UDP, number, 0),
            EventFlags::IN,
        )?;
        epoll::add(
            &self.epoll,
            &door.tcp,
            data(topic::TCP, number, 0),
            EventFlags::IN,
        )?;
        if let Some(place) = self.services.get_mut(number) {
            *place = Some(Service {
                door,
                questions: Places::new(self.limits.0),
                connections: Places::new(self.limits.1),
                closed: false,
            });
        }
        Ok(())
    }

    /// Closes all doors but those of these resolvers, and whatever came by them.
    pub fn keep(&mut self, resolvers: &[IpAddr]) {
        for place in &mut self.services {
            if place
                .as_ref()
                .is_some_and(|service| !resolvers.contains(&service.door.resolver.ip()))
            {
                *place = None;
            }
        }
    }

    /// Waits for something to do, until then at most, and does it. Returns the numbers of others that have events.
    pub fn turn(&mut self, until: Option<Instant>) -> Vec<usize> {
        let until = until.into_iter().chain(self.sweep).min();
        let limit = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
        let mut events: Vec<Event> = Vec::with_capacity(TURN);
        let room = rustix::buffer::spare_capacity(&mut events);
        // Interrupted: nothing to do.
        epoll::wait(&self.epoll, room, limit.as_ref()).ok();
        let mut others = Vec::new();
        for event in &events {
            let [topic, _, _, door, a, b, c, d] = event.data.u64().to_be_bytes();
            let place = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or_default();
            if topic == topic::OTHER {
                others.push(place);
                continue;
            }
            let number = usize::from(door);
            let Some(Some(service)) = self.services.get_mut(number) else {
                continue;
            };
            match topic {
                topic::UDP => service.ask(&self.epoll, number, &mut self.buffer),
                topic::TCP => service.accept(&self.epoll, number, &mut self.buffer),
                topic::ANSWER => service.answer(place, &mut self.buffer),
                _ => service.pump(&self.epoll, number, place, &mut self.buffer),
            }
            self.sweep.get_or_insert_with(|| Instant::now() + SWEEP);
        }
        self.sweep();
        others
    }

    /// Gives up what has taken too long, if it is time to look for that.
    fn sweep(&mut self) {
        let now = Instant::now();
        if self.sweep.is_none_or(|sweep| now < sweep) {
            return;
        }
        let mut open = false;
        for (number, service) in self.services.iter_mut().enumerate() {
            if let Some(service) = service {
                open |= service.questions.sweep(now);
                open |= service.connections.sweep(now);
                service.reopen(&self.epoll, number);
                open |= service.closed;
            }
        }
        self.sweep = open.then(|| now + SWEEP);
    }
}

impl Service {
    /// Takes questions from the door and passes them on.
    fn ask(&mut self, epoll: &OwnedFd, number: usize, buffer: &mut [u8]) {
        for _ in 0..TURN {
            let came = rustix::net::recvfrom(&self.door.udp, &mut *buffer, RecvFlags::DONTWAIT);
            let Ok((length, _, Some(asker))) = came else {
                return;
            };
            let question = buffer.get(..length).unwrap_or_default();
            let Ok(asker) = SocketAddr::try_from(asker) else {
                continue;
            };
            let (place, before) = self.questions.free();
            let data = data(topic::ANSWER, number, place);
            match self.pass_on(epoll, data, before.map(|before| before.outside), question) {
                Ok(outside) => {
                    let question = Question {
                        outside,
                        asker,
                        until: Some(Instant::now() + PATIENCE),
                    };
                    self.questions.set(place, Some(question));
                }
                Err(Errno::CONNREFUSED) => self.door.refuse(asker),
                // The asker will ask again.
                Err(_) => {}
            }
        }
    }

    /// Asks the resolver by a socket that has a port of its own for this: a new one, or one whose question is over.
    fn pass_on(
        &self,
        epoll: &OwnedFd,
        data: EventData,
        before: Option<OwnedFd>,
        question: &[u8],
    ) -> Result<OwnedFd> {
        let resolver = self.door.resolver;
        let outside = if let Some(before) = before {
            rustix::net::connect_unspec(&before)?;
            // What came in by its last port.
            while rustix::net::recv(&before, &mut [0], RecvFlags::DONTWAIT) != Err(Errno::AGAIN) {}
            before
        } else {
            let new = socket(resolver, SocketType::DGRAM)?;
            epoll::add(epoll, &new, data, EventFlags::IN)?;
            new
        };
        rustix::net::connect(&outside, &resolver)?;
        rustix::net::send(&outside, question, SendFlags::NOSIGNAL)?;
        Ok(outside)
    }

    /// Passes an answer on.
    fn answer(&mut self, place: usize, buffer: &mut [u8]) {
        let Some(question) = self.questions.get(place) else {
            return;
        };
        match rustix::net::recv(&question.outside, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Something that comes after the answer.
            _ if question.until.is_none() => {}
            Ok((length, _)) => {
                let answer = buffer.get(..length).unwrap_or_default();
                question.until = None;
                let asker = question.asker;
                rustix::net::sendto(&self.door.udp, answer, SendFlags::NOSIGNAL, &asker).ok();
            }
            Err(_) => {
                question.until = None;
                self.door.refuse(question.asker);
            }
        }
    }

    /// Accepts connections from the door and opens others to the resolver.
    fn accept(&mut self, epoll: &OwnedFd, number: usize, buffer: &mut [u8]) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..TURN {
            match rustix::net::accept_with(&self.door.tcp, flags) {
                Ok(asker) => {
                    let (place, _) = self.connections.free();
                    let connection = Connection::new(asker, self.door.resolver);
                    self.connections.set(place, connection.ok());
                    self.pump(epoll, number, place, buffer);
                }
                Err(Errno::MFILE | Errno::NFILE) => {
                    // A connection that waits would be reported again and again.
                    epoll::delete(epoll, &self.door.tcp).ok();
                    self.closed = true;
                    return;
                }
                Err(_) => return,
            }
        }
    }

    /// Accepts connections again.
    fn reopen(&mut self, epoll: &OwnedFd, number: usize) {
        if self.closed {
            let data = data(topic::TCP, number, 0);
            self.closed = epoll::add(epoll, &self.door.tcp, data, EventFlags::IN).is_err();
        }
    }

    /// Moves what can be moved of a connection.
    fn pump(&mut self, epoll: &OwnedFd, number: usize, place: usize, buffer: &mut [u8]) {
        let data = data(topic::CONNECTION, number, place);
        if let Some(connection) = self.connections.get(place)
            && !connection.pump(epoll, data, buffer)
        {
            self.connections.set(place, None);
        }
    }
}
