//! The relay of the resolvers, with real sockets: whatever is asked and answered, and in whatever order, an answer
//! reaches its asker only, once, from the door, and unchanged; and no connection gets a byte of another one.
//!
//! An input is a list of events of two bytes: the kind, and a parameter.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::jail::dns::door::Door;
use crate::jail::dns::relay::Relay;

/// A limit of descriptors that leaves the relay room for two questions and one connection.
const FILES: u64 = 64 + 8 * 5;
/// How many events of an input are used.
const EVENTS: usize = 128;

/// A question, and what became of it.
struct Asked {
    /// The asker.
    by: usize,
    /// The question.
    text: Vec<u8>,
    /// The address that the resolver got the question from.
    from: Option<SocketAddr>,
    /// The answers that the resolver gave.
    answers: Vec<Vec<u8>>,
    /// Whether the asker got an answer.
    answered: bool,
}

/// The relay and all its peers.
struct World {
    /// The relay.
    relay: Relay,
    /// The addresses of its door, for UDP and TCP.
    door: (SocketAddr, SocketAddr),
    /// The askers.
    askers: [UdpSocket; 3],
    /// The resolver, for UDP.
    resolver: UdpSocket,
    /// The resolver, for TCP.
    listener: TcpListener,
    /// A socket that forges answers.
    stranger: UdpSocket,
    /// The questions by their numbers, which are in the datagrams.
    asked: HashMap<u64, Asked>,
    /// Connections of askers: the stream, its index, and the bytes received.
    clients: Vec<(TcpStream, u8, Vec<u8>)>,
    /// The same for the connections that the resolver has accepted.
    served: Vec<(TcpStream, u8, Vec<u8>)>,
}

/// A non-blocking socket.
fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Runs an input.
pub fn dns(input: &[u8]) {
    let files = Some(FILES);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files,
            maximum: files,
        },
    )
    .ok();
    // The resolver has the same port for UDP and TCP.
    let (at, resolver, listener) = std::iter::repeat_with(udp)
        .find_map(|resolver| {
            let at = resolver.local_addr().unwrap();
            let listener = TcpListener::bind(at).ok()?;
            Some((at, resolver, listener))
        })
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let (door, tcp) = (udp(), TcpListener::bind("127.0.0.1:0").unwrap());
    tcp.set_nonblocking(true).unwrap();
    let mut world = World {
        relay: Relay::new().unwrap(),
        door: (door.local_addr().unwrap(), tcp.local_addr().unwrap()),
        askers: [udp(), udp(), udp()],
        resolver,
        listener,
        stranger: udp(),
        asked: HashMap::new(),
        clients: Vec::new(),
        served: Vec::new(),
    };
    let (udp, tcp, icmp) = (door.into(), tcp.into(), None);
    world
        .relay
        .open(Door {
            resolver: at,
            udp,
            tcp,
            icmp,
        })
        .unwrap();
    for (number, event) in input.chunks_exact(2).take(EVENTS).enumerate() {
        world.event(number as u64, event[0], event[1]);
    }
    // Lets everything that is on its way arrive.
    for n in 0..3 {
        world.turn();
        world.hear(n);
        world.listen();
    }
    let streams = world.clients.iter().chain(&world.served);
    for (stream, _, _) in streams {
        // Without TIME_WAIT, which lasts a minute.
        sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO)).ok();
    }
}

impl World {
    /// Lets the relay handle what is ready.
    fn turn(&mut self) {
        assert!(self.relay.turn(Some(Instant::now())).is_empty());
    }

    /// Makes one event happen.
    fn event(&mut self, number: u64, event: u8, n: u8) {
        let n = usize::from(n);
        match event % 12 {
            0 | 1 => self.ask(number, n),
            2 => self.listen(),
            3 => self.answer(n),
            4 => self.forge(n),
            5 => self.hear(n),
            6 if self.clients.len() < 3 => self.connect(),
            7 => self.accept(),
            8 => write(&mut self.clients, 0, n),
            9 => write(&mut self.served, 128, n),
            10 => self.read(),
            11 => end(&mut self.clients, &mut self.served, n),
            _ => {}
        }
        if n < 128 {
            self.turn();
        }
    }

    /// An asker sends a question.
    fn ask(&mut self, number: u64, n: usize) {
        let by = n % self.askers.len();
        let mut text = number.to_be_bytes().to_vec();
        text.resize(8 + n * 7, b'q');
        // A full queue drops it, as a network would.
        self.askers[by].send_to(&text, self.door.0).ok();
        let (from, answers, answered) = (None, Vec::new(), false);
        self.asked.insert(
            number,
            Asked {
                by,
                text,
                from,
                answers,
                answered,
            },
        );
    }

