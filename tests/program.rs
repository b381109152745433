//! A jail cannot write to kak's own binary.

use crate::sandbox::*;

/// The outer file's checksum, inode, mode and size.
fn outer() -> String {
    sh("for file in /bin/kak /usr/bin/kak; do cksum $file; stat -L -c '%i %a %s' $file; done")
}

sandboxed! {
    fn it_cannot_be_written_from_inside() {
        sh("kak setup; cp /bin/true /var/true");
        let whole = outer();
        assert_eq!(sh("nssh -c 'cksum </bin/kak'"), sh("cksum </bin/kak"));
        for (deed, says) in [
            ("echo evil >/bin/kak", ""),
            ("cp --remove-destination /var/true /bin/kak", "busy"),
            ("cp -f /var/true /usr/bin/kak", ""),
            ("install /var/true /bin/kak", "busy"),
            ("mv /var/true /bin/kak", "busy"),
            ("rm -f /bin/kak", "busy"),
            ("ln -f /var/true /bin/kak", ""),
            ("truncate -s 0 /bin/kak", ""),
            ("dd if=/dev/zero of=/bin/kak conv=notrunc count=1", ""),
            ("chmod 777 /bin/kak", "read-only"),
            ("chown 1 /bin/kak", ""),
            ("touch /bin/kak", ""),
            ("sed -i s/x/y/ /usr/bin/kak", "busy"),
            ("mv /usr/bin/kak /usr/bin/other", "busy"),
        ] {
            let ended = program(&["nssh", "-c", deed]);
            assert_ne!(ended.status.code(), Some(0), "{ended}");
            let said = ended.stderr.to_lowercase();
            assert!(said.contains(says), "{ended}");
            assert_eq!(outer(), whole, "{deed}");
        }
        sh("kak status; kak setup");
    }

    fn who_takes_the_mount_away_gets_it_again() {
        sh("kak setup");
        for _ in 0..10 {
            run("nssh -c 'umount /usr/bin/kak'");
            until("it is there again", || run("kak status").status.code() == Some(0));
            program(&["nssh", "-c", "chmod 755 /usr/bin/kak"]).says("read-only");
        }
        // If the file is replaced by a new version outside, the kernel detaches the mount in the jail.
        sh("cp /bin/kak /usr/bin/new; mv /usr/bin/new /usr/bin/kak");
        until("it is there again", || run("kak status").status.code() == Some(0));
        program(&["nssh", "-c", "chmod 755 /usr/bin/kak"]).says("read-only");
        sh("kak setup; kak teardown");
        assert_eq!(sh("findmnt -n /usr/bin/kak || echo none"), "none");
    }

    fn an_old_kernel_cannot_and_the_jail_comes_up() {
        // Before Linux 5.12 there is no mount_setattr.
        sh("strace -D -f -o /dev/null -e trace=mount_setattr -e inject=mount_setattr:error=ENOSYS kak setup >/dev/null 2>&1; kak status");
        assert_eq!(sh("nssh -c 'findmnt -n /usr/bin/kak || echo none'"), "none");
    }
}
