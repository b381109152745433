//! The image's entrypoint makes nssh root's login shell while the jail is up.

use crate::rig::*;

/// Root's login shell, in the container.
fn shell(container: &Container) -> String {
    container.outside("grep ^root: /etc/passwd | cut -d : -f 7")
}

/// A container that is started without a first session, so that it does not end with one.
fn quiet(args: &[&str], image: &str) -> Container {
    let container = Container::run(&[&["-d", "--privileged"], args].concat(), image, &[]);
    container.wait_up();
    container
}

/// A container's log: standard output, then standard error.
fn said(container: &Container) -> String {
    let logs = docker(&["logs", &container.0]).code(0);
    format!("{}{}", logs.stdout, logs.stderr)
}

/// A script for bash: the state of the files in /etc that an edit of /etc/passwd touches.
const FILES: &str = "cd /etc; echo passwd* *.lock* *kak*; md5sum passwd; stat -c '%a %u %g' passwd";

/// A script for bash: the PID namespace, which says whether this is in a jail and in which.
const WHERE: &str = "readlink /proc/self/ns/pid";

#[test]
fn roots_login_shell_leads_into_the_jail() {
    let container = quiet(&[], image());
    let before = Container::bare().outside(FILES);
    assert_eq!(shell(&container), "/bin/nssh");
    let jail = container.inside(WHERE);
    assert_ne!(container.outside(WHERE), jail);
    // From outside, su leads into the jail, with a login shell or another; from inside, it stays there.
    for su in ["su -", "su", "su -l root"] {
        let script = format!("{su} -c '{WHERE}; id -u; echo $SHELL; exit 7'; echo $?");
        let wanted = format!("{jail}\n0\n/bin/bash\n7");
        assert_eq!(container.outside(&script), wanted, "{su}, outside");
        assert_eq!(container.inside(&script), wanted, "{su}, inside");
    }
    assert_eq!(container.outside(&format!("echo '{WHERE}' | su -")), jail);
    container.outside("su - -c 'shopt -q login_shell'");
    // `docker exec C bash` still gives a shell outside, and teardown restores the old login shell.
    container.outside("kak teardown");
    assert_eq!(container.outside(FILES), before);
    assert_ne!(container.outside(&format!("su - -c '{WHERE}'")), jail);
    container.outside("kak setup --login-shell root; kak status");
    assert_eq!(
        container.inside("su - -c 'cd /sys/class/net; echo *'"),
        "eth0 lo"
    );
}

#[test]
fn every_life_of_a_container_gives_roots_shell_back() {
    let container = Container::jail();
    let before = Container::bare().outside(FILES);
    // The state of the files while the container is stopped, read from an image of it.
    let stopped = || {
        let image = Image(unique("image"));
        docker(&["commit", &container.0, &image.0]).code(0);
        let all = ["run", "--rm", "--entrypoint", "bash", &image.0, "-c", FILES];
        docker(&all).code(0).stdout
    };
    container.stop();
    assert_eq!(stopped(), before);
    for stop in ["stop", "kill"] {
        docker(&["start", &container.0]).code(0);
        container.wait_up();
        assert_eq!(
            container.outside("grep login-shell /run/kak/USER/record"),
            "option login-shell root\nold-login-shell /bin/bash"
        );
        assert_eq!(shell(&container), "/bin/nssh");
        docker(&[stop, &container.0]).code(0);
        container.wait();
    }
    docker(&["start", &container.0]).code(0);
    container.wait_up();
    // A lock left by a kak that was killed while it changed accounts, as PID 1: a PID that is in use after the restart.
    container.outside("printf '1\\0' >/etc/passwd.lock");
    docker(&["kill", &container.0]).code(0);
    docker(&["start", &container.0]).code(0);
    container.wait_up();
    container.stop();
    assert_eq!(stopped(), before);
    assert!(!said(&container).contains("kak:"), "{}", said(&container));
}

#[test]
fn a_container_that_was_committed_while_its_jail_was_up() {
    let first = Container::jail();
    let image = Image(unique("image"));
    docker(&["commit", &first.0, &image.0]).code(0);
    // With the record, and without it, as /run is a new tmpfs.
    for args in [&[][..], &["--tmpfs", "/run"]] {
        let second = quiet(args, &image.0);
        assert_eq!(shell(&second), "/bin/nssh", "{args:?}");
        second.outside("kak teardown");
        assert_eq!(shell(&second), "/bin/bash", "{args:?}");
    }
}

#[test]
fn a_passwd_that_is_a_volume_is_changed_in_place() {
    let file = std::env::temp_dir().join(unique("passwd"));
    let path = file.to_str().unwrap();
    let passwd = Container::bare().outside("cat /etc/passwd") + "\n# the last line";
    std::fs::write(&file, &passwd).unwrap();
    let volume = format!("{path}:/etc/passwd");
    let container = quiet(&["-v", &volume], image());
    assert_eq!(
        container.outside(&format!("su - -c '{WHERE}'")),
        container.inside(WHERE)
    );
    let changed = passwd.replace(":/root:/bin/bash\n", ":/root:/bin/nssh\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), changed);
    container.stop();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), passwd);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn an_etc_that_is_read_only_keeps_its_shells() {
    let container = quiet(
        &["--read-only", "--tmpfs", "/run", "--tmpfs", "/mnt"],
        image(),
    );
    assert_eq!(shell(&container), "/bin/bash");
    let said = said(&container);
    assert!(said.contains("the login shells stay as they are"), "{said}");
    container.stop();
    assert_eq!(container.wait(), "143");
}
