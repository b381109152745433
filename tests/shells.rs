//! /etc/shells is not kak's file: it gets one line, and is as before when that is removed.

use crate::sandbox::*;

/// All about a file: its bytes, inode, link count, owner, mode and attributes, and the target if it is a link.
fn whole(path: &str) -> String {
    sh(&format!(
        "cat -A {path}; stat -c '%i %h %a %u %g' $(realpath {path}); readlink {path} || true
        python3 -c 'import os; print({{name: os.getxattr(\"{path}\", name) for name in os.listxattr(\"{path}\")}})'"
    ))
}

/// Sets an extended attribute of /etc/shells, if that is permitted.
fn mark() {
    run(
        "python3 -c 'import os; os.setxattr(\"/etc/shells\", \"security.kak\", b\"a value\")' 2>/dev/null",
    );
}

sandboxed! {
    fn it_is_the_same_file_when_the_jail_has_gone() {
        sh("chmod 640 /etc/shells; ln /etc/shells /etc/another");
        run("chown 1:5 /etc/shells");
        mark();
        for text in ["/bin/sh\\n", "/bin/sh", "", "\\n", "/bin/sh\\n\\n", "/opt/bin/nssh\\n", "# /bin/nssh"] {
            sh(&format!("printf '{text}' >/etc/shells"));
            let before = whole("/etc/shells");
            sh("kak setup; grep -qx /bin/nssh /etc/shells; kak teardown");
            assert_eq!(whole("/etc/shells"), before, "{text}");
            assert_eq!(whole("/etc/another"), before, "{text}");
        }
    }

    fn what_others_add_meanwhile_stays() {
        sh("chmod 640 /etc/shells");
        run("chown 1:5 /etc/shells");
        mark();
        let about = "stat -c '%h %a %u %g' /etc/shells";
        let before = sh(about);
        let life = |was: &str, meanwhile: &str| {
            sh(&format!("printf '{was}' >/etc/shells; kak setup; {meanwhile}; kak teardown"));
            assert_eq!(sh(about), before);
            sh("cat -A /etc/shells; ls /etc/shells*")
        };
        let only = "/etc/shells";
        assert_eq!(life("/bin/sh", "echo /bin/fish >>/etc/shells"), format!("/bin/sh$\n/bin/fish$\n{only}"));
        // Another line like kak's is not kak's.
        assert_eq!(life("/bin/sh\\n", "echo /bin/nssh >>/etc/shells"), format!("/bin/sh$\n/bin/nssh$\n{only}"));
        assert_eq!(life("/bin/sh\\n", "printf '/bin/nssh\\n/bin/fish\\n' >>/etc/shells"), format!("/bin/sh$\n/bin/nssh$\n/bin/fish$\n{only}"));
        assert_eq!(life("", "sed -i /nssh/d /etc/shells; chmod 640 /etc/shells; chown 1:5 /etc/shells || true"), only);
        let attribute = "python3 -c 'import os; print(os.getxattr(\"/etc/shells\", \"security.kak\"))'";
        if is_root() {
            mark();
            sh("kak setup; echo /bin/fish >>/etc/shells; kak teardown");
            assert_eq!(sh(attribute), "b'a value'");
        }
    }

    fn a_link_stays_a_link() {
        sh("mkdir /etc/store; mv /etc/shells /etc/store/list; ln -s store/list /etc/shells");
        let before = dump();
        for meanwhile in ["true", "echo /bin/fish >>/etc/shells"] {
            sh(&format!("kak setup; {meanwhile}; kak teardown; sed -i /fish/d /etc/store/list"));
            assert_same(meanwhile, &before, &dump());
        }
        // A dangling link, too.
        sh("rm /etc/store/list");
        let before = dump();
        sh("kak setup; grep -qx /bin/nssh /etc/store/list; kak teardown");
        assert_same("a link that leads nowhere", &before, &dump());
    }

    fn a_file_that_is_not_there_is_not_there_again() {
        sh("rm /etc/shells");
        let before = dump();
        sh("kak setup; kak teardown");
        assert_same("no /etc/shells", &before, &dump());
        // Everybody may read it, whatever umask the caller has.
        assert_eq!(sh("umask 077; kak setup >/dev/null; stat -c %a /etc/shells; kak teardown"), "644");
        assert_same("no /etc/shells, under a umask", &before, &dump());
        sh("kak setup; kill -KILL $(kak status --json | grep -o '\"init\":[0-9]*' | cut -d : -f 2)");
        until("the keeper has gone", || processes().is_empty());
        sh("mkdir /late; nssh -c true; kak teardown; rmdir /late");
        assert_same("no /etc/shells, twice", &before, &dump());
        sh("kak setup; echo /bin/fish >>/etc/shells; kak teardown");
        assert_eq!(sh("cat /etc/shells"), "/bin/fish");
    }

    fn a_mount_is_written_where_it_is() {
        sh("echo /bin/sh >/var/shells; mount --bind /var/shells /etc/shells");
        let before = whole("/etc/shells");
        sh("kak setup; kak teardown");
        assert_eq!(whole("/etc/shells"), before);
        sh("kak setup; echo /bin/fish >>/etc/shells; kak teardown");
        assert_eq!(sh("cat /var/shells; ls /etc/shells*"), "/bin/sh\n/bin/fish\n/etc/shells");
    }

    fn who_was_killed_while_he_wrote_leaves_nothing() {
        let before = dump();
        let points = ["?rename,?renameat,?renameat2:signal=SIGKILL", "fsync:signal=SIGKILL", "fchmod:signal=SIGKILL"];
        for point in points {
            sh("kak setup; echo /bin/fish >>/etc/shells");
            run(&format!("strace -f -qq -o /tmp/trace -P /etc/shells.kak-new -e inject={point} kak teardown"));
            sh("grep -q 'killed by SIGKILL' /tmp/trace");
            program(&["kak", "teardown"]).code(0);
            assert_eq!(sh("tail -n 1 /etc/shells; sed -i /fish/d /etc/shells; ls /etc/shells*"), "/bin/fish\n/etc/shells", "{point}");
            assert_same(point, &before, &dump());
        }
    }
}
