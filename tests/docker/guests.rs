//! Users of a container who are not root, and the set-user-ID copy of nssh.

use crate::rig::*;

/// A container whose entrypoint allows the user `nobody`, with the set-user-ID copy in it.
fn with_guests(args: &[&str]) -> Container {
    let container = Container::run(
        &[&["-dit"][..], args].concat(),
        image(),
        &["--allow", "nobody"],
    );
    container.wait_up();
    container
        .exec(&["/bin/kak", "--install", "--setuid-nssh", "/bin/nssh"])
        .code(0);
    container
}

/// `docker exec -u USER C /bin/nssh -c SCRIPT`.
fn guest(container: &Container, user: &str, script: &str) -> Ended {
    docker(&["exec", "-u", user, &container.0, "/bin/nssh", "-c", script])
}

/// A script that prints the caller's IDs, capabilities and namespaces.
const WHO: &str = "id; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status; readlink /proc/self/ns/net; readlink /proc/self/ns/pid";

/// Asserts that the user `nobody` gets in, without capabilities, and that `daemon` and 4321 do not.
fn check(container: &Container) {
    let said = guest(container, "nobody", WHO).code(0).stdout;
    let inside = container.inside("readlink /proc/self/ns/net; readlink /proc/self/ns/pid");
    assert!(
        said.starts_with("uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n"),
        "{said}"
    );
    assert!(said.ends_with(&inside), "{said} is not in {inside}");
    assert_eq!(said.matches("\t0000000000000000\n").count(), 4, "{said}");
    guest(container, "nobody", "exit 7").code(7);
    for user in ["daemon", "4321"] {
        let ended = guest(container, user, WHO).code(125);
        assert!(
            ended.stdout.is_empty() && ended.stderr.contains("--allow"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_user_of_a_container_gets_in_if_he_is_named() {
    let container = with_guests(&["--privileged"]);
    check(&container);
    // The jail comes up again after a restart, and who is allowed is in the record.
    docker(&["restart", &container.0]).code(0);
    container.wait_up();
    check(&container);
}

#[test]
fn two_capabilities_are_enough_for_his_join_too() {
    check(&with_guests(&[
        "--cap-add",
        "SYS_ADMIN",
        "--cap-add",
        "NET_ADMIN",
        "--security-opt",
        "apparmor=unconfined",
    ]));
}

#[test]
fn no_new_privileges_keeps_him_out_and_is_named() {
    let container = with_guests(&["--privileged", "--security-opt", "no-new-privileges"]);
    let ended = guest(&container, "nobody", WHO).code(125);
    assert!(
        ended.stdout.is_empty() && ended.stderr.contains("no_new_privs"),
        "{ended:?}"
    );
}
