//! Directories that are replaced by links while a jail is set up and taken down: a user who can write to a directory on
//! the way must not make root create, mount, change or remove anything elsewhere. The swaps are done by renameat2(2)
//! with RENAME_EXCHANGE, so that each name always exists.

use std::process::{Child, Stdio};

use crate::people::*;
use crate::sandbox::*;

/// How often a jail is set up and taken down during the swaps.
const TIMES: usize = 50;

/// A Python program that exchanges the names of each pair, over and over.
const SWAP: &str = r"
import ctypes, os, sys
libc = ctypes.CDLL(None)
pairs = [(a.encode(), b.encode()) for a, b in zip(sys.argv[1::2], sys.argv[2::2])]
print('swapping', flush=True)
while True:
    for a, b in pairs:
        # RENAME_EXCHANGE
        libc.renameat2(-100, a, -100, b, 2)
";

/// A process that swaps. Dropping it ends it.
struct Swaps(Child);

impl Swaps {
    /// Starts it, and waits until it swaps.
    fn start(mut command: std::process::Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert_eq!(line, "swapping\n");
        Self(child)
    }

    /// Starts a process of alice's that swaps these pairs.
    fn of_alice(pairs: &[&str]) -> Self {
        Self::start(ALICE.command(&[], &[&["python3", "-c", SWAP], pairs].concat()))
    }
}

