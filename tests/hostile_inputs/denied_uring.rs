//! A machine that denies io_uring, as containers do.

use std::process::Command;

use crate::{
    common::{
        seconds,
        server::{Driver, Server, binary},
        tool::{Client, require},
    },
    scene::Pair,
};

/// Runs its arguments under a seccomp filter that answers EPERM to io_uring_setup (425 on every architecture).
const DENY: &str = "
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
steps = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *step) for step in code))
program = ctypes.create_string_buffer(struct.pack('@HP', len(code), ctypes.addressof(steps)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 4
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(program), 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])
";

#[test]
fn a_denied_io_uring_is_said_and_epoll_serves() {
    let launcher = [require("python3"), "-c", DENY];
    let server = Server::start_by(&launcher, Driver::Auto, 2, &[]);
    assert!(server.banner.contains("io_uring is denied here"), "{}", server.banner);
    assert_eq!(server.metrics().sum("shardcast_shard_info", &[("driver", "epoll")]), 2.0);
    Pair::new(&server, "denied").assert_flows();
}

#[test]
fn a_denied_io_uring_that_is_insisted_on_is_one_clear_line() {
    let mut command = Command::new(require("python3"));
    command.args(["-c", DENY, &binary(), "--driver", "uring", "--rtmp", "127.0.0.1:0", "--admin", "off"]);
    let ended = Client::spawn(&mut command).wait(seconds(10));
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    assert!(errors[0].contains("choose auto or legacy"), "{}", ended.stderr);
}
