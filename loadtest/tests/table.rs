//! `loadtest/table` works out from JSON what is met: here from that of a stand-in for the load generator.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with stand-ins for both binaries, removed at the end.
struct Bin(PathBuf);

impl Bin {
    /// The load generator prints `document` and exits with `code`.
    fn new(name: &str, document: &Value, code: i32) -> Self {
        let folder = std::env::temp_dir().join(format!("shardcast-table-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let script = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("shardcast", "#!/bin/sh\necho shardcast 1.2.3\n".into());
        let version = "case \"$1\" in --version) echo shardcast-loadtest 1.2.3; exit;; esac";
        script("shardcast-loadtest", format!("#!/bin/sh\n{version}\ncat <<'END'\n{document}\nEND\nexit {code}\n"));
        Self(folder)
    }

    fn table(&self, arguments: &[&str]) -> Output {
        let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("table");
        Command::new(table).arg("--bin").arg(&self.0).args(arguments).output().expect("python3 is needed to run it")
    }
}

impl Drop for Bin {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A comparison of one shard and two, the second at `ratio`; each has three runs, with so many that had a problem.
fn two_shards(ratio: f64, flawed: usize) -> Value {
    let runs: Vec<Value> =
        (0..3).map(|run| json!({ "problems": if run < flawed { vec!["late"] } else { vec![] } })).collect();
    let server = |name: &str, ratio: f64| json!({ "server": name, "cpu_ratio": ratio, "runs": runs });
    json!({ "servers": [server("shardcast --merge-ms 0", 1.0), server("shardcast --merge-ms 0 --cpus 0,1", ratio)] })
}

fn verdict(output: &Output) -> (String, Option<i32>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let row = text.lines().last().unwrap_or_default();
    (row.rsplit('|').nth(1).unwrap_or_default().trim().into(), output.status.code())
}

#[test]
fn a_target_is_met_or_not_and_strict_says_so() {
    let only = ["--only", "two-shards", "--runs", "3"];
    let strict = ["--only", "two-shards", "--strict"];
    for (name, ratio, flawed, met, code) in
        [("met", 1.1, 1, "yes", 0), ("missed", 1.2, 0, "no", 1), ("unclear", 1.1, 2, "unclear", 1)]
    {
        let bin = Bin::new(name, &two_shards(ratio, flawed), i32::from(flawed > 0));
        let output = bin.table(&only);
        assert_eq!(verdict(&output), (met.into(), Some(0)), "{name}: {output:?}");
        assert_eq!(verdict(&bin.table(&strict)), (met.into(), Some(code)), "{name}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("shardcast 1.2.3") && text.contains("| workload | command | target |"), "{text}");
    }
}

#[test]
fn a_command_that_cannot_be_carried_out_is_not_met() {
    let output = Bin::new("failed", &json!({}), 2).table(&["--only", "two-shards", "--strict"]);
    assert_eq!(verdict(&output), ("no".into(), Some(1)));
    assert!(String::from_utf8_lossy(&output.stdout).contains("could not be carried out"));
}

#[test]
fn an_audience_that_nginx_did_not_limit_is_no_base() {
    let server =
        |name: &str, ratio: f64, limited_by: &str| json!({ "server": name, "ratio": ratio, "limited_by": limited_by });
    let found = |name: &str, nginx: &str, ours: &str, ratio: f64| {
        let document = json!({ "servers": [server("nginx-rtmp", 1.0, nginx), server("shardcast", ratio, ours)] });
        verdict(&Bin::new(name, &document, 1).table(&["--only", "capacity", "--runs", "1"])).0
    };
    assert_eq!(found("bound", "server", "load_generator", 4.2), "yes", "it serves at least these");
    assert_eq!(found("short", "server", "load_generator", 3.0), "unclear");
    assert_eq!(found("less", "server", "server", 3.0), "no");
    assert_eq!(found("base", "load_generator", "server", 5.0), "unclear");
}