impl Drop for Swaps {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Makes files of root's, to which the links of these tests lead.
fn victim() {
    move_in();
    sh("mkdir -p /var/victim/etc /var/victim/empty /data
        echo secret >/var/victim/secret; chmod 600 /var/victim/secret; : >/var/victim/nothing; chmod 600 /var/victim/nothing
        chmod 700 /var/victim/empty; echo data >/data/marker");
}

/// The state of these files, and of the mounts outside.
fn seen() -> String {
    let files =
        "find /var/victim -printf '%p %m %U:%G %n %s %i %C@\\n' | sort; cat /var/victim/secret";
    let mounts = "cut -d ' ' -f 4- /proc/self/mountinfo | grep -v ' /run/netns'";
    sh(&format!("{files}; {mounts}"))
}

/// Sets up and takes down this many times, and asserts that the victim stays the same; how often the setup succeeded.
fn set_up_and_take_down(times: usize, options: &str, mut look: impl FnMut(usize)) -> usize {
    let before = seen();
    let mut done = 0;
    for n in 0..times {
        let setup = run(&format!("kak setup {options}"));
        assert!(matches!(setup.status.code(), Some(0 | 1)), "{setup}");
        if setup.status.success() {
            done += 1;
            look(n);
        }
        let teardown = run("kak teardown");
        assert!(matches!(teardown.status.code(), Some(0 | 1)), "{teardown}");
        assert_eq!(
            seen(),
            before,
            "the {n}th time, {options}: {setup}{teardown}"
        );
    }
    done
}

sandboxed! {
    fn a_root_is_only_where_nobody_else_can_swap_it() {
        victim();
        sh("mkdir -p -m 777 /srv/open /srv/sticky; chmod +t /srv/sticky; mkdir -m 777 /srv/jail");
        ALICE.bash("mkdir /home/alice/jail /srv/sticky/jail; ln -s /var/victim /srv/sticky/link");
        let before = dump();
        for (root, whose) in [
            ("/home/alice/jail", "/home/alice/jail: belongs to user 1000"),
            ("/home/alice/other", "/home/alice belongs to user 1000, who could put something else there"),
            ("/home/alice/a/b/c", "/home/alice belongs to user 1000"),
            ("/srv/open/jail", "/srv/open can be written by others (mode 777)"),
            ("/srv/sticky", "/srv/sticky can be written by others (mode 1777)"),
            ("/srv/sticky/jail", "/srv/sticky/jail belongs to user 1000"),
            ("/srv/sticky/link/jail", "/srv/sticky/link is a link that belongs to user 1000"),
            ("/srv/jail", "/srv/jail can be written by others"),
        ] {
            run(&format!("kak setup --root {root}")).code(1).says(whose.split(": ").last().unwrap()).says("choose a --root");
            assert_same(root, &before, &dump());
        }
        // Nor during swaps, whatever is in the place at the moment.
        ALICE.bash("ln -s /var/victim /home/alice/link; mkdir /home/alice/way; ln -s /var/victim/empty /home/alice/there");
        let _swaps = Swaps::of_alice(&["/home/alice/way", "/home/alice/link", "/home/alice/jail", "/home/alice/there"]);
        let done = set_up_and_take_down(TIMES, "--root /home/alice/way/jail", |_| panic!("set up"));
        assert_eq!(done, 0);
        run("kak setup --root /home/alice/jail").code(1);
        // In a sticky directory, in which alice can make the root but not remove root's, it belongs to whoever makes it
        // first.
        let fast = r"
import os
print('swapping', flush=True)
while True:
    for make in (lambda: os.mkdir('mine'), lambda: os.symlink('/var/victim', 'mine')):
        try: make()
        except OSError: pass
        for remove in (lambda: os.rmdir('mine'), lambda: os.unlink('mine')):
            try: remove()
            except OSError: pass
";
        let mut command = ALICE.command(&[], &["python3", "-c", fast]);
        command.current_dir("/srv/sticky");
        let _fast = Swaps::start(command);
        let done = set_up_and_take_down(TIMES, "--root /srv/sticky/mine", |_| {
            assert_eq!(sh("stat -c %U:%a /srv/sticky/mine; nssh -c 'stat -c %U:%a /'"), "root:755\nroot:755");
        });
        assert!(done > 0, "never set up");
    }

    fn the_way_to_what_is_bound_is_roots() {
        victim();
        // An earlier jail has left its /tmp, which all users can write to outside, too.
        sh("kak setup; nssh -c 'touch /tmp/stays'; kak teardown; test -k /mnt/user/tmp");
        ALICE.bash("cd /mnt/user/tmp; mkdir a b; ln -s /var/victim l; ln -s /var/victim/secret s; ln -s /var/victim/empty e");
        for (place, target) in [("a/etc", "/tmp/a/etc"), ("a", "/tmp/a"), ("s", "/tmp/s"), ("l/empty", "/tmp/l/empty")] {
            let before = dump();
            let ended = run(&format!("kak setup --bind /data:{target}")).code(1).says("there is");
            assert!(ended.stderr.contains(place.split('/').next().unwrap()), "{ended}");
            assert_same(target, &before, &dump());
        }
        let _swaps = Swaps::of_alice(&["/mnt/user/tmp/a", "/mnt/user/tmp/l", "/mnt/user/tmp/b", "/mnt/user/tmp/s", "/mnt/user/tmp/b", "/mnt/user/tmp/e"]);
        for options in ["--bind /data:/tmp/a/etc", "--bind /data:/tmp/a/new", "--bind /data/marker:/tmp/a/nothing", "--bind /data:/tmp/b", "--bind /data/marker:/tmp/b"] {
            let before = seen();
            for n in 0..TIMES / 5 {
                let ended = run(&format!("kak setup {options}; kak teardown"));
                assert_eq!(seen(), before, "the {n}th time, {options}: {ended}");
            }
        }
    }

    fn who_is_faster_than_the_mkdir_gets_nothing_by_it() {
        victim();
        sh("kak setup; nssh -c 'touch /tmp/stays'; kak teardown");
        // Whenever the name does not exist, alice makes it: a link to a file, a link to a directory, a directory with a
        // link.
        let fast = r"
import os
print('swapping', flush=True)
while True:
    for make in (lambda: os.symlink('/var/victim/secret', 'x'), lambda: os.symlink('/var/victim', 'x'), lambda: (os.mkdir('x'), os.symlink('/var/victim/empty', 'x/y'))):
        try: make()
        except OSError: pass
        for remove in (lambda: os.unlink('x'), lambda: os.unlink('x/y'), lambda: os.rmdir('x')):
            try: remove()
            except OSError: pass
";
        let mut command = ALICE.command(&[], &["python3", "-c", fast]);
        command.current_dir("/mnt/user/tmp");
        let _swaps = Swaps::start(command);
        let mut done = 0;
        for options in ["--bind /data:/tmp/x", "--bind /data:/tmp/x/y"] {
            done += set_up_and_take_down(TIMES / 2, options, |n| {
                // If the setup succeeds, the bind is what was asked for.
                assert_eq!(sh(&format!("nssh -c 'cat {}/marker'", options.split(':').next_back().unwrap())), "data", "{n}");
            });
        }
        assert!(done > 0, "never set up");
    }

    fn a_bind_goes_where_no_users_link_leads() {
        victim();
        sh("kak setup --allow alice; kak teardown");
        ALICE.bash("cd /home/alice; mkdir place; ln -s ../../etc inside; ln -s /var/victim outside; ln -s ../../../../../../etc far");
        for link in ["inside", "outside", "far"] {
            let before = seen();
            run(&format!("kak setup --bind /data:/home/alice/{link}")).code(1).says("is a link that belongs to user 1000");
            assert_eq!(seen(), before);
        }
        let swaps = Swaps::of_alice(&["/home/alice/place", "/home/alice/inside", "/home/alice/place", "/home/alice/outside"]);
        let done = set_up_and_take_down(TIMES, "--bind /data:/home/alice/place:ro", |n| {
            sh(&format!("nssh -c 'test -e /etc/passwd && ! test -e /etc/marker && ! test -e /var/victim/marker' # {n}"));
        });
        assert!(done > 0, "never set up");
        drop(swaps);
        // A link of root's is followed, absolute or not.
        sh("mkdir -p /srv/place /srv/more; ln -s /srv/place /srv/absolute; ln -s ../srv/../srv/more /srv/relative
            kak setup --bind /data:/srv/absolute --bind /data/marker:/bin/true --bind /data:/srv/relative:ro");
        assert_eq!(sh("nssh -c 'cat /srv/place/marker /usr/bin/true /srv/more/marker'"), "data\ndata\ndata");
        sh("test ! -e /srv/place/marker; kak teardown");
    }

    fn what_is_bound_is_what_no_users_link_leads_to() {
        victim();
        // Only root can enter the directory; what is in it is readable by all.
        sh("chmod 700 /var/victim; echo hidden >/var/victim/etc/hidden; chmod 755 /var/victim/etc");
        ALICE.bash("cd /home/alice; mkdir -p mine/etc; echo hers >mine/etc/hers; ln -s /var/victim link; ln -s /var/victim/etc last");
        run("kak setup --bind /home/alice/last:/opt/hers").code(1).says("is a link that belongs to user 1000");
        let swaps = Swaps::of_alice(&["/home/alice/mine", "/home/alice/link"]);
        let done = set_up_and_take_down(TIMES, "--bind /home/alice/mine/etc:/opt/hers", |n| {
            assert_eq!(sh("nssh -c 'ls /opt/hers'"), "hers", "{n}");
        });
        drop(swaps);
        assert!(done > 0, "never set up");
        // A link of root's is followed.
        sh("ln -s /data /home/data; kak setup --bind /home/data:/opt/data; nssh -c 'cat /opt/data/marker'");
    }

    fn the_jails_root_leads_nobody_out_either() {
        victim();
        sh("kak setup --bind /data:/opt/empty");
        // A link that the jail leaves in the place of one of its directories.
        sh("nssh -c 'umount /opt/empty; mv /opt /gone; ln -s /var/victim /opt'");
        let before = seen();
        run("kak teardown");
        assert_eq!(seen(), before, "teardown");
        run("kak setup --bind /data:/opt/empty").code(1);
        run("kak teardown");
        assert_eq!(seen(), before, "setup");
        sh("rm /mnt/user/opt; rm -r /mnt/user/gone; kak teardown; kak setup --bind /data:/opt/empty");
        // Or swaps in the jail while kak works outside.
        sh("nssh -c 'umount /opt/empty; mkdir /there; ln -s /var/victim /there/opt'");
        let mut command = std::process::Command::new("nssh");
        command.args(["-c", "exec python3 -c \"$0\" \"$@\"", SWAP, "/opt", "/there/opt"]).stderr(Stdio::null());
        let swaps = Swaps::start(command);
        let before = seen();
        for n in 0..TIMES {
            run("kak setup");
            assert_eq!(seen(), before, "the {n}th time");
        }
        drop(swaps);
        run("kak teardown");
        assert_eq!(seen(), before, "teardown");
    }

    fn resolvers_of_somebody_elses_are_only_read() {
        victim();
        sh("mkdir -p /etc/netns/USER; chown 1000 /etc/netns/USER; echo nameserver 192.0.2.1 >/var/victim/resolv.conf");
        ALICE.bash("cd /etc/netns/USER; echo nameserver 192.0.2.7 >mine; ln -s /var/victim/secret link; ln -s /var/victim/resolv.conf other; cp mine resolv.conf");
        let at = |name: &str| format!("/etc/netns/USER/{name}");
        let (conf, mine, link, other) = (at("resolv.conf"), at("mine"), at("link"), at("other"));
        let _swaps = Swaps::of_alice(&[&conf, &link, &conf, &other, &conf, &mine]);
        let done = set_up_and_take_down(TIMES / 2, "", |_| {});
        assert!(done > 0, "never set up");
        set_up_and_take_down(TIMES / 2, "--dns 192.0.2.9", |_| {});
        // What alice could not read outside she cannot read through a jail.
        let is_up = (0..TIMES).any(|_| run("kak setup --allow alice").status.success());
        assert!(is_up, "never set up");
        let said = ALICE.run("nssh -c 'cat /etc/resolv.conf'");
        assert!(!said.text().contains("secret"), "{said}");
    }
}
