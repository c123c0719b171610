//! Tables that say which test shows which promise, held against the tests there are.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A test of a file, and whether a comment says what it is about.
struct Test {
    name: String,
    documented: bool,
}

fn tests_of(text: &str) -> Vec<Test> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut tests = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[test]") {
        let name = lines[at..].iter().find_map(|line| line.strip_prefix("fn ")?.split_once('('));
        let documented = at > 0 && lines[at - 1].starts_with("///");
        tests.push(Test { name: name.expect("a function under #[test]").0.to_owned(), documented });
    }
    tests
}

/// The Rust files of a folder, without its `main.rs`.
fn files_of(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("main.rs")).collect()
}

/// Where `place` is: a file's path from the root (`src/rtmp/key.rs`), or a module of `folder`.
fn file_of(folder: &str, place: &str) -> PathBuf {
    if place.ends_with(".rs") { root().join(place) } else { root().join(folder).join(place).with_extension("rs") }
}

/// Every test that `table` names (`module::test` of `folder`, or `path.rs::test`) exists, and every test of `folder` is
/// named.
#[track_caller]
pub fn assert_complete(folder: &str, table: &[(&str, &str)]) {
    for (promise, named) in table {
        let (place, test) = named.rsplit_once("::").unwrap_or_else(|| panic!("{named}: write place::test"));
        let names = names_of(&read(&file_of(folder, place)));
        assert!(names.iter().any(|name| name == test), "{promise}: there is no test {named}");
    }
    let named: BTreeSet<&str> = table.iter().map(|(_, named)| *named).collect();
    for path in files_of(folder) {
        let module = path.file_stem().and_then(|stem| stem.to_str()).expect("a module's name");
        for name in names_of(&read(&path)) {
            let full = format!("{module}::{name}");
            assert!(named.contains(full.as_str()), "no line of the table names {full}");
        }
    }
}

/// Whether the file at `path` from the root has that test.
pub fn has_test(path: &str, test: &str) -> bool {
    names_of(&read(&root().join(path))).iter().any(|name| name == test)
}

/// The tests of a file, those for both drivers once.
fn names_of(text: &str) -> Vec<String> {
    let on_both = on_both_drivers(text).map(ToOwned::to_owned);
    tests_of(text).into_iter().map(|test| test.name).chain(on_both).collect()
}

/// The functions that a file's `on_both_drivers!` makes tests of.
fn on_both_drivers(text: &str) -> impl Iterator<Item = &str> {
    let invocations = text.split("on_both_drivers!(").skip(1).filter_map(|rest| rest.split(')').next());
    invocations.flat_map(|named| named.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

/// Every test of a folder, as `path::test`.
pub fn all_tests(folder: &str) -> Vec<String> {
    let of_file = |path: PathBuf| {
        let file = path.strip_prefix(root()).expect("below the root").display().to_string();
        names_of(&read(&path)).into_iter().map(move |name| format!("{file}::{name}"))
    };
    files_of(folder).into_iter().flat_map(of_file).collect()
}

/// Every test of `folder` has a comment; those of conformance tests name the source of their rule.
#[track_caller]
pub fn assert_documented(folder: &str) {
    for path in files_of(folder) {
        for test in tests_of(&read(&path)) {
            assert!(test.documented, "{}: {} does not say its source", path.display(), test.name);
        }
    }
}
