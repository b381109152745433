//! A machine on which users can log in: Debian's own settings for it, a user alice, and an ssh server.

use std::process::Command;

use crate::sandbox::*;

/// Where a program is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Outside: nssh enters the jail.
    Outside,
    /// In the jail: nssh is the real shell.
    Inside,
}

impl Place {
    /// A command that runs a script with bash there.
    pub fn script(self, script: &str) -> Command {
        // By `kak nssh`, as nssh itself is what is tested.
        let words: &[&str] = match self {
            Self::Outside => &["bash", "-c", script],
            Self::Inside => &["kak", "nssh", "--", "-c", script],
        };
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Makes the users and the files that login programs need. The tests choose the login shells, and nobody has a
/// password.
pub fn prepare() {
    sh("cp -a /var/etc/. /etc
        echo alice:x:1000:1000:Alice:/home/alice:/bin/bash >>/etc/passwd
        echo sshd:x:102:65534::/run/sshd:/usr/sbin/nologin >>/etc/passwd
        echo 'alice:x:1000:\nshadow:x:42:\nutmp:x:43:\nusers:x:100:' >>/etc/group
        sed 's/:.*/:*:19000:0:99999:7:::/' /etc/passwd >/etc/shadow
        chgrp shadow /etc/shadow; chmod 640 /etc/shadow
        echo 'alice ALL=(ALL) NOPASSWD: ALL' >>/etc/sudoers
        install -d -m 700 -o alice -g alice /home/alice
        mkdir -p /run/sshd /var/log /var/lib/sudo /var/mail
        install -d -m 1777 /run/screen
        touch /run/utmp /var/log/wtmp /var/log/lastlog");
}

/// Makes this shell root's and alice's login shell.
pub fn set_shell(shell: &str) {
    sh(&format!(
        "sed -i -E '/^(root|alice):/s,:[^:]*$,:{shell},' /etc/passwd"
    ));
}

/// Makes the keys by which root and alice can log in as either of them.
pub fn keys() {
    sh(
        "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
        mkdir -m 700 /root/.ssh; cd /root/.ssh
        ssh-keygen -q -t ed25519 -N '' -f id_ed25519
        cp id_ed25519.pub authorized_keys
        echo 'localhost' $(cat /etc/ssh/ssh_host_ed25519_key.pub) >known_hosts
        echo 'HostKeyAlias localhost\nBatchMode yes\nPort 2222' >config
        cp -r . /home/alice/.ssh; chown -R alice:alice /home/alice/.ssh",
    );
}

/// Starts an ssh server there.
pub fn serve(place: Place) {
    serve_at(place, 2222, "-f /etc/ssh/sshd_config");
}

/// Starts an ssh server on a port, with these options, and waits until it listens: it goes to the background before
/// that.
pub fn serve_at(place: Place, port: u16, words: &str) {
    end(&mut place.script(&format!("/usr/sbin/sshd -p {port} -o PidFile=none {words}"))).code(0);
    let mut asked = place.script(&format!(": </dev/tcp/localhost/{port}"));
    until("sshd listens", || end(&mut asked).status.success());
}
