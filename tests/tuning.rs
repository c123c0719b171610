//! What lies in `tuning/` works as it says: the sysctl profile names settings that exist, the script lays queues over
//! CPUs and puts them back, and the text covers each of them.
//!
//! The script changes a made-up machine (`NIC_QUEUES_ROOT` and an `ethtool` of our own); on this one it only tells.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CONF: &str = include_str!("../tuning/shardcast-sysctl.conf");
const README: &str = include_str!("../tuning/README.md");

/// Settings that a kernel may lack, and why.
const OPTIONAL: &[(&str, &str)] = &[
    ("net.netfilter.nf_conntrack_max", "module nf_conntrack is loaded with a firewall"),
    ("kernel.io_uring_disabled", "from Linux 6.6 on"),
    ("net.core.busy_poll", "CONFIG_NET_RX_BUSY_POLL"),
];

/// Keys and values of `conf`: those in force, and those offered behind `#;`.
fn settings(conf: &str) -> Vec<(&str, &str)> {
    let lines = conf.lines().map(|line| line.strip_prefix("#;").unwrap_or(line).trim());
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').map_or((line, ""), |(key, value)| (key.trim(), value.trim()))).collect()
}

/// What is wrong with `conf` on this kernel.
fn faults(conf: &str) -> Vec<String> {
    // In a container's network namespace the machine's own settings are not shown.
    let machine = Path::new("/proc/sys/net/core/dev_weight").exists();
    let mut found = Vec::new();
    let settings = settings(conf);
    for (index, (key, value)) in settings.iter().enumerate() {
        let file = Path::new("/proc/sys").join(key.replace('.', "/"));
        let hidden = !machine && key.starts_with("net.core.");
        if !file.exists() && !hidden && !OPTIONAL.iter().any(|(optional, _)| optional == key) {
            found.push(format!("{key}: this kernel does not know it"));
        }
        if value.is_empty() {
            found.push(format!("{key}: has no value"));
        }
        if settings[..index].iter().any(|(earlier, _)| earlier == key) {
            found.push(format!("{key}: stands there twice"));
        }
    }
    found
}

#[test]
fn the_kernel_knows_every_setting_of_the_profile() {
    assert!(settings(CONF).len() >= 10, "{:?}", settings(CONF));
    assert_eq!(faults(CONF), [""; 0]);
}

#[test]
fn a_bad_profile_is_found_out() {
    assert_eq!(faults("net.ipv4.tcp_no_such_thing = 1\n").len(), 1);
    assert_eq!(faults("#; net.ipv4.tcp_no_such_thing = 1\n").len(), 1);
    assert_eq!(faults("net.ipv4.tcp_mtu_probing\n").len(), 1);
    assert_eq!(faults("net.ipv4.tcp_mtu_probing = 1\n#; net.ipv4.tcp_mtu_probing = 2\n").len(), 1);
    assert_eq!(faults("# net.ipv4.no_such_thing is a comment\n\nnet.ipv4.tcp_mtu_probing = 1\n"), [""; 0]);
}

#[test]
fn every_setting_and_flag_is_explained() {
    for (key, _) in settings(CONF) {
        assert!(README.contains(&format!("`{key}`")), "{key} is not in tuning/README.md");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_shardcast")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, sockets) = help.split_once("\nSockets").expect("a heading");
    let (sockets, _) = sockets.split_once("\n\n").expect("its end");
    let flags = sockets.split_whitespace().filter(|word| word.starts_with("--")).collect::<Vec<_>>();
    assert!(flags.len() >= 6, "{flags:?}");
    for flag in flags.into_iter().chain(["--merge-ms", "--chunk-size", "--cpus"]) {
        assert!(README.contains(&format!("`{flag}")), "{flag} is not in tuning/README.md");
    }
}

fn script(args: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/nic-queues"));
    command.args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the script writes UTF-8")
}

/// Asserts that nothing was done, and that stderr is one line with all of `parts`.
fn assert_refused(output: &Output, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len(), stderr.lines().count()), (Some(2), 0, 1), "{stderr}");
    assert!(parts.iter().all(|part| stderr.contains(part)), "{parts:?} in {stderr}");
}

