//! A published port from the host to a jail: into the container by Docker's `-p`, into the jail by kak's `--publish`.
//!
//! ```text
//!   host                      container                        jail in it
//!   +---------------------+   +----------------------------+   +-------------------------+
//!   | 127.0.0.1:N --------|---|--> eth0:8080 --------------|---|--> eth0 10.0.0.2:8080   |
//!   +---------------------+   |    127.0.0.1:8080 ---------|---|-->  "who are you?"      |
//!   another container --------|--> eth0:8080 --------------|---|-->                      |
//!                             +----------------------------+   +-------------------------+
//! ```

use std::io::Read as _;
use std::net::TcpStream;

use crate::rig::*;

/// A Perl server on port 8080 that answers each connection with the client's address; it makes /tmp/ready once it
/// listens.
const SERVER: &str = "use IO::Socket::INET; \
    $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die; open F, '>/tmp/ready'; close F; \
    while ($c = $s->accept) { print $c $c->peerhost; close $c }";

/// A container with these rights: Docker publishes its port 8080, and kak forwards that to a server in the jail.
fn published(rights: &[&str]) -> Container {
    let args = [&["-d", "-p", "127.0.0.1::8080"], rights].concat();
    let container = Container::run(&args, image(), &["--publish", "8080"]);
    container.wait_up();
    docker(&[
        "exec",
        "-d",
        &container.0,
        "/bin/nssh",
        "-c",
        &format!("exec perl -e \"{}\"", SERVER.replace('$', "\\$")),
    ])
    .code(0);
    until("the server listens", 10, || {
        container
            .exec(&["/bin/nssh", "-c", "test -e /tmp/ready"])
            .status
            .success()
    });
    container
}

/// Asks the server from the host, through the port that Docker published.
fn ask_from_host(container: &Container) -> String {
    let at = docker(&["port", &container.0, "8080"]).code(0).stdout;
    let mut answer = String::new();
    TcpStream::connect(at.lines().next().unwrap())
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    answer
}

/// Asks the server from the host, the container, the jail and another container; asserts which address it sees.
fn everywhere(container: &Container) {
    let ask = |address: &str| format!("cat </dev/tcp/{address}/8080");
    let address = container.address();
    // The address that the host is seen by depends on how Docker publishes the port.
    let seen = ask_from_host(container);
    assert!(seen.starts_with("172.") || seen == "10.0.0.1", "{seen}");
    assert_eq!(container.outside(&ask("127.0.0.1")), "10.0.0.1");
    assert_eq!(container.outside(&ask(&address)), address);
    assert_eq!(container.inside(&ask(&address)), "10.0.0.1");
    let other = Container::bare();
    assert_eq!(other.outside(&ask(&address)), other.address());
}

#[test]
fn a_port_of_dockers_leads_to_a_server_in_the_jail() {
    let container = published(&["--privileged"]);
    everywhere(&container);
    // The same options hold after a restart.
    docker(&["restart", "-t", "5", &container.0]).code(0);
    container.wait_up();
    let rules = container.exec(&["/bin/kak", "status"]).code(0).stdout;
    assert!(rules.contains("route_localnet"), "{rules}");
}

#[test]
fn two_capabilities_are_enough_to_publish() {
    everywhere(&published(&[
        "--cap-add",
        "SYS_ADMIN",
        "--cap-add",
        "NET_ADMIN",
    ]));
}
