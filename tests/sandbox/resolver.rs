//! A DNS server and client (RFC 1035), as far as the tests need them.
//!
//! Every name has one address, derived from the name ([`address_of`]), so a wrong answer is noticed; a name that begins
//! with `six.` has only one of IPv6. The text of `sizeN.test` is N bytes long. By UDP an answer that is larger than the
//! client accepts is truncated.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The types of the records A, AAAA, TXT, and of OPT, which says how much a client accepts (RFC 6891).
const A: u16 = 1;
const AAAA: u16 = 28;
const TXT: u16 = 16;
const OPT: u16 = 41;

/// The address of a name.
pub fn address_of(name: &str) -> Ipv4Addr {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    });
    let [_, b, c, d] = hash.to_be_bytes();
    Ipv4Addr::new(10, b, c, d)
}

/// The IPv6 address of a name that begins with `six.`, which has no other.
pub fn address6_of(name: &str) -> Ipv6Addr {
    let [_, b, c, d] = address_of(name).octets().map(u16::from);
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, b, c, d)
}

/// A resolver; dropped, it is gone as if it had been killed.
pub struct Resolver {
    /// Tells it to stop.
    stop: Arc<AtomicBool>,
    /// Its server threads.
    threads: Vec<JoinHandle<()>>,
    /// How many questions came by TCP.
    pub by_tcp: Arc<AtomicUsize>,
}

/// Moves this thread into the network that a path names.
pub fn enter_network(path: &str) {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let network = std::fs::File::open(path).unwrap();
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), kind).unwrap();
}

impl Resolver {
    /// Serves on an address, with its port.
    pub fn start(address: &str) -> Self {
        Self::start_in("/proc/self/ns/net", address)
    }

    /// The same in another network.
    pub fn start_in(network: &str, address: &str) -> Self {
        let (network, address) = (network.to_owned(), address.to_owned());
        let sockets = std::thread::spawn(move || {
            enter_network(&network);
            (
                UdpSocket::bind(&address).unwrap(),
                TcpListener::bind(&address).unwrap(),
            )
        });
        let (udp, tcp) = sockets.join().unwrap();
        // Often enough to see in time that it is to stop.
        let tick = Duration::from_millis(20);
        udp.set_read_timeout(Some(tick)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let by_tcp: Arc<AtomicUsize> = Arc::default();
        let stopped = Arc::clone(&stop);
        let datagrams = std::thread::spawn(move || {
            let mut question = vec![0; 65_535];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, asker)) = udp.recv_from(&mut question) {
                    udp.send_to(&answer(&question[..length], true), asker).ok();
                }
            }
        });
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&by_tcp));
        let connections = std::thread::spawn(move || {
            let mut all: Vec<JoinHandle<()>> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((connection, _)) => {
                        let (stopped, count) = (Arc::clone(&stopped), Arc::clone(&count));
                        all.push(std::thread::spawn(move || {
                            serve(connection, &stopped, &count);
                        }));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            drop(tcp);
            for thread in all {
                thread.join().unwrap();
            }
        });
        Self {
            stop,
            threads: vec![datagrams, connections],
            by_tcp,
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
    }
}

/// Answers the questions of a connection one after the other, until the client has no more.
pub fn serve(mut connection: TcpStream, stop: &AtomicBool, count: &AtomicUsize) {
    connection.set_nonblocking(false).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut came = Vec::new();
    let mut some = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match connection.read(&mut some) {
            Ok(0) => break,
            Ok(length) => came.extend(&some[..length]),
            Err(_) => continue,
        }
        while let Some(question) = message(&mut came) {
            count.fetch_add(1, Ordering::Relaxed);
            if connection
                .write_all(&framed(&answer(&question, false)))
                .is_err()
            {
                return;
            }
        }
    }
}

/// A message as TCP carries it: with its length before it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], message].concat()
}

/// Takes the first whole message out of what a connection has received.
fn message(came: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(word(came, 0)?);
    (came.len() >= 2 + length).then(|| came.drain(..2 + length).skip(2).collect())
}

/// Two bytes of a message.
fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        message.get(at..at + 2)?.try_into().unwrap(),
    ))
}

/// The name that a question is about, and where it ends.
fn name_of(message: &[u8]) -> (String, usize) {
    let (mut name, mut at) = (String::new(), 12);
    while message[at] != 0 {
        let label = &message[at + 1..=at + usize::from(message[at])];
        name = format!("{name}{}.", String::from_utf8_lossy(label));
        at += 1 + label.len();
    }
    (name.trim_end_matches('.').to_owned(), at + 1)
}

