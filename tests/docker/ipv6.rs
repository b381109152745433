//! IPv6 in a jail whose container is on an engine's network with IPv6.
//!
//! ```text
//!   another container             container                              jail in it
//!   +------------------------+    +---------------------------------+    +------------------------+
//!   | eth0 fd..::3, a server |----|-- eth0 fd..::2   kak-USER ------|----|-- eth0 fd..::2         |
//!   | at port 7000           |    |   127.0.0.11: names             |    |   a server at port 80  |
//!   +------------------------+    +---------------------------------+    +------------------------+
//! ```

use crate::rig::*;

/// A Perl server on a port that answers each connection with the client's address.
fn server(port: u16) -> String {
    format!(
        "use IO::Socket::IP; $s = IO::Socket::IP->new(LocalHost => \"::\", LocalPort => {port}, Listen => 9, ReuseAddr => 1) or die; \
         open F, \">/tmp/ready\"; close F; while ($c = $s->accept) {{ print $c $c->peerhost; close $c }}"
    )
}

/// A script for bash: asks a server for the address that it sees the client by.
fn ask(whom: &str, port: u16) -> String {
    format!("cat </dev/tcp/{whom}/{port}")
}

/// A container's IPv6 address on its network.
fn address(container: &Container) -> String {
    container.inspect("range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end")
}

#[test]
fn a_jail_has_it_where_the_container_has() {
    // With a subnet, as not every engine chooses one by itself.
    let subnet = format!("fd6b:616b:6b61:{:x}::/64", std::process::id() & 0xFFFF);
    let network = Network::with(&["--ipv6", "--subnet", &subnet]);
    let on = ["-d", "--network", &network.0];
    let perl = ["--init", "--entrypoint", "perl"];
    let other = Container::run(&[&on[..], &perl].concat(), image(), &["-e", &server(7000)]);
    until("it listens", 10, || {
        other.exec(&["test", "-e", "/tmp/ready"]).status.success()
    });
    let two = ["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"];
    let unconfined = ["--security-opt", "apparmor=unconfined"];
    let two = [&two[..], &unconfined].concat();
    for rights in [&["--privileged"][..], &two] {
        let all = [&on[..], rights].concat();
        let one = Container::run(&all, image(), &["--ipv6", "--publish", "8080:80"]);
        one.wait_up();
        let everywhere = || {
            one.wait_up();
            // The name has an IPv6 address, and the server there sees the container's.
            let name = format!("getent ahostsv6 {} | head -n 1 | cut -d ' ' -f 1", other.0);
            assert_eq!(one.inside(&name), address(&other));
            assert_eq!(one.inside(&ask(&address(&other), 7000)), address(&one));
            one.inside("rm -f /tmp/ready");
            let listen = format!("exec perl -e '{}'", server(80));
            docker(&["exec", "-d", &one.0, "/bin/nssh", "-c", &listen]).code(0);
            until("the jail's server listens", 10, || {
                one.exec(&["/bin/nssh", "-c", "test -e /tmp/ready"])
                    .status
                    .success()
            });
            assert_eq!(
                other
                    .exec(&["bash", "-c", &ask(&address(&one), 8080)])
                    .code(0)
                    .stdout,
                address(&other)
            );
            let own = one.outside(&ask("::1", 8080));
            assert!(own.starts_with("fd") && own.ends_with("::1"), "{own}");
        };
        everywhere();
        docker(&["restart", "-t", "5", &one.0]).code(0);
        everywhere();
        assert_eq!(
            one.outside("kak teardown; cat /proc/sys/net/ipv6/conf/all/forwarding"),
            "0"
        );
    }
}

#[test]
fn a_container_without_it_says_so() {
    let one = Container::bare();
    let setup = one.exec(&["/bin/kak", "setup", "--ipv6"]).code(1);
    assert!(
        setup
            .stderr
            .contains("IPv6 is switched off on this machine")
            && setup
                .stderr
                .contains("--sysctl net.ipv6.conf.all.disable_ipv6=0"),
        "{setup:?}"
    );
    let cure = [
        "--sysctl",
        "net.ipv6.conf.all.disable_ipv6=0",
        "--privileged",
        "-d",
    ];
    let cured = Container::run(&cure, image(), &["--ipv6"]);
    cured.wait_up();
}