#[test]
fn the_script_explains_itself() {
    let output = script(&["--help"]).output().unwrap();
    let help = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(["--dry-run", "--cpus", "--queues", "--undo"].iter().all(|flag| help.contains(flag)), "{help}");
}

#[test]
fn the_script_refuses_what_makes_no_sense() {
    for (args, parts) in [
        (&["--dry-run", "nosuch0"][..], &["there is no interface \"nosuch0\"", "lo"][..]),
        (&["--dry-run", "../net/lo"], &["there is no interface"]),
        (&[], &["which interface?", "lo"]),
        (&["--dry-run", "lo", "eth0"], &["one interface at a time"]),
        (&["--wet-run", "lo"], &["unknown option \"--wet-run\""]),
        (&["--cpus"], &["--cpus needs a value"]),
        (&["--dry-run", "--cpus", "1-", "lo"], &["--cpus \"1-\": expected CPU numbers"]),
        (&["--dry-run", "--cpus=4000", "lo"], &["CPU 4000 is not online"]),
        (&["--dry-run", "--queues", "0", "lo"], &["--queues \"0\""]),
    ] {
        assert_refused(&script(args).output().unwrap(), parts);
    }
}

#[test]
fn a_dry_run_on_loopback_says_why_there_is_nothing_to_do() {
    let output = script(&["--dry-run", "lo"]).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(said.contains("interrupts: lo is virtual") && said.contains("XPS: one send queue"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("skip: ")), "{said}");
}

/// A machine made of files, with a card of four queues, `eth0`, that interrupts as `vectors` say.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str, online: &str, vectors: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nic-queues-{name}"));
        let _ = fs::remove_dir_all(&root);
        let machine = Self(root);
        machine.write("sys/devices/system/cpu/online", online);
        let mut interrupts = "            CPU0       CPU1\n  9:  1  0  IO-APIC  9-fasteoi  acpi\n".to_owned();
        for (number, vector) in (40..).zip(vectors) {
            interrupts.push_str(&format!(" {number}:  0  0  PCI-MSIX-0000:00:03.0  0-edge  {vector}\n"));
            machine.write(&format!("proc/irq/{number}/smp_affinity_list"), "0-1");
            machine.write(&format!("sys/devices/pci0/card/msi_irqs/{number}"), "msix");
        }
        machine.write("proc/irq/9/smp_affinity_list", "0-1");
        machine.write("proc/interrupts", &interrupts);
        for queue in 0..4 {
            machine.write(&format!("sys/class/net/eth0/queues/tx-{queue}/xps_cpus"), "00000000");
        }
        machine.write("sys/devices/pci0/card/virtio7/vendor", "");
        machine.write("proc/77/comm", "irqbalance");
        machine.write("channels", "4");
        machine.write("table", "0 1 2 3 0 1 2 3");
        machine.write("bin/ethtool", ETHTOOL);
        let program = machine.0.join("bin/ethtool");
        fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        machine
    }

    /// Says which device the card is.
    fn device(self, path: &str) -> Self {
        std::os::unix::fs::symlink(self.0.join(path), self.0.join("sys/class/net/eth0/device")).unwrap();
        self
    }

    fn write(&self, path: &str, content: &str) {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{content}\n")).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap().trim().to_owned()
    }

    fn run(&self, args: &[&str]) -> String {
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap());
        let output = script(args).env("NIC_QUEUES_ROOT", &self.0).env("PATH", path).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Where interrupts 40 and following go.
    fn interrupts(&self, count: usize) -> Vec<String> {
        (40..40 + count).map(|number| self.read(&format!("proc/irq/{number}/smp_affinity_list"))).collect()
    }

    fn xps(&self) -> Vec<String> {
        (0..4).map(|queue| self.read(&format!("sys/class/net/eth0/queues/tx-{queue}/xps_cpus"))).collect()
    }
}

