//! `docs/promises.md`: each promise has its row, each row a test that exists, and each test of hostile input and of faults a row.
//!
//! `SHARDCAST_BLESS=1 cargo test --test promises` runs all tests that the page names, and writes what came of them into it.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    path::Path,
    process::Command,
};

use common::table;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/promises.md");
/// Tests of these folders all show a promise.
const FOLDERS: [&str; 2] = ["tests/hostile_inputs", "tests/faults"];
/// Which numbers there have to be, by the letter before them.
const NUMBERS: &[(&str, RangeInclusive<u32>)] =
    &[("", 1..=43), ("", 45..=51), ("B", 1..=9), ("F", 1..=24), ("D", 1..=7), ("A", 1..=3)];

struct Row<'a> {
    /// Where it stands in the page, in lines.
    line: usize,
    number: &'a str,
    promise: &'a str,
    /// A file's path from the root, and a test in it.
    file: &'a str,
    test: &'a str,
}

fn rows(page: &str) -> Vec<Row<'_>> {
    let cells = |line| -> Option<[&str; 4]> {
        let inner = str::strip_prefix(line, "| ")?.strip_suffix('|')?;
        let cells = inner.split('|').map(str::trim).collect::<Vec<_>>();
        cells.try_into().ok().filter(|cells: &[&str; 4]| cells[2].starts_with('`'))
    };
    let row = |(line, [number, promise, named, _]): (usize, [&'static str; 4])| -> Row<'static> {
        let (file, test) = named.trim_matches('`').rsplit_once("::").expect("`path::test`");
        Row { line, number, promise, file, test }
    };
    let page: &'static str = String::leak(page.to_owned());
    page.lines().enumerate().filter_map(|(at, line)| Some((at, cells(line)?))).map(row).collect()
}

#[test]
fn every_promise_has_its_test_and_every_test_its_promise() {
    let page = std::fs::read_to_string(PAGE).expect("docs/promises.md is there");
    let rows = rows(&page);
    for row in &rows {
        assert!(table::has_test(row.file, row.test), "{}: there is no test {}::{}", row.number, row.file, row.test);
    }
    let firsts: Vec<&str> = rows.iter().filter(|row| !row.promise.is_empty()).map(|row| row.number).collect();
    let distinct: BTreeSet<&str> = firsts.iter().copied().collect();
    assert_eq!(firsts.len(), distinct.len(), "a promise stands there twice");
    for (letter, numbers) in NUMBERS {
        for number in numbers.clone() {
            let number = format!("{letter}{number}");
            assert!(distinct.contains(number.as_str()), "nothing is said of promise {number}");
        }
    }
    let named: BTreeSet<String> = rows.iter().map(|row| format!("{}::{}", row.file, row.test)).collect();
    for test in FOLDERS.iter().flat_map(|folder| table::all_tests(folder)) {
        assert!(named.contains(&test), "no row names {test}");
    }
    if std::env::var("SHARDCAST_BLESS").is_ok_and(|value| value == "1") {
        let (renewed, broken) = renewed(&page, &rows);
        std::fs::write(PAGE, renewed).expect("docs/promises.md can be written");
        assert!(
            broken.is_empty(),
            "docs/promises.md was written, with promises that are not kept:\n{}",
            broken.join("\n")
        );
    }
}

/// The page with what came of each test, and what came of those that do not show their promise.
fn renewed(page: &str, rows: &[Row<'_>]) -> (String, Vec<String>) {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("it is on PATH");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let when = format!("{}, {}", said("date", &["-u", "+%F"]), said("git", &["rev-parse", "--short", "HEAD"]));
    let mut by_binary = BTreeMap::<Vec<&str>, Vec<&Row<'_>>>::new();
    for row in rows {
        by_binary.entry(binary(row.file)).or_default().push(row);
    }
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let mut broken = Vec::new();
    for (binary, rows) in by_binary {
        let listed = cargo_test(&binary, &["--list"]);
        let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        let of_row = |row: &Row<'_>| -> Vec<&str> { names.iter().copied().filter(|name| is_of(row, name)).collect() };
        let wanted: BTreeSet<&str> = rows.iter().flat_map(|row| of_row(row)).collect();
        let arguments: Vec<&str> = ["--exact", "--show-output"].into_iter().chain(wanted).collect();
        let output = cargo_test(&binary, &arguments);
        for row in rows {
            let outcome = outcome(&output, &of_row(row));
            if !matches!(outcome, "ok" | "not checked") {
                broken.push(format!("{}: {}::{}: {outcome}", row.number, row.file, row.test));
            }
            let line = &mut lines[row.line];
            let kept = line.trim_end_matches('|').rfind('|').expect("four cells") + 1;
            line.truncate(kept);
            line.push_str(&format!(" {outcome}, {when} |"));
        }
    }
    (lines.join("\n") + "\n", broken)
}

/// The arguments of `cargo test` that mean the binary with the tests of a file.
fn binary(file: &str) -> Vec<&str> {
    match file.split('/').collect::<Vec<_>>().as_slice() {
        ["src", ..] => vec!["--package", "shardcast", "--lib"],
        ["tests", name, ..] => vec!["--package", "shardcast", "--test", name.trim_end_matches(".rs")],
        ["loadtest", "tests", name] => {
            vec!["--package", "shardcast-loadtest", "--test", name.trim_end_matches(".rs")]
        }
        _ => panic!("{file}: which tests are these?"),
    }
}

/// Whether `name`, as a test binary lists it, is the row's: in the module of the file, or in one within it.
fn is_of(row: &Row<'_>, name: &str) -> bool {
    let parts: Vec<&str> = row.file.trim_end_matches(".rs").split('/').collect();
    let place = match parts.as_slice() {
        ["src", rest @ ..] => rest,
        ["loadtest", "tests", _] | ["tests", _] => &[],
        ["tests", _, rest @ ..] => rest,
        _ => &[],
    };
    // A file of tests beside the one it is about is a module of that.
    let place: Vec<&str> = place
        .iter()
        .map(|part| part.strip_suffix("_tests").unwrap_or(part))
        .filter(|part| *part != "mod" && *part != "main")
        .collect();
    let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
    let mut modules = module.split("::");
    test == row.test && place.iter().all(|part| modules.next() == Some(part))
}

fn cargo_test(binary: &[&str], arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.arg("test").args(binary).arg("--").args(arguments).env_remove("SHARDCAST_BLESS");
    let output = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output().expect("cargo runs");
    // What a test says stands in the output; what cargo says of failures is told by the results.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What `output` says of all of `names`.
fn outcome(output: &str, names: &[&str]) -> &'static str {
    let result = |name: &&str| output.lines().find_map(|line| line.strip_prefix(&format!("test {name} ... ")));
    let said = |name: &&str| {
        output.split(&format!("---- {name} stdout ----")).nth(1).and_then(|rest| rest.split("\n---- ").next())
    };
    match names {
        [] => "not found",
        names if !names.iter().all(|name| result(name) == Some("ok")) => "FAILED",
        names if names.iter().any(|name| said(name).is_some_and(|said| said.contains("NOT CHECKED"))) => "not checked",
        _ => "ok",
    }
}

#[test]
fn outcomes_are_read_as_they_are_said() {
    let output = "test a::b ... ok\ntest c ... FAILED\ntest d ... ok\n\n---- a::b stdout ----\nhello\n\n---- d stdout ----\n\
                  NOT CHECKED: no root\n\n";
    assert_eq!(outcome(output, &["a::b"]), "ok");
    assert_eq!(outcome(output, &["a::b", "c"]), "FAILED");
    assert_eq!(outcome(output, &["d"]), "not checked");
    assert_eq!(outcome(output, &["e"]), "FAILED");
    assert_eq!(outcome(output, &[]), "not found");
}

#[test]
fn a_test_is_found_by_its_file() {
    let row = |file, test| Row { line: 0, number: "1", promise: "", file, test };
    assert!(is_of(&row("src/rtmp/chunk/reader_tests.rs", "x"), "rtmp::chunk::reader::tests::x"));
    assert!(is_of(&row("src/rtmp/client/tests/mod.rs", "x"), "rtmp::client::tests::x"));
    assert!(is_of(&row("tests/relaying/failover.rs", "x"), "failover::x"));
    assert!(is_of(&row("tests/access.rs", "x"), "x"));
    assert!(is_of(&row("tests/upgrade/storm.rs", "x"), "storm::uring::x"));
    assert!(!is_of(&row("tests/upgrade/storm.rs", "x"), "storms::x"));
    assert!(!is_of(&row("tests/relaying/failover.rs", "x"), "missing::x"));
    assert!(!is_of(&row("tests/access.rs", "x"), "xx"));
}
