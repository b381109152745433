//! Many names: added by many commands at once, and by one command, which divides them between two processes.

use crate::sandbox::*;

/// The processes of a `kak netns add`.
fn at_work() -> Vec<i64> {
    let all = processes().into_iter();
    all.filter(|(_, name)| name == "kak")
        .map(|(pid, _)| pid)
        .collect()
}

sandboxed! {
    fn one_of_many_wins() {
        let adds = |name: &str| {
            let count = format!("for n in $(seq 32); do (kak netns add {name} 2>/dev/null && echo won) & done; wait");
            sh(&count).lines().count()
        };
        assert_eq!(adds("one"), 1);
        assert_eq!(adds("many$n"), 32);
        assert_eq!(sh("kak netns | wc -l; grep -c ' /run/netns ' /proc/self/mountinfo"), "33\n1");
        sh("kak netns -all delete");
        // And with ip at the same time.
        let both = sh("for n in $(seq 16); do (kak netns add x 2>/dev/null && echo won) & (ip netns add x 2>/dev/null && echo won) & done; wait");
        assert_eq!(both, "won");
        assert_eq!(sh("kak netns exec x kak netns identify"), "x");
    }

    fn two_processes_give_many_names() {
        // Also if the caller ignores SIGCHLD.
        let many = "kak netns add there; trap '' CHLD; exec kak netns add there $(seq -f n%g 98) n7";
        let ended = run(many).code(1);
        ended.says("\"/run/netns/there\": File exists").says("\"/run/netns/n7\": File exists");
        assert_eq!(sh("kak netns list | wc -l; stat -Lc %i /run/netns/* | sort -u | wc -l; grep -c /run/netns/ /proc/self/mountinfo"), "99\n99\n99");
        run("kak netns add $(seq 40) ../x").code(255).says("Invalid netns name");
        assert_eq!(sh("kak netns list | wc -l"), "99");
        // The batch is still in its own network namespace afterwards.
        assert_eq!(sh("(echo add $(seq 40); echo identify) | kak netns -batch -; kak netns list | wc -l"), "139");
    }

    fn who_is_killed_over_many_names_gives_no_more() {
        sh(r#"kak netns add $(seq 3000) & until [ "$(kak netns list)" ]; do :; done; kill -9 $!; wait $! 2>/dev/null || true"#);
        until("nobody is left", || at_work().is_empty());
        let given = sh("kak netns list | wc -l");
        assert!((1..3000).contains(&given.parse::<u32>().unwrap()), "{given}");
        assert_eq!(sh("sleep 0.3; kak netns list | wc -l"), given);
        sh("kak netns delete -all");
    }

    fn who_is_killed_while_they_begin_gives_none() {
        // Each of the two calls prctl(PR_SET_PDEATHSIG), to end with its parent; the call is delayed here.
        let slow = "exec strace -f -qq -o /tmp/trace -e trace=prctl -e inject=prctl:delay_enter=1000000:when=1 kak netns add $(seq 100)";
        let mut traced = std::process::Command::new("sh").args(["-c", slow]).spawn().unwrap();
        until("both have begun", || at_work().len() == 3);
        sh(&format!("kill -KILL {}", at_work().into_iter().min().unwrap()));
        traced.wait().unwrap();
        until("nobody is left", || at_work().is_empty());
        assert_eq!(sh("grep -c DELAYED /tmp/trace; kak netns list | wc -l"), "2\n0");
    }
}