/// The answer to a question.
fn answer(question: &[u8], by_udp: bool) -> Vec<u8> {
    let (name, end) = name_of(question);
    let kind = word(question, end).unwrap();
    let asked = &question[..end + 4];
    // What follows a question is the OPT record, whose class is the size.
    let takes = match word(question, end + 5) {
        Some(OPT) => word(question, end + 7).unwrap().max(512),
        _ => 512,
    };
    let data: Vec<u8> = match kind {
        A if !name.starts_with("six.") => address_of(&name).octets().to_vec(),
        AAAA if name.starts_with("six.") => address6_of(&name).octets().to_vec(),
        TXT => {
            let size: usize = name
                .trim_start_matches("size")
                .split('.')
                .next()
                .unwrap()
                .parse()
                .unwrap_or(1);
            let text = vec![b'x'; size];
            text.chunks(255)
                .flat_map(|part| [&[u8::try_from(part.len()).unwrap()], part].concat())
                .collect()
        }
        _ => Vec::new(),
    };
    let mut message = asked.to_vec();
    message[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(!data.is_empty()), 0, 0, 0, 0]);
    if !data.is_empty() {
        let length = u16::try_from(data.len()).unwrap();
        message.extend([0xc0, 12]);
        message.extend(
            [
                kind.to_be_bytes(),
                [0, 1],
                [0, 0],
                [0, 60],
                length.to_be_bytes(),
            ]
            .concat(),
        );
        message.extend(data);
    }
    if by_udp && message.len() > usize::from(takes) {
        message.truncate(asked.len());
        message[2] |= 2;
        message[7] = 0;
    }
    message
}

/// A question for the address of a name.
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = [id.to_be_bytes(), [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Asserts that a message is the answer to [`question`].
#[track_caller]
pub fn check(message: &[u8], id: u16, name: &str) {
    assert_eq!(
        (word(message, 0), name_of(message).0.as_str()),
        (Some(id), name),
        "somebody else's answer"
    );
    assert_eq!(
        message[message.len() - 4..],
        address_of(name).octets(),
        "{name}"
    );
}

/// Asks for many names in another network, by UDP, this many at a time, each by a socket of its own. Returns how many
/// attempts got no answer; in the end every question has got the right one.
pub fn ask_many(network: &str, resolver: &str, count: usize, at_a_time: usize) -> usize {
    let resolver: SocketAddr = resolver.parse().unwrap();
    let askers: Vec<JoinHandle<usize>> = (0..at_a_time)
        .map(|asker| {
            let network = network.to_owned();
            std::thread::spawn(move || {
                enter_network(&network);
                let names = (asker..count).step_by(at_a_time);
                names
                    .map(|n| {
                        ask(
                            resolver,
                            &format!("host{n}.test"),
                            u16::try_from(n % 0xffff).unwrap(),
                        )
                    })
                    .sum()
            })
        })
        .collect();
    askers.into_iter().map(|asker| asker.join().unwrap()).sum()
}

/// Asks until there is an answer, and checks it; returns how many attempts had none.
fn ask(resolver: SocketAddr, name: &str, id: u16) -> usize {
    for attempt in 0..200 {
        let socket = UdpSocket::bind(if resolver.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        })
        .unwrap();
        socket.connect(resolver).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut message = [0; 512];
        if socket.send(&question(id, name)).is_err() {
            continue;
        }
        match socket.recv(&mut message) {
            Ok(length) => {
                check(&message[..length], id, name);
                return attempt;
            }
            // Refused: there is no resolver at the moment.
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(_) => {}
        }
    }
    panic!("no answer for {name}");
}

/// Asks for several names by one connection, all questions at once, and closes our side of it; checks the answers.
pub fn ask_in_a_row(resolver: &str, names: &[String]) {
    let mut connection = TcpStream::connect(resolver).unwrap();
    let questions = names
        .iter()
        .zip(0..)
        .map(|(name, id)| framed(&question(id, name)));
    connection
        .write_all(&questions.collect::<Vec<_>>().concat())
        .unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut came = Vec::new();
    connection.read_to_end(&mut came).unwrap();
    for (name, id) in names.iter().zip(0..) {
        check(&message(&mut came).unwrap(), id, name);
    }
    assert!(came.is_empty(), "more than was asked for");
}
