//! The kernel's answers: of rtnetlink and nf_tables, and the filter table of iptables-legacy.
//!
//! An input is datagrams, each after its length in two bytes (little-endian). A thread in the kernel's place answers a
//! request with the next of them, up to an empty one, and then with an acknowledgement, as the kernel always does in
//! the end. A message with the sequence number 0 gets that of the request.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::iptables;
use crate::nl::message::{Attrs, Messages};
use crate::nl::nft::foreign::{self, Accept, Place};
use crate::nl::nft::{self, Table};
use crate::nl::route::{self, addresses, routes};
use crate::nl::{Socket, conntrack, link, nsid};

/// How many requests an input may lead to: more than its bytes can ask for.
const REQUESTS: usize = 4096;

/// The thread: it has one end of a pair of sockets, and gets the answers of each input.
struct Kernel {
    /// Our end.
    socket: OwnedFd,
    /// Gives it the answers of an input.
    answers: Sender<Vec<Vec<u8>>>,
    /// Receives how many requests it has answered, once the input is over.
    requests: Receiver<usize>,
}

/// The only such thread: only one thread asks.
static KERNEL: LazyLock<Mutex<Kernel>> = LazyLock::new(|| Mutex::new(start()));

/// Starts it.
fn start() -> Kernel {
    let flags = SocketFlags::CLOEXEC;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (socket, theirs) = pair.unwrap();
    let (answers, given) = channel::<Vec<Vec<u8>>>();
    let (tell, requests) = channel();
    std::thread::spawn(move || serve(&theirs, &given, &tell));
    Kernel {
        socket,
        answers,
        requests,
    }
}

/// Answers requests. One of a single byte ends an input.
fn serve(socket: &OwnedFd, given: &Receiver<Vec<Vec<u8>>>, tell: &Sender<usize>) {
    let mut request = vec![0; 64 * 1024];
    while let Ok(answers) = given.recv() {
        let mut answers = answers.into_iter();
        let mut count = 0;
        loop {
            let (length, _) = rustix::net::recv(socket, &mut *request, RecvFlags::empty()).unwrap();
            if length == 1 {
                break;
            }
            count += 1;
            assert!(count < REQUESTS, "it asks without end");
            let sequence: [u8; 4] = request[8..12].try_into().unwrap();
            let send = |bytes: &[u8]| rustix::net::send(socket, bytes, SendFlags::NOSIGNAL);
            for answer in answers.by_ref().take_while(|answer| !answer.is_empty()) {
                send(&under(answer, sequence)).unwrap();
            }
            // NLMSG_ERROR without an error.
            let header = [&20_u32.to_ne_bytes()[..], &[2, 0, 0, 0], &sequence, &[0; 8]];
            send(&header.concat()).unwrap();
        }
        tell.send(count).unwrap();
    }
}

/// A datagram, with the request's sequence number in messages that have none.
fn under(mut bytes: Vec<u8>, sequence: [u8; 4]) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 12) {
        let length = u32::from_ne_bytes(header[..4].try_into().unwrap());
        if header[8..] == [0; 4] {
            header[8..].copy_from_slice(&sequence);
        }
        at += usize::try_from(length.max(4)).unwrap().next_multiple_of(4);
    }
    bytes
}

/// The datagrams of an input, after [`bounded`] has checked each.
fn datagrams(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let [a, b, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*a, *b])).min(rest.len());
        let (datagram, rest) = rest.split_at(length);
        bounded(datagram);
        all.push(datagram.to_vec());
        input = rest;
    }
    all
}

/// Asserts that reading messages ends, and reads nothing twice.
fn bounded(bytes: &[u8]) {
    let messages: Vec<_> = Messages(bytes).collect();
    assert!(messages.len() <= bytes.len() / 16);
    let bodies: usize = messages.iter().map(|message| message.body.len()).sum();
    assert!(bodies + 16 * messages.len() <= bytes.len());
    for message in messages {
        nest(message.body, 8);
    }
}

/// The same for attributes, each also read as if it were nested.
fn nest(bytes: &[u8], depth: usize) {
    let attributes: Vec<_> = Attrs(bytes).collect();
    let payloads: usize = attributes.iter().map(|(_, payload)| payload.len()).sum();
    assert!(payloads + 4 * attributes.len() <= bytes.len());
    if depth > 0 {
        attributes
            .iter()
            .for_each(|(_, payload)| nest(payload, depth - 1));
    }
}

/// Asks something of a kernel with these answers.
fn ask(answers: &[Vec<u8>], question: impl FnOnce(&mut Socket)) {
    let kernel = KERNEL.lock().unwrap();
    kernel.answers.send(answers.to_vec()).unwrap();
    let mut socket = Socket::over(kernel.socket.try_clone().unwrap());
    question(&mut socket);
    rustix::net::send(&kernel.socket, &[0], SendFlags::empty()).unwrap();
    kernel.requests.recv().unwrap();
    // Discards answers that were not read.
    while rustix::net::recv(&kernel.socket, &mut [0], RecvFlags::DONTWAIT).is_ok() {}
}

/// Links, addresses, routes and nsids.
pub fn netlink(input: &[u8]) {
    let answers = datagrams(input);
    let bytes = input.len();
    ask(&answers, |socket| {
        if let Ok(links) = link::links(socket) {
            assert!(links.len() <= bytes / 16);
        }
        link::link(socket, "kak-USER").ok();
        for family in [route::Family::Ipv4, route::Family::Ipv6] {
            addresses(socket, family).ok();
            routes(socket, family).ok();
        }
    });
    ask(&answers, |socket| {
        if let Ok(found) = nsid::find(socket, 7, None) {
            assert!(found.target.is_none_or(|number| number >= 0));
        }
        if let Ok(all) = nsid::all(socket, None) {
            assert!(
                all.iter()
                    .all(|found| found.target.is_none_or(|number| number >= 0))
            );
        }
        link::set_up(socket, 1).ok();
    });
}

/// Tables, chains and rules, ours and others', and connections.
pub fn nft(input: &[u8]) {
    let answers = datagrams(input);
    ask(&answers, |socket| {
        foreign::dropping(socket).ok();
        foreign::commented(socket).ok();
    });
    let place = Place {
        family: nft::Family::Inet,
        table: "filter".into(),
        chain: "FORWARD".into(),
    };
    let (link, mark) = ("kak-USER", "kak:USER");
    ask(&answers, |socket| {
        let place = &place;
        Accept { place, link, mark }.observe(socket).ok();
        let rules = vec![vec![nft::expr::Expr::Masquerade]];
        let chains = vec![nft::Chain {
            name: "postrouting",
            hook: nft::Hook::Postrouting,
            rules,
        }];
        let (family, name) = (nft::Family::Ipv4, "kak-USER");
        Table {
            family,
            name,
            mark,
            chains,
        }
        .observe(socket)
        .ok();
    });
    ask(&answers, |socket| {
        let any = |_: IpAddr| true;
        conntrack::forget_datagrams(socket, nft::Family::Ipv4, 53, any).ok();
    });
}

/// The filter table of iptables: `struct ipt_getinfo`, then `struct ipt_get_entries`.
pub fn iptables(input: &[u8]) {
    let (info, entries) = input.split_at(input.len().min(iptables::INFO));
    iptables::size(info);
    for link in ["kak-USER", "", "a-name-that-is-as-long-as-can-be"] {
        iptables::drops(info, entries, link);
    }
}
