//! `kak netns` in containers with few capabilities, and by users without any.

use crate::rig::{Container, docker, image};

/// A container that only waits, with these rights.
fn waiting(rights: &[&str]) -> Container {
    let args = [&["-d", "--init", "--entrypoint", "sleep"], rights].concat();
    Container::run(&args, image(), &["1000"])
}

/// What a script prints in the container, with standard error in between.
fn says(container: &Container, user: &str, script: &str) -> String {
    let ended = docker(&[
        "exec",
        "-u",
        user,
        &container.0,
        "sh",
        "-c",
        &format!("exec 2>&1; {script}"),
    ]);
    ended.stdout
}

#[test]
fn two_capabilities_are_enough() {
    let c = waiting(&["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN"]);
    let said = says(
        &c,
        "0",
        "ip netns add a && ip netns set a 5 && ip netns && ip netns exec a ls /sys/class/net && ip netns delete a && ip netns; echo $?
        cut -d ' ' -f 5,6 /proc/self/mountinfo | grep '^/sys' | sort >/tmp/outside
        ip netns add b; ip netns exec b cut -d ' ' -f 5,6 /proc/self/mountinfo | grep '^/sys' | sort -u | diff /tmp/outside - && echo same",
    );
    assert_eq!(said, "a (id: 5)\nlo\n0\nsame");
    let said = says(
        &c,
        "0",
        "kak netns add up --uplink && kak netns exec up cat /sys/class/net/eth0/mtu && kak netns delete up && ls /run/netns",
    );
    assert_eq!(said, "1500\nb");
}

#[test]
fn with_less_the_missing_one_is_named() {
    let c = waiting(&["--cap-add", "SYS_ADMIN"]);
    let said = says(
        &c,
        "0",
        "ip netns add a && ip netns exec a true && ip netns; ip netns set a 5; echo $?; kak netns add b --uplink; echo $?",
    );
    assert!(
        said.starts_with(
            "a\nRTNETLINK answers: Operation not permitted\nkak: netns: needs CAP_NET_ADMIN"
        ),
        "{said}"
    );
    assert!(
        said.contains("\n2\na network with an uplink: needs CAP_NET_ADMIN\n")
            && said.ends_with("\n1"),
        "{said}"
    );
    let c = waiting(&["--cap-add", "NET_ADMIN"]);
    let said = says(&c, "0", "ip netns add a; echo $?; ip netns; echo $?");
    assert!(
        said.contains("Operation not permitted\nkak: netns: needs CAP_SYS_ADMIN"),
        "{said}"
    );
    assert!(said.ends_with("\n1\n0"), "{said}");
}

#[test]
fn a_user_without_rights_may_look() {
    let c = waiting(&["--privileged"]);
    says(&c, "0", "ip netns add a");
    let said = says(
        &c,
        "1000",
        // The namespace of the container's veth peer (the engine's) may have an nsid already.
        "ip netns; ip netns identify; ip netns list-id >/tmp/ids; echo $?; grep -v '^nsid 0 $' /tmp/ids; ip -j netns",
    );
    assert_eq!(said, "a\n\n0\n[{\"name\":\"a\"}]");
    for (command, wanted) in [
        ("ip netns add b", "failed: Operation not permitted"),
        (
            "ip netns exec a true",
            "setting the network namespace \"a\" failed: Operation not permitted",
        ),
        (
            "ip netns exec nope true",
            "Cannot open network namespace \"nope\": No such file or directory",
        ),
        (
            "ip netns delete a",
            "Cannot remove namespace file \"/run/netns/a\": Permission denied",
        ),
        (
            "ip netns delete nope",
            "Cannot remove namespace file \"/run/netns/nope\": No such file or directory",
        ),
        (
            "ip netns set a 5",
            "RTNETLINK answers: Operation not permitted",
        ),
        ("kak netns add b --uplink", "needs CAP_SYS_ADMIN"),
    ] {
        let said = says(&c, "1000", command);
        assert!(said.contains(wanted), "{command}: {said}");
    }
    assert_eq!(says(&c, "0", "ip netns; ip netns exec a echo in"), "a\nin");
}

#[test]
fn names_that_a_restart_left_are_given_again() {
    let c = waiting(&["--privileged"]);
    says(&c, "0", "ip netns add a; kak netns add b --uplink");
    docker(&["restart", "-t", "1", &c.0]).code(0);
    let said = says(&c, "0", "ip netns");
    assert!(
        said.contains("\"a\" is stale") && said.contains("\"b\" is stale"),
        "{said}"
    );
    let said = says(
        &c,
        "0",
        "ip netns add a && ip netns exec a echo in; kak netns add b --uplink && ip netns exec b ls /sys/class/net; kak netns delete b; ip netns",
    );
    assert_eq!(said, "in\neth0\nlo\na");
}

#[test]
fn a_network_card_is_not_given_away() {
    // In the host's network namespace, the only one with a physical device. It outlives any name that it is given
    // here, so even -force does no harm.
    let c = waiting(&["--privileged", "--network", "host"]);
    let card = says(
        &c,
        "0",
        "cd /sys/class/net; ls -d */device | head -n 1 | cut -d / -f 1",
    );
    assert!(!card.is_empty(), "no network card here");
    let said = says(
        &c,
        "0",
        "ip netns attach host 1; unshare --net ip netns delete host; echo $?; ip netns",
    );
    assert!(
        said.starts_with(&format!(
            "Cannot remove namespace file \"/run/netns/host\": it still has the physical {card}"
        )) && said.ends_with("\n1\nhost"),
        "{said}"
    );
    let said = says(
        &c,
        "0",
        "unshare --net ip -force netns delete host; echo $?; ip netns; ls /sys/class/net",
    );
    assert!(said.starts_with("0\n") && said.contains(&card), "{said}");
    // The caller's own namespace may lose its name without -force: the caller keeps it alive.
    assert_eq!(
        says(
            &c,
            "0",
            "ip netns attach host 1; ip netns delete host; echo $?"
        ),
        "0"
    );
}
