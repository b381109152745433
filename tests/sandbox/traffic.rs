//! Real traffic: clients, servers and packet counters, each in a network namespace of the test's choice.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{json, sh};

/// The machine's own network namespace.
pub const HERE: &str = "/proc/self/ns/net";

/// That of the default jail.
pub const JAIL: &str = "/run/netns/USER";

/// What is beyond the uplink.
pub const UPSTREAM: &str = "/var/upstream";

/// The protocol to ask by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// Both.
pub const ALL: [By; 2] = [By::Tcp, By::Udp];

/// How long to wait for an answer that is expected.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait where none is expected: a packet arrives at once, or not at all.
const HASTE: Duration = Duration::from_millis(300);

/// Puts the calling thread into a network namespace.
fn move_into(namespace: &str) {
    let file = std::fs::File::open(namespace).unwrap_or_else(|why| panic!("{namespace}: {why}"));
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Does something in a network namespace.
pub fn within<T: Send>(namespace: &str, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            move_into(namespace);
            body()
        });
        there.join().unwrap()
    })
}

/// Starts a server that tells each client, by TCP or UDP, the address that it came from.
pub fn serve(namespace: &str, at: &str) {
    let (tcp, udp) = within(namespace, || {
        (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap())
    });
    std::thread::spawn(move || {
        while let Ok((mut asker, address)) = tcp.accept() {
            write!(asker, "{}", address.ip()).ok();
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, asker)) = udp.recv_from(&mut [0; 9]) {
            udp.send_to(asker.ip().to_string().as_bytes(), asker).ok();
        }
    });
}

/// Asks from a source address (`0.0.0.0` for any); returns the answer, if there is one.
fn ask_from(by: By, namespace: &str, source: &str, to: &str, patience: Duration) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    within(namespace, || match by {
        By::Tcp => {
            let mut answer = String::new();
            let mut socket = if source == ANY {
                TcpStream::connect_timeout(&to, patience).ok()?
            } else {
                connect_from(source, &to, patience)?
            };
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.read_to_string(&mut answer).ok()?;
            Some(answer)
        }
        By::Udp => {
            let source = match source {
                ANY if to.is_ipv6() => "::",
                source => source,
            };
            let socket = UdpSocket::bind((source, 0)).unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.connect(to).ok()?;
            socket.send(b"who am I?").ok()?;
            let mut answer = [0; 99];
            let length = socket.recv(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..length]).into_owned())
        }
    })
}

/// Any source address.
const ANY: &str = "0.0.0.0";

/// A connection from a source address, which the standard library cannot choose.
fn connect_from(source: &str, to: &SocketAddr, patience: Duration) -> Option<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    let source: std::net::IpAddr = source.parse().unwrap();
    let family = if source.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience)).unwrap();
    bind(&socket, &SocketAddr::new(source, 0)).unwrap();
    connect(&socket, to).ok()?;
    Some(socket.into())
}

/// The source address by which the server sees a client.
#[track_caller]
pub fn ask(by: By, namespace: &str, to: &str) -> String {
    ask_from(by, namespace, ANY, to, PATIENCE)
        .unwrap_or_else(|| panic!("{by:?} from {namespace}: no answer from {to}"))
}

/// Asserts that there is no answer.
#[track_caller]
pub fn ask_in_vain(by: By, namespace: &str, to: &str) {
    ask_in_vain_from(by, namespace, ANY, to);
}

/// The same from an address.
#[track_caller]
pub fn ask_in_vain_from(by: By, namespace: &str, source: &str, to: &str) {
    let answer = ask_from(by, namespace, source, to, HASTE);
    assert_eq!(
        answer, None,
        "{by:?} from {namespace}, {source}: {to} answers"
    );
}

/// Starts a TCP server that reads to the end, then sends all of it back.
pub fn give_back(namespace: &str, at: &str) {
    let listener = within(namespace, || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut taken = Vec::new();
                stream.read_to_end(&mut taken).ok();
                stream.write_all(&taken).ok();
            });
        }
    });
}

/// Sends this many bytes to such a server; returns how many came back.
#[track_caller]
pub fn send(namespace: &str, to: &str, bytes: usize) -> usize {
    within(namespace, || {
        let mut stream = TcpStream::connect_timeout(&to.parse().unwrap(), PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&vec![7; bytes]).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).ok();
        back.len()
    })
}

/// Starts to count the packets at a hook (`prerouting`, ...) of a network namespace that match an expression of nft's,
/// before any other chain sees them.
pub fn watch(namespace: &str, hook: &str, packets: &str) {
    watch_of("ip", namespace, hook, packets);
}

/// The same for packets of IPv6.
pub fn watch6(namespace: &str, hook: &str, packets: &str) {
    watch_of("ip6", namespace, hook, packets);
}

/// The same for packets of a family.
fn watch_of(family: &str, namespace: &str, hook: &str, packets: &str) {
    sh(&format!(
        "nsenter --net={namespace} nft -f - <<'NFT'
        table {family} watch {{
            chain {hook} {{ type filter hook {hook} priority -500; {packets} counter; }}
        }}
NFT"
    ));
}

/// How many were counted.
pub fn seen(namespace: &str) -> u64 {
    seen_of("ip", namespace)
}

/// The same for packets of IPv6; ends the counting.
pub fn seen6(namespace: &str) -> u64 {
    let count = seen_of("ip6", namespace);
    sh(&format!(
        "nsenter --net={namespace} nft delete table ip6 watch"
    ));
    count
}

/// The same for packets of a family.
fn seen_of(family: &str, namespace: &str) -> u64 {
    let rules = json(&format!(
        "nsenter --net={namespace} nft -j list table {family} watch"
    ));
    let rules = rules["nftables"].as_array().unwrap().iter();
    let exprs = rules.filter_map(|object| object["rule"]["expr"].as_array());
    let count = |expr: &serde_json::Value| expr["counter"]["packets"].as_u64();
    exprs.flatten().filter_map(count).sum()
}