/// Keeps the queue count and the table of receive queues in files.
const ETHTOOL: &str = r#"#!/bin/bash
cd "$NIC_QUEUES_ROOT"
case $1 in
  -l)
    printf 'Channel parameters for %s:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t4\n' "$2"
    printf 'Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t%s\n' "$(cat channels)"
    ;;
  -L) [[ $3 == combined ]] && echo "$4" >channels ;;
  -x) printf 'RX flow hash indirection table for %s with 4 RX ring(s):\n    0:  %s\nRSS hash key:\nOperation not supported\n' "$2" "$(cat table)" ;;
  -X) if [[ $3 == default ]]; then echo 0 1 2 3 0 1 2 3 >table; else echo 0 1 0 1 0 1 0 1 >table; fi ;;
esac
"#;

#[test]
fn queues_interrupts_and_sends_meet_on_the_cpus_listed_and_go_back() {
    let vectors = ["eth0-config", "eth0-TxRx-0", "eth0-TxRx-1", "mlx5_async1@pci:0000:00:03.0", "mlx5_comp1@pci:0000"];
    let machine = Machine::new("card", "0-3", &vectors).device("sys/devices/pci0/card");
    let before = (machine.interrupts(5), machine.xps(), machine.read("channels"), machine.read("table"));

    let said = machine.run(&["--dry-run", "--cpus", "2,3", "eth0"]);
    assert!(said.contains("would set queue count (was combined 4): ethtool -L eth0 combined 2"), "{said}");
    assert!(said.contains("would set interrupt 41 (eth0-TxRx-0) on CPU: 2 (is 0-1)"), "{said}");
    assert!(said.contains("irqbalance runs"), "{said}");
    assert_eq!((machine.interrupts(5), machine.xps(), machine.read("channels"), machine.read("table")), before);
    assert!(!machine.0.join("run").exists());

    let said = machine.run(&["--cpus", "2,3", "eth0"]);
    assert!(said.contains("--undo eth0"), "{said}");
    assert_eq!(machine.interrupts(5), ["0-1", "2", "3", "0-1", "3"]);
    assert_eq!(machine.read("proc/irq/9/smp_affinity_list"), "0-1");
    assert_eq!(machine.xps(), ["4", "8", "00000000", "00000000"]);
    assert_eq!((machine.read("channels"), machine.read("table")), ("2".to_owned(), "0 1 0 1 0 1 0 1".to_owned()));

    let again = machine.run(&["--cpus", "2,3", "eth0"]);
    assert!(!again.contains("set ") && again.contains("as it should be: XPS of queue 1"), "{again}");

    // Whatever came after the first run: what was there before it comes back.
    machine.run(&["--cpus", "0,1,2", "eth0"]);
    assert_eq!(machine.interrupts(3), ["0-1", "0", "1"]);
    machine.run(&["--undo", "eth0"]);
    assert_eq!((machine.interrupts(5), machine.xps(), machine.read("channels"), machine.read("table")), before);
    let path = machine.0.clone();
    let nothing = script(&["--undo", "eth0"]).env("NIC_QUEUES_ROOT", path).output().unwrap();
    assert_refused(&nothing, &["nothing to undo for eth0"]);
}

#[test]
fn a_virtio_card_has_the_interrupts_of_the_device_it_sits_on() {
    let vectors = ["virtio7-config", "virtio7-input.0", "virtio7-output.0", "virtio7-input.1", "virtio7-output.1"];
    let machine = Machine::new("virtio", "0-1", &vectors).device("sys/devices/pci0/card/virtio7");
    machine.run(&["eth0"]);
    assert_eq!(machine.interrupts(5), ["0-1", "0", "0", "1", "1"]);
}

#[test]
fn masks_of_many_cpus_are_the_kernels_and_cpus_beyond_the_queues_share_them() {
    let machine = Machine::new("many", "0-127", &[]).device("sys/devices/pci0/card");
    machine.run(&["--cpus", "1,33,64-67", "eth0"]);
    // Queues 0 to 3; CPUs 66 and 67 go round to the first two.
    assert_eq!(
        machine.xps(),
        ["4,00000000,00000002", "8,00000002,00000000", "1,00000000,00000000", "2,00000000,00000000"]
    );
}
