//! Steers a connection to the shard of the CPU its first packet arrives on: a classic BPF program on a group of
//! SO_REUSEPORT listeners, run by the kernel once per connection.
//!
//! `unsafe`, because no crate wraps SO_ATTACH_REUSEPORT_CBPF. The program is at most two instructions per shard and four
//! more, far below the kernel's 4,096. What it answers is a listener's index in the order in which the group began to
//! listen; the kernel falls back to its hash if there is no such listener.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd},
};

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MOD, BPF_RET, BPF_W, SKF_AD_CPU, SKF_AD_OFF, c_int,
    sock_filter, sock_fprog, socklen_t,
};

const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
/// Where the kernel shows the number of the present CPU to a filter, in place of packet bytes.
const CPU: u32 = (SKF_AD_OFF + SKF_AD_CPU).cast_unsigned();
const JUMP_IF_EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
const MODULO: u32 = BPF_ALU | BPF_MOD | BPF_K;
const RETURN: u32 = BPF_RET | BPF_K;
const RETURN_LOADED: u32 = BPF_RET | BPF_A;

fn instruction(code: u32, on_false: u8, operand: u32) -> sock_filter {
    // Codes are eight bits wide.
    sock_filter { code: code as u16, jt: 0, jf: on_false, k: operand }
}

/// Answers the place in `cpus` of the present CPU; for a CPU that is not there, its number modulo their count, so that a
/// CPU that only takes interrupts spreads over the shards as far as it can.
fn program(cpus: &[u32]) -> Vec<sock_filter> {
    let mut program = vec![instruction(LOAD, 0, CPU)];
    for (index, cpu) in (0..).zip(cpus) {
        program.push(instruction(JUMP_IF_EQUAL, 1, *cpu));
        program.push(instruction(RETURN, 0, index));
    }
    program.push(instruction(MODULO, 0, (cpus.len() as u32).max(1)));
    program.push(instruction(RETURN_LOADED, 0, 0));
    program
}

/// Steers the whole group of `listener`: `cpus` has the CPU of each listener, in the order in which they began to listen.
pub(super) fn attach(listener: &impl AsFd, cpus: &[usize]) -> io::Result<()> {
    let cpus = cpus.iter().map(|cpu| u32::try_from(*cpu)).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let mut program = program(&cpus);
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the descriptor is open while it is borrowed. The kernel reads a `sock_fprog` of the size stated, and `len`
    // instructions from the vector that `filter` points into and that outlives the call; it keeps a copy and writes to
    // neither.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<sock_fprog>() as socklen_t,
        )
    };
    if result == 0 as c_int { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer on `cpu`.
    fn run(program: &[sock_filter], cpu: u32) -> u32 {
        let (mut loaded, mut at) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                LOAD if k == CPU => loaded = cpu,
                JUMP_IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                MODULO => loaded %= k,
                RETURN => return k,
                RETURN_LOADED => return loaded,
                other => panic!("{other:#x} is not in the program"),
            }
        }
    }

    #[test]
    fn each_cpu_gets_the_listener_of_its_shard() {
        let cpus = [3, 1, 7, 300];
        let program = program(&cpus);
        for (index, cpu) in (0..).zip(cpus) {
            assert_eq!(run(&program, cpu), index);
        }
    }

    #[test]
    fn a_cpu_without_a_shard_gets_some_listener() {
        for cpus in [&[3, 1, 7][..], &[5]] {
            let program = program(cpus);
            for cpu in (0..1_024).filter(|cpu| !cpus.contains(cpu)) {
                assert_eq!(run(&program, cpu), cpu % cpus.len() as u32);
            }
        }
    }
}
