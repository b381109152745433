//! kak needs no other program in the image: it runs none, and works where there is none.

use std::process::Command;

use crate::rig::*;

#[test]
fn no_program_is_run_but_the_shell() {
    let container = Container::bare();
    // strace with its own loader and libraries, whatever the image has.
    let dir = std::env::temp_dir().join(unique("strace"));
    std::fs::create_dir(&dir).unwrap();
    let gather = "strace=$(command -v strace) && cp \"$strace\" . &&
        ldd \"$strace\" | grep -o '/[^ ]*' | xargs -I {} cp -L {} . && mv ld-linux* loader";
    let gathered = Command::new("sh")
        .args(["-c", gather])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(gathered.status.success(), "strace is needed: {gathered:?}");
    docker(&[
        "cp",
        dir.to_str().unwrap(),
        &format!("{}:/var/strace", container.0),
    ])
    .code(0);
    std::fs::remove_dir_all(&dir).unwrap();
    // strace does not end before the keeper that a command leaves behind, so this waits for the command only.
    let traced = |command: &str| {
        let script = format!(
            "cd /var/strace && rm -f done &&
            ./loader --library-path . ./strace -f -qq -e trace=execve,execveat -e signal=none -o trace \
                /bin/bash -c '{command} >/dev/null; : >done'"
        );
        docker(&["exec", "-d", &container.0, "/bin/bash", "-c", &script]).code(0);
        until(command, 20, || {
            container
                .exec(&["test", "-e", "/var/strace/done"])
                .status
                .success()
        });
        // An old strace also prints system calls that it does not know, whatever -e trace= says.
        container.outside("grep exec /var/strace/trace | sed 1,2d")
    };
    assert_eq!(traced("/bin/kak setup"), "");
    let execs = traced("/bin/nssh -c \"exit 0\"");
    assert!(
        execs.lines().count() == 1 && execs.contains("\"/bin/bash\""),
        "{execs}"
    );
    assert_eq!(traced("/bin/kak teardown"), "");
    let execs = traced("/bin/nssh -c \"exit 0\"");
    assert!(
        execs.lines().count() == 1 && execs.contains("\"/bin/bash\""),
        "{execs}"
    );
}

#[test]
fn the_usual_tools_are_not_missed() {
    let neighbour = neighbour();
    let image = Image::build(&format!(
        "FROM {}
        RUN dpkg-query -W -f '${{Package}}\\n' iproute2 util-linux util-linux-extra mount iptables nftables procps psmisc 2>/dev/null | \
            xargs dpkg -L | grep -E '/s?bin/' | xargs rm -f; \
            ! command -v mount unshare nsenter setpriv ip iptables nft ps sysctl | grep -v kak",
        image()
    ));
    let container = Container::jail_of(&image.0);
    assert_eq!(container.inside(&ask(&neighbour)), container.address());
    assert_eq!(container.inside("ls /sys/class/net"), "eth0\nlo");
    container.outside("kak status");
    container.stop();
    assert_eq!(container.wait(), "143");
    // And without the entrypoint.
    let container = Container::run(
        &["-d", "--init", "--privileged", "--entrypoint", "sleep"],
        &image.0,
        &["infinity"],
    );
    container.outside("kak setup; nssh -c true; kak teardown; nssh -c true");
}

#[test]
fn a_container_from_scratch_has_a_jail() {
    let image = Image::build(&format!(
        "FROM debian:bookworm-slim AS shell
        RUN apt-get update && apt-get install -y --no-install-recommends busybox-static
        FROM {} AS kak
        FROM scratch
        COPY --from=shell /bin/busybox /bin/sh
        COPY --from=kak /bin/kak /bin/kak
        COPY --from=kak /bin/kak /bin/nssh
        COPY --from=kak /bin/kak /sbin/kak-setup
        ENTRYPOINT [\"/sbin/kak-setup\"]",
        image()
    ));
    let neighbour = neighbour();
    let container = Container::jail_of(&image.0);
    let ask = format!(
        "busybox nc {} 7000 </dev/null || exec -a nc /bin/sh",
        neighbour.address()
    );
    assert_eq!(
        container
            .inside("readlink /proc/self/ns/pid")
            .split('[')
            .next(),
        Some("pid:")
    );
    assert_eq!(container.inside("cd /sys/class/net; echo *"), "eth0 lo");
    assert_eq!(container.inside(&ask), container.address());
    container.stop();
    assert_eq!(container.wait(), "143");
}

#[test]
fn the_image_has_one_program_and_its_links() {
    let container = Container::bare();
    assert_eq!(
        container.outside("readlink -f /bin/nssh /sbin/kak-setup /sbin/ip"),
        "/usr/bin/kak\n/usr/bin/kak\n/usr/bin/kak"
    );
    assert_eq!(
        container.outside("ip netns add blue && ip netns list"),
        "blue"
    );
    let size: u64 = container
        .outside("stat -c %s /usr/bin/kak")
        .parse()
        .unwrap();
    assert!(size <= 600_000, "{size} bytes");
}
