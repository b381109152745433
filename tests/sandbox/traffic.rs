//! Traffic that is really sent: who asks, who answers, and who looks on, each in a network namespace of his choice.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{json, sh};

/// The machine's own network namespace.
pub const HERE: &str = "/proc/self/ns/net";

/// That of the jail that nobody named.
pub const JAIL: &str = "/run/netns/USER";

/// What is beyond the uplink.
pub const UPSTREAM: &str = "/var/upstream";

/// What is asked by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// Both.
pub const ALL: [By; 2] = [By::Tcp, By::Udp];

/// How long somebody waits who hopes for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody waits who does not. What he sends is on its way at once, or not at all.
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

/// From now on tells everybody who asks at a port, by TCP or UDP, under which address he came.
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

/// Asks from an address (`0.0.0.0` for whichever it is); what is answered, if anything is.
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

/// Whichever address.
const ANY: &str = "0.0.0.0";

/// A connection from an address, which the standard library does not choose.
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

/// Under which address somebody is seen who asks.
#[track_caller]
pub fn ask(by: By, namespace: &str, to: &str) -> String {
    ask_from(by, namespace, ANY, to, PATIENCE)
        .unwrap_or_else(|| panic!("{by:?} from {namespace}: no answer from {to}"))
}

/// Asks, and sees that nobody answers.
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

/// From now on takes what is sent by TCP, to its end, and sends as much back.
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

/// Sends so many bytes to somebody who gives them back; how many came back.
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

/// From now on counts the packets that come to a hook (`prerouting`, ...) of a network namespace, before anybody else
/// sees them, if nft's words say so.
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

/// How many there were.
pub fn seen(namespace: &str) -> u64 {
    seen_of("ip", namespace)
}

/// The same for packets of IPv6; nobody looks on any more.
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
