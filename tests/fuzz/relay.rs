//! The relay of the resolvers, with real sockets: whatever is asked and answered, and in whatever order, an answer comes
//! to whom it is for, once, from the door, and as it was; and no connection has a byte of another one's.
//!
//! An input is what happens, two bytes for each event: which, and with what.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::jail::dns::door::Door;
use crate::jail::dns::relay::Relay;

/// As many descriptors as lead to places for two questions and one connection.
const FILES: u64 = 64 + 8 * 5;
/// How many events there are at most.
const EVENTS: usize = 128;

/// A question's number, by which its answer is known, and what came of it.
struct Asked {
    /// The asker.
    by: usize,
    /// The question.
    text: Vec<u8>,
    /// Where the resolver was asked from.
    from: Option<SocketAddr>,
    /// The answers that the resolver gave.
    answers: Vec<Vec<u8>>,
    /// Whether the asker got one.
    answered: bool,
}

/// All that there is.
struct World {
    /// The relay.
    relay: Relay,
    /// Its door.
    door: (SocketAddr, SocketAddr),
    /// Who asks.
    askers: [UdpSocket; 3],
    /// Who is asked,
    resolver: UdpSocket,
    /// and connected to.
    listener: TcpListener,
    /// Somebody else.
    stranger: UdpSocket,
    /// The questions.
    asked: HashMap<u64, Asked>,
    /// Connections of askers: the stream, what was sent, and what was got.
    clients: Vec<(TcpStream, u8, Vec<u8>)>,
    /// Connections that the resolver has.
    served: Vec<(TcpStream, u8, Vec<u8>)>,
}

/// A socket that does not wait.
fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What happens.
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
    // The resolver has one address for both.
    let resolver = udp();
    let at = resolver.local_addr().unwrap();
    let Ok(listener) = TcpListener::bind(at) else {
        return;
    };
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
    // Everything that is on the way arrives.
    for n in 0..3 {
        world.turn();
        world.hear(n);
        world.listen();
    }
    let streams = world.clients.iter().chain(&world.served);
    for (stream, _, _) in streams {
        // Without the minute that the kernel would wait.
        sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO)).ok();
    }
}

impl World {
    /// Lets the relay do what there is to do.
    fn turn(&mut self) {
        assert!(self.relay.turn(Some(Instant::now())).is_empty());
    }

    /// One event.
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

    /// A question.
    fn ask(&mut self, number: u64, n: usize) {
        let by = n % self.askers.len();
        let mut text = number.to_be_bytes().to_vec();
        text.resize(8 + n * 7, b'q');
        // A full queue drops it, as a network does.
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

    /// The resolver reads: each question once, as it was asked.
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

    /// The resolver answers one of what it was asked, perhaps again, perhaps too late.
    fn answer(&mut self, n: usize) {
        let Some((number, from)) = self.some(n) else {
            return;
        };
        let mut answer = number.to_be_bytes().to_vec();
        answer.resize(8 + n, b'a');
        self.resolver.send_to(&answer, from).ok();
        self.asked.get_mut(&number).unwrap().answers.push(answer);
    }

    /// Somebody else answers.
    fn forge(&mut self, n: usize) {
        if let Some((number, from)) = self.some(n) {
            let forged = [&number.to_be_bytes()[..], b"forged"].concat();
            self.stranger.send_to(&forged, from).ok();
            let asker = self.asked[&number].by;
            self.stranger.send_to(&forged, self.door.0).ok();
            // That was a question of the stranger's own, and no answer to anybody.
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

    /// A question that has come to the resolver.
    fn some(&self, n: usize) -> Option<(u64, SocketAddr)> {
        let mut come: Vec<_> = self
            .asked
            .iter()
            .filter_map(|(number, asked)| Some((*number, asked.from?)))
            .collect();
        come.sort_unstable_by_key(|(number, _)| *number);
        come.get(n % come.len().max(1)).copied()
    }

    /// An asker reads.
    fn hear(&mut self, n: usize) {
        // From where each was asked has to be known.
        self.listen();
        let by = n % self.askers.len();
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = self.askers[by].recv_from(&mut buffer) {
            let text = &buffer[..length];
            assert_eq!(from, self.door.0, "an answer from elsewhere");
            // Once in some ten thousand times the kernel chooses the port of a question that is over for another one, and a
            // late answer comes to that one's asker, who knows by its id that it is none.
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

    /// A connection to the door.
    fn connect(&mut self) {
        if let Ok(stream) = TcpStream::connect(self.door.1) {
            stream.set_nonblocking(true).unwrap();
            let client = (stream, self.clients.len() as u8, Vec::new());
            self.clients.push(client);
        }
    }

    /// The resolver takes it.
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            let server = (stream, self.served.len() as u8, Vec::new());
            self.served.push(server);
        }
    }

    /// Both sides read: each has bytes of one other only.
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
        // Who has a client's bytes is the one whose bytes that client has.
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

/// Writes into a connection of one side.
fn write(side: &mut [(TcpStream, u8, Vec<u8>)], base: u8, n: usize) {
    let count = side.len().max(1);
    if let Some((stream, me, _)) = side.get_mut(n % count) {
        stream.write(&vec![base + *me; 1 + n * 16]).ok();
    }
}

/// Ends a connection of one side, or the half of it.
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
