//! Login shells, while shadow's tools edit the same file: no change is lost.

use std::process::{Child, Command};

use crate::sandbox::*;

/// Runs a line of shell over and over, with `$n` counting up, until /tmp/stop exists. Then how often it was run is in
/// /tmp/NAME, and the output of runs that failed in /tmp/wrong.
fn over_and_over(name: &str, line: &str) -> Child {
    let script = format!(
        "n=0; while ! [ -e /tmp/stop ]; do n=$((n + 1)); {line} >/tmp/said.{name} 2>&1 || \
         {{ echo \"{name} $n\"; cat /tmp/said.{name}; }} >>/tmp/wrong; done; echo $n >/tmp/{name}"
    );
    Command::new("sh").args(["-c", &script]).spawn().unwrap()
}

/// A field of a user's line.
fn field(user: &str, n: usize) -> String {
    sh(&format!("getent passwd {user} | cut -d : -f {n}"))
}

sandboxed! {
    fn nothing_is_lost_where_many_change_accounts() {
        sh("cp -a /var/etc/. /etc
            for user in alice bob carol dora; do useradd -M -s /bin/bash $user; done; chown 0:5 /etc/passwd; chmod 640 /etc/passwd
            sed 's/[^:]*:x:/&/; s/:.*/:!:19000::::::/' /etc/passwd >/etc/shadow; chmod 600 /etc/shadow");
        let mut tools = [
            over_and_over("useradd", "useradd -M user$n"),
            over_and_over("chsh", "chsh -s $([ $((n % 2)) = 0 ] && echo /bin/sh || echo /bin/bash) bob"), // kak edits bob, too
            over_and_over("usermod", "usermod -c comment$n carol"),
            over_and_over("gecos", "usermod -c comment$n alice"), // kak edits alice, too
            over_and_over("vipw", "EDITOR='touch' vipw"),
            // Another kak, with a jail of its own.
            over_and_over("other", "kak setup -n other --login-shell dora && kak teardown -n other"),
        ];
        for n in 1..=50 {
            run("kak setup --login-shell alice --login-shell bob").code(0);
            assert_eq!(field("alice", 7), "/bin/nssh", "{n}");
            run("kak teardown").code(0);
            assert_eq!(field("alice", 7), "/bin/bash", "{n}");
        }
        sh("touch /tmp/stop");
        for tool in &mut tools {
            assert!(tool.wait().unwrap().success());
        }
        assert_eq!(sh("touch /tmp/wrong; cat /tmp/wrong"), "");
        let count = |name: &str| sh(&format!("cat /tmp/{name}")).parse::<usize>().unwrap();
        let names = sh("cut -d : -f 1 /etc/passwd");
        let fixed = ["root", "daemon", "nobody", "alice", "bob", "carol", "dora"].map(str::to_owned);
        let wanted: Vec<String> = fixed.into_iter().chain((1..=count("useradd")).map(|n| format!("user{n}"))).collect();
        assert_eq!(names.lines().collect::<Vec<_>>(), wanted);
        assert_eq!(sh("cut -d : -f 1 /etc/shadow | wc -l"), wanted.len().to_string());
        assert_eq!(field("bob", 7), if count("chsh") % 2 == 0 { "/bin/sh" } else { "/bin/bash" });
        assert_eq!(field("carol", 5), format!("comment{}", count("usermod")));
        assert_eq!(field("alice", 5), format!("comment{}", count("gecos")));
        assert_eq!(field("dora", 7), "/bin/bash");
        assert!(count("other") > 1 && count("vipw") > 1);
        assert_eq!(sh("stat -c '%a %u %g' /etc/passwd"), "640 0 5");
        assert_eq!(sh("cd /etc; echo passwd* shadow* group* gshadow* *lock* *kak*"), "passwd passwd- shadow shadow- group group- gshadow* *lock* *kak*");
        until("nobody is left", || processes().is_empty());
    }
}