    /// The resolver reads, and asserts that each question comes once and unchanged.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = self.resolver.recv_from(&mut buffer) {
            let text = &buffer[..length];
            let asked = self
                .asked
                .get_mut(&number(text))
                .expect("somebody asked that");
            assert_eq!(asked.text, text);
            assert!(asked.from.replace(from).is_none(), "it was passed on twice");
        }
    }

    /// The resolver answers one of the questions that it got, perhaps again, perhaps too late.
    fn answer(&mut self, n: usize) {
        let Some((number, from)) = self.some(n) else {
            return;
        };
        let mut answer = number.to_be_bytes().to_vec();
        answer.resize(8 + n, b'a');
        self.resolver.send_to(&answer, from).ok();
        self.asked.get_mut(&number).unwrap().answers.push(answer);
    }

    /// Another socket sends a forged answer.
    fn forge(&mut self, n: usize) {
        if let Some((number, from)) = self.some(n) {
            let forged = [&number.to_be_bytes()[..], b"forged"].concat();
            self.stranger.send_to(&forged, from).ok();
            let asker = self.asked[&number].by;
            self.stranger.send_to(&forged, self.door.0).ok();
            // To the door, the forged datagram is a question of the stranger's own.
            let asked = self.asked.get_mut(&number).unwrap();
            assert_eq!(asked.by, asker);
            let mut buffer = [0; 64];
            self.turn();
            while let Ok((length, from)) = self.resolver.recv_from(&mut buffer) {
                if !buffer[..length].ends_with(b"forged") {
                    let asked = self.asked.get_mut(&self::number(&buffer)).unwrap();
                    asked.from.get_or_insert(from);
                }
            }
        }
    }

    /// One of the questions that have reached the resolver.
    fn some(&self, n: usize) -> Option<(u64, SocketAddr)> {
        let mut come: Vec<_> = self
            .asked
            .iter()
            .filter_map(|(number, asked)| Some((*number, asked.from?)))
            .collect();
        come.sort_unstable_by_key(|(number, _)| *number);
        come.get(n % come.len().max(1)).copied()
    }

    /// An asker reads, and checks its answers.
    fn hear(&mut self, n: usize) {
        // So that it is known from which port each question was passed on.
        self.listen();
        let by = n % self.askers.len();
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = self.askers[by].recv_from(&mut buffer) {
            let text = &buffer[..length];
            assert_eq!(from, self.door.0, "an answer from elsewhere");
            // Once in some ten thousand times the kernel gives the port of a past question to another one, and a late
            // answer reaches the latter's asker, which would recognize it by its ID.
            let at = self.asked.get(&number(text)).and_then(|asked| asked.from);
            let same = self.asked.values().filter(|other| other.from == at);
            if same.count() > 1 {
                continue;
            }
            let asked = self
                .asked
                .get_mut(&number(text))
                .expect("an answer to nothing");
            assert_eq!(asked.by, by, "somebody else's answer");
            assert!(
                asked.answers.iter().any(|answer| answer == text),
                "another answer"
            );
            assert!(
                !std::mem::replace(&mut asked.answered, true),
                "a second answer"
            );
        }
    }

    /// An asker connects to the door.
    fn connect(&mut self) {
        if let Ok(stream) = TcpStream::connect(self.door.1) {
            stream.set_nonblocking(true).unwrap();
            let client = (stream, self.clients.len() as u8, Vec::new());
            self.clients.push(client);
        }
    }

    /// The resolver accepts connections.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let server = (stream, self.served.len() as u8, Vec::new());
            self.served.push(server);
        }
    }

    /// Both sides read, and each must have bytes of one peer only.
    fn read(&mut self) {
        for (stream, _, got) in self.clients.iter_mut().chain(&mut self.served) {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(length) => got.extend(&buffer[..length]),
                Err(error) => assert_ne!(error.kind(), ErrorKind::InvalidInput),
            }
            assert!(
                got.iter().all(|byte| *byte == got[0]),
                "bytes of two connections"
            );
        }
        // A client and the connection that it has bytes of must be each other's peers.
        for (_, me, got) in &self.clients {
            if let Some(byte) = got.first() {
                let (_, _, theirs) = &self.served[usize::from(byte - 128)];
                assert!(
                    theirs.first().is_none_or(|byte| byte == me),
                    "another's connection"
                );
            }
        }
    }
}

/// The number in a datagram.
fn number(text: &[u8]) -> u64 {
    u64::from_be_bytes(text[..8].try_into().unwrap())
}

/// Writes to a connection of one side.
fn write(side: &mut [(TcpStream, u8, Vec<u8>)], base: u8, n: usize) {
    let count = side.len().max(1);
    if let Some((stream, me, _)) = side.get_mut(n % count) {
        stream.write(&vec![base + *me; 1 + n * 16]).ok();
    }
}

/// Shuts down a connection of one side, or half of it.
fn end(
    clients: &mut [(TcpStream, u8, Vec<u8>)],
    served: &mut [(TcpStream, u8, Vec<u8>)],
    n: usize,
) {
    let side = if n & 1 == 0 { clients } else { served };
    let how = if n & 2 == 0 {
        Shutdown::Write
    } else {
        Shutdown::Both
    };
    let count = side.len().max(1);
    if let Some((stream, _, _)) = side.get((n >> 2) % count) {
        stream.shutdown(how).ok();
    }
}
