//! Transfers of files and repositories through sshd, unchanged to the byte; and what the server itself does outside.

use std::process::{Command, Stdio};

use crate::logins::{self, Place, Place::Inside, Place::Outside};
use crate::sandbox::*;

/// A script that copies files to a user's account and back in several ways: from /var/work here to /tmp there.
const TRANSFERS: &str = "
    set -e
    cd /var/work
    head -c 1048576 /dev/urandom >in
    ssh {USER}@localhost cat <in | cmp - in
    ssh {USER}@localhost 'cat >&2' <in 2>&1 >/dev/null | cmp - in
    ssh {USER}@localhost 'cat >/tmp/by-cat' <in
    ssh -q -tt {USER}@localhost 'stty raw; cat /tmp/by-cat' </dev/null | cmp - in

    scp -q in {USER}@localhost:/tmp/by-scp
    scp -q {USER}@localhost:/tmp/by-scp out; cmp in out; rm out
    scp -q -O in {USER}@localhost:/tmp/by-rcp
    scp -q -O {USER}@localhost:/tmp/by-rcp out; cmp in out; rm out
    printf 'put in /tmp/by-sftp\\nget /tmp/by-sftp out\\n' | sftp -q -b - {USER}@localhost >/dev/null
    cmp in out; rm out
    rsync in {USER}@localhost:/tmp/by-rsync
    rsync {USER}@localhost:/tmp/by-rsync out; cmp in out; rm out

    export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=x GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=x
    ssh {USER}@localhost git init -q --bare -b main /tmp/by-git
    git init -q -b main repository
    cd repository
    cp ../in .
    git add in
    git commit -q -m in
    git push -q {USER}@localhost:/tmp/by-git main
    git clone -q ssh://{USER}@localhost/tmp/by-git ../clone
    cmp in ../clone/in
    rm -r ../repository ../clone";

/// Does all of it for a user, and asserts that the files are in the jail.
fn transfers(place: Place, user: &str) {
    logins::prepare();
    logins::keys();
    logins::set_shell("/bin/nssh");
    sh("mkdir -m 1777 /var/work; kak --install --setuid-nssh /bin/nssh; kak setup --allow alice");
    logins::serve(place);
    let script = TRANSFERS.replace("{USER}", user);
    let ended = end(&mut place.script(&script)).code(0);
    assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("", ""));
    assert_eq!(
        sh("cd /mnt/user/tmp; ls -d by-*"),
        "by-cat\nby-git\nby-rcp\nby-rsync\nby-scp\nby-sftp"
    );
    assert_eq!(sh("cd /mnt/user/tmp; stat -c %U by-* | sort -u"), user);
    assert_eq!(sh("ls /tmp"), "");
}

sandboxed! {
    fn files_go_to_roots_jail() {
        transfers(Outside, "root");
    }

    fn files_go_to_alices_jail() {
        transfers(Outside, "alice");
    }

    fn files_go_around_in_the_jail_for_root() {
        transfers(Inside, "root");
    }

    fn files_go_around_in_the_jail_for_alice() {
        transfers(Inside, "alice");
    }

    fn a_proxy_command_is_in_the_jail() {
        logins::prepare();
        logins::keys();
        sh("kak setup");
        // The proxy command is the server itself: its session is where that runs, whatever the login shell.
        let proxied = |shell: &str| {
            sh(&format!(
                "SHELL={shell} ssh -o ProxyCommand='/usr/sbin/sshd -i' localhost readlink /proc/self/ns/pid"
            ))
        };
        assert_eq!(proxied("/bin/bash"), sh("readlink /proc/self/ns/pid"));
        assert_eq!(proxied("/bin/nssh"), sh("nssh -c 'readlink /proc/self/ns/pid'"));
    }

    fn what_the_server_does_itself_is_not_in_the_jail() {
        logins::prepare();
        logins::keys();
        logins::set_shell("/bin/nssh");
        sh("kak setup");
        logins::serve(Outside);
        // Only the outer sshd listens there, so the forwarding was done outside.
        assert!(sh("ssh -W localhost:2222 localhost </dev/null").starts_with("SSH-2.0-"));
        logins::serve_at(Outside, 2223, "-f /dev/null -o Subsystem='sftp internal-sftp'");
        sh("echo 'put /etc/hostname /tmp/by-sftp' | sftp -q -P 2223 -b - localhost");
        assert_eq!(sh("ls /tmp; ls /mnt/user/tmp"), "by-sftp");
        // A ForceCommand is run by the login shell.
        logins::serve_at(Outside, 2224, "-f /dev/null -o ForceCommand='echo $0 >/tmp/by-force'");
        sh("ssh -p 2224 localhost");
        assert_eq!(sh("ls /tmp; cat /mnt/user/tmp/by-force"), "by-sftp\nbash");
    }

    fn a_connection_that_breaks_ends_what_ran_on_its_terminal() {
        logins::prepare();
        logins::keys();
        logins::set_shell("/bin/nssh");
        sh("kak --install --setuid-nssh /bin/nssh; kak setup --allow alice");
        logins::serve(Outside);
        for (user, command) in [("root", "sleep 1000"), ("root", "trap '' INT; sleep 1000; true"), ("alice", "sleep 1000; true")] {
            let mut client = Command::new("ssh")
                .args(["-tt", &format!("{user}@localhost"), command])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let sleeps = || processes().values().any(|name| name == "sleep");
            until("it runs", sleeps);
            client.kill().unwrap();
            client.wait().unwrap();
            until("nothing is left of it", || {
                !sleeps() && json("kak status --json")["sessions"].as_array().unwrap().is_empty()
            });
        }
    }

    fn a_first_login_makes_the_jail_and_ends() {
        logins::prepare();
        logins::keys();
        logins::set_shell("/bin/nssh");
        logins::serve(Outside);
        for login in ["ssh localhost", "ssh -q -tt localhost", "su -c", "su - -c", "runuser -l root -c", "script -qec"] {
            // The jail's own processes do not keep anything open that the caller waits for.
            let ended = run(&format!("export SHELL=/bin/nssh; {login} 'readlink /proc/self/ns/pid'")).code(0);
            let jail = sh(&format!("readlink /proc/{}/ns/pid", init("USER")));
            assert_eq!((ended.text().trim(), ended.stderr.as_str()), (jail.as_str(), ""), "{login}");
            sh("kak teardown");
        }
    }
}
