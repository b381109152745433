//! On a user-defined network the engine resolves containers' names, at 127.0.0.11, which only the container reaches.

use crate::rig::*;

/// Another container on a network, whose name is looked up.
fn neighbour_on(network: &Network) -> Container {
    let on = [
        "-d",
        "--init",
        "--network",
        &network.0,
        "--entrypoint",
        "sleep",
    ];
    Container::run(&on, image(), &["infinity"])
}

/// A container's address on its network.
fn address(container: &Container) -> String {
    container.inspect("range .NetworkSettings.Networks}}{{.IPAddress}}{{end")
}

/// A script that prints the address of a container's name.
fn look_up(name: &str) -> String {
    format!("getent ahostsv4 {name} | head -n 1 | cut -d ' ' -f 1")
}

/// A script that asks for a name by TCP, and prints the last four bytes of the answer as an IPv4 address.
fn by_tcp(name: &str) -> String {
    let asks = "use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => \"127.0.0.11:53\") or die; \
        my $q = pack(\"n6\", 7, 256, 1, 0, 0, 0) . join(\"\", map { pack(\"C/a*\", $_) } split(/[.]/, shift)) . pack(\"Cnn\", 0, 1, 1); \
        print $s pack(\"n/a*\", $q); read($s, my $l, 2); read($s, my $a, unpack(\"n\", $l)); \
        print join(\".\", unpack(\"C4\", substr($a, -4)))";
    format!("perl -e '{asks}' {name}")
}

#[test]
fn the_engines_own_resolver_answers_in_the_jail() {
    let network = Network::new();
    let other = neighbour_on(&network);
    let privileged = &["--privileged"][..];
    let two = &[
        "--cap-add",
        "SYS_ADMIN",
        "--cap-add",
        "NET_ADMIN",
        "--security-opt",
        "apparmor=unconfined",
    ];
    for rights in [privileged, two] {
        let on = [&["-d", "--network", &network.0][..], rights].concat();
        let one = Container::run(&on, image(), &[]);
        one.wait_up();
        let outer = one.outside("cat /etc/resolv.conf");
        assert!(outer.contains("nameserver 127.0.0.11"), "{outer}");
        assert_eq!(one.inside("cat /etc/resolv.conf"), outer);
        // Only the engine knows containers by name.
        assert_eq!(one.inside(&look_up(&other.0)), address(&other));
        assert_eq!(one.inside(&by_tcp(&other.0)), address(&other));
        assert_eq!(one.inside(&look_up(&one.0)), address(&one));
        assert_eq!(
            one.exec(&["/bin/nssh", "-c", "getent hosts nobody.of-this-name"])
                .status
                .code(),
            Some(2)
        );
        // In a network without a jail, too.
        one.outside("kak netns add blue --uplink");
        let asked = format!("kak netns exec blue bash -c \"{}\"", look_up(&other.0));
        assert_eq!(one.outside(&asked), address(&other));
        one.outside("kak netns delete blue");
        // Users may ping as they may outside.
        let groups = "cat /proc/sys/net/ipv4/ping_group_range";
        assert_eq!(one.inside(groups), one.outside(groups));
    }
}

#[test]
fn names_are_found_after_a_restart() {
    let network = Network::new();
    let other = neighbour_on(&network);
    let one = Container::run(
        &["-d", "--privileged", "--network", &network.0],
        image(),
        &[],
    );
    one.wait_up();
    assert_eq!(one.inside(&look_up(&other.0)), address(&other));
    docker(&["restart", "-t", "5", &one.0]).code(0);
    one.wait_up();
    assert_eq!(one.inside(&look_up(&other.0)), address(&other));
    // And after a kill, which gives nobody a chance to clean up.
    docker(&["kill", &one.0]).code(0);
    docker(&["start", &one.0]).code(0);
    one.wait_up();
    assert_eq!(one.inside(&look_up(&other.0)), address(&other));
    // A name that comes later.
    let third = neighbour_on(&network);
    assert_eq!(one.inside(&look_up(&third.0)), address(&third));
}

#[test]
fn the_jails_resolvers_go_with_the_containers() {
    let one = Container::run(&["-d", "--privileged", "--dns", "192.0.2.1"], image(), &[]);
    one.wait_up();
    assert_eq!(
        one.inside("grep ^nameserver /etc/resolv.conf"),
        "nameserver 192.0.2.1"
    );
    // Written in place, as by the engine: the file is a mount.
    one.outside("echo nameserver 192.0.2.2 >/etc/resolv.conf");
    until("the jail has it", 5, || {
        one.inside("cat /etc/resolv.conf") == "nameserver 192.0.2.2"
    });
    one.outside("kak status");
    docker(&["restart", "-t", "5", &one.0]).code(0);
    one.wait_up();
    assert_eq!(
        one.inside("cat /etc/resolv.conf"),
        one.outside("cat /etc/resolv.conf")
    );
    one.outside("kak teardown");
    assert_eq!(
        one.outside("ls -A /etc/netns 2>&1 || true"),
        "ls: cannot access '/etc/netns': No such file or directory"
    );
}
