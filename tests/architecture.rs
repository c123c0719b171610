//! The rules of the tree, enforced: dependencies point one way, the protocol core knows no world, limits stand once,
//! files say what they are and stay small.
//!
//! The checker reads `src/**/*.rs` as text: comments, literals and `#[cfg(test)]` items are blanked, and every path, in a
//! `use` or inline, is resolved against the file's own place. The last tests feed it what it must find.

use std::{fs, path::Path};

/// Rooms by height: a room may name rooms below its own height, and itself.
const HEIGHTS: &[(&str, u8)] = &[
    ("limits", 0),
    ("sync", 0),
    ("rtmp", 1),
    ("media", 1),
    ("http", 1),
    ("stream", 2),
    ("ingress", 3),
    ("egress", 3),
    ("relay", 3),
    ("access", 3),
    ("shard", 4),
    ("control", 5),
    ("main", 6),
];

/// Neighbours of equal height, of which the first may name the second.
const NEIGHBOURS: &[(&str, &str)] = &[("media", "rtmp"), ("access", "relay")];

/// Rooms without sockets, runtimes, clocks, random sources, files or threads.
const PURE: &[&str] = &["limits", "rtmp", "media", "http", "stream", "ingress", "egress", "relay", "access"];

/// What a pure room must not name: paths, and words wherever they stand.
const WORLD_PATHS: &[&str] = &[
    "axum",
    "fastrand",
    "getrandom",
    "hyper",
    "hyper_util",
    "io_uring",
    "libc",
    "mio",
    "monoio",
    "rand",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
];
const WORLD_WORDS: &[&str] =
    &["Instant", "RandomState", "SystemTime", "TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream"];

/// Crates that one room alone may use.
const TENANTS: &[(&str, &str)] = &[
    ("axum", "control"),
    ("clap", "control"),
    ("hyper", "control"),
    ("hyper_rustls", "control"),
    ("hyper_util", "control"),
    ("landlock", "control"),
    ("libmimalloc_sys", "control"),
    ("nix", "control"),
    ("tokio", "control"),
    ("tracing_subscriber", "control"),
    ("io_uring", "shard"),
    ("monoio", "shard"),
    ("rustls", "shard"),
    ("rustls_native_certs", "shard"),
    ("socket2", "shard"),
];

/// Constants that look like limits but are facts of a format.
const WIRE_FACTS: &[&str] = &["CSID_MAX", "CSID_MIN", "HEADER_BYTES_MAX"];

/// Lines of a file outside its tests.
const FILE_LINES: usize = 600;

/// What breaks a rule in `source`, the file at `path` below `src/`.
fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let module = module_of(path);
    let room = module.first().map_or("lib", String::as_str);
    if module.last().is_some_and(|name| name == "tests" || name.ends_with("_tests")) {
        return found;
    }
    if !source.starts_with("//!") {
        found.push("does not begin with a //! head that says what the file is".to_owned());
    }
    let code = without_tests(&blanked(source));
    let lines = code.lines().filter(|line| !line.contains(REMOVED)).count();
    if lines > FILE_LINES {
        found.push(format!("has {lines} lines outside its tests, more than {FILE_LINES}: split it by idea"));
    }
    for (line, path) in paths(&code, &module) {
        found.extend(path_fault(room, &path).map(|fault| format!("line {line}: {fault}")));
    }
    if room != "limits" {
        found.extend(stray_limits(&code));
    }
    found
}

/// The module path of a file below `src/`: `shard/mod.rs` is `[shard]`, `lib.rs` is `[]`.
fn module_of(path: &str) -> Vec<String> {
    let mut module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect::<Vec<_>>();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

fn path_fault(room: &str, path: &[String]) -> Option<String> {
    let full = path.join("::");
    let first = path.first()?.as_str();
    let is = |prefix: &str| full == prefix || full.starts_with(&format!("{prefix}::"));
    let pure = PURE.contains(&room);
    if pure
        && (WORLD_PATHS.iter().any(|world| is(world)) || path.iter().any(|word| WORLD_WORDS.contains(&word.as_str())))
    {
        return Some(format!("{full}: {room} gets bytes and time from outside, it knows no world"));
    }
    if let Some((_, tenant)) = TENANTS.iter().find(|(name, tenant)| *name == first && *tenant != room) {
        return Some(format!("{full}: only {tenant} uses {first}"));
    }
    let root = if room == "main" { "shardcast" } else { "crate" };
    let target = (first == root).then(|| path.get(1)).flatten()?;
    let height = |name: &str| HEIGHTS.iter().find(|(room, _)| *room == name).map(|(_, height)| *height);
    let (Some(from), Some(to)) = (height(room), height(target)) else {
        return (room != "lib" && height(room).is_none())
            .then(|| format!("{room} has no height in tests/architecture.rs"));
    };
    let allowed = room == target || to < from || NEIGHBOURS.contains(&(room, target.as_str()));
    (!allowed).then(|| format!("{full}: {room} stands below or beside {target}, dependencies point down"))
}

/// Constants that are limits by name and number but stand outside `limits.rs`.
fn stray_limits(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let Some((_, declared)) = line.split_once("const ") else { continue };
        let Some((name, rest)) = declared.split_once(':') else { continue };
        let value = rest.split_once('=').map_or("", |(_, value)| value);
        let limit =
            ["_MAX", "_MIN", "_DEADLINE", "_TIMEOUT", "_BUDGET", "_LIMIT"].iter().any(|end| name.ends_with(end))
                || ["MAX_", "MIN_"].iter().any(|start| name.starts_with(start));
        let number =
            value.split(|c: char| !c.is_alphanumeric()).any(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        if limit && number && !WIRE_FACTS.contains(&name) {
            found.push(format!("line {}: {name} is a limit: it belongs in limits.rs", index + 1));
        }
    }
    found
}

/// Stands in each blanked line of a removed test.
const REMOVED: char = '\u{1}';

/// `source` with comments and the insides of literals as spaces; lines stay where they are.
fn blanked(source: &str) -> String {
    let chars = source.chars().collect::<Vec<_>>();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(source.len());
    let mut index = 0;
    while index < chars.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => (index..chars.len()).find(|i| at(*i) == '\n').unwrap_or(chars.len()),
            ('/', '*') => comment_end(&chars, index),
            ('"', _) => string_end(&chars, index + 1),
            ('r', '"' | '#') if !at(index.wrapping_sub(1)).is_alphanumeric() || at(index.wrapping_sub(1)) == 'b' => {
                raw_string_end(&chars, index + 1).unwrap_or(index)
            }
            ('\'', '\\') => (index + 3..chars.len()).find(|i| at(*i) == '\'').map_or(chars.len(), |i| i + 1),
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end == index {
            out.push(at(index));
            index += 1;
        } else {
            out.extend(chars[index..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            index = end;
        }
    }
    out
}

fn comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut index = start;
    while index < chars.len() {
        match chars[index] {
            '\\' => index += 2,
            '"' => return index + 1,
            _ => index += 1,
        }
    }
    chars.len()
}

/// `start` is after the `r`. None for a raw identifier.
fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    let open = start + hashes;
    (chars.get(open) == Some(&'"')).then(|| {
        let closes =
            |i: &usize| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        (open + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes)
    })
}

/// Blanked `code` without the items under `#[cfg(test)]` or another `cfg` that needs `test`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(start) = out[from..].find("#[cfg(").map(|at| from + at) {
        let close = start + out[start..].find(']').unwrap_or(out.len() - start - 1);
        let condition = &out[start..close];
        let needs_test = condition.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test");
        if !needs_test || condition.contains("not(test") || condition.contains("any(") {
            from = close;
            continue;
        }
        let end = item_end(&out, close + 1);
        let removed = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { REMOVED }).collect::<String>();
        out.replace_range(start..end, &removed);
        from = start + removed.len();
    }
    out
}

/// The end of the item that begins at `start`: its closing brace, or its semicolon before any brace.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (offset, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return start + offset + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return start + offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path in `code`, groups of `use` taken apart and `self::` and `super::` resolved, with its line.
fn paths(code: &str, module: &[String]) -> Vec<(usize, Vec<String>)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let line = tokens[index].0;
        let mut leaves = Vec::new();
        index = path_tree(&tokens, index, &[], &mut leaves).max(index + 1);
        found.extend(leaves.into_iter().map(|path| (line, resolved(path, module))));
    }
    found
}

fn resolved(path: Vec<String>, module: &[String]) -> Vec<String> {
    let supers = path.iter().take_while(|word| *word == "super").count();
    if supers == 0 && path.first().is_none_or(|word| word != "self") {
        return path;
    }
    let skip = if supers == 0 { 1 } else { supers };
    let base = &module[..module.len().saturating_sub(supers)];
    std::iter::once("crate".to_owned()).chain(base.iter().cloned()).chain(path.into_iter().skip(skip)).collect()
}

/// Words, `::` and single characters, with their lines.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let len = match first {
                ':' if rest.starts_with("::") => 2,
                _ => word.max(first.len_utf8()),
            };
            found.push((index + 1, &rest[..len]));
            rest = rest[len..].trim_start();
        }
    }
    found
}

/// Adds the paths of the tree at `index` to `leaves` and returns where it ends; `index` itself if there is none.
fn path_tree(tokens: &[(usize, &str)], index: usize, prefix: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let at = |index: usize| tokens.get(index).map_or("", |token| token.1);
    let word = |text: &str| text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let (mut path, mut index) = (prefix.to_vec(), index);
    while word(at(index)) {
        path.push(at(index).to_owned());
        index += 1;
        if at(index) != "::" {
            break;
        }
        index += 1;
        if at(index) == "{" {
            index += 1;
            while !matches!(at(index), "}" | "") {
                index = path_tree(tokens, index, &path, leaves).max(index + 1);
            }
            return index + 1;
        }
    }
    if path.len() > prefix.len() {
        leaves.push(path);
    }
    index
}

fn check(folder: &Path, below: &str, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files += check(&entry.path(), &format!("{name}/"), found);
        } else if name.ends_with(".rs") {
            let source = fs::read_to_string(entry.path()).unwrap();
            found.extend(violations(&name, &source).into_iter().map(|fault| format!("src/{name}: {fault}")));
            files += 1;
        }
    }
    files
}

#[test]
fn the_tree_keeps_its_rules() {
    let mut found = Vec::new();
    let files = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    assert!(files > 10, "only {files} files looked at");
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

/// The faults of `code` in the file `path`, given the head every file has.
fn faults(path: &str, code: &str) -> Vec<String> {
    violations(path, &format!("//! A file.\n{code}"))
}

#[test]
fn upward_dependencies_are_found() {
    for (path, code) in [
        ("rtmp/key.rs", "use crate::stream::Log;"),
        ("rtmp/key.rs", "use crate::{limits::LINGER, shard::fleet::Fleet};"),
        ("rtmp/key.rs", "fn f() { let x = crate::control::run(vec![]); }"),
        ("rtmp/chunk/reader.rs", "use super::super::super::media::tag;"),
        ("rtmp/mod.rs", "use super::media;"),
        ("stream/log.rs", "use crate::{\n    limits,\n    egress::{self, Flush},\n};"),
        ("egress/flush.rs", "use crate::ingress::Publisher;"),
        ("limits.rs", "use crate::rtmp::key;"),
        ("shard/fleet.rs", "pub use crate::control as c;"),
        ("main.rs", "use tokio::runtime::Runtime;"),
        ("news/mod.rs", "use crate::limits;"),
    ] {
        assert!(!faults(path, code).is_empty(), "{path}: {code}");
    }
}

#[test]
fn downward_dependencies_are_fine() {
    for (path, code) in [
        ("rtmp/chunk/reader.rs", "use super::super::key; use super::header; use crate::limits::CHUNK_STREAMS_MAX;"),
        ("shard/fleet.rs", "use crate::{egress, ingress, limits, rtmp::key::StreamKey, stream}; use monoio::net;"),
        ("control/mod.rs", "use crate::shard::fleet::Fleet; use tokio::time; use self::admin::Node;"),
        ("main.rs", "fn main() { shardcast::control::run(std::env::args_os()) }"),
        ("lib.rs", "pub mod control; pub mod shard;"),
        ("media/tag.rs", "use crate::rtmp::message::Kind;"),
    ] {
        assert_eq!(faults(path, code), [""; 0], "{path}: {code}");
    }
}

#[test]
fn the_world_is_found_in_pure_rooms() {
    for code in [
        "use std::net::TcpStream;",
        "use std::{fmt, fs};",
        "use std::{\n    collections::HashMap,\n    time::{Duration, Instant},\n};",
        "fn f() -> u64 { std::time::SystemTime::now() }",
        "fn f() { std::thread::yield_now() }",
        "use rand::Rng;",
        "use bytes::Bytes; use libc::c_int;",
        "fn f() { let home = std::env::var(\"HOME\"); }",
        "#[cfg(not(test))] fn f() { std::process::abort() }",
        "#[cfg(test)] mod tests { use std::fs; } fn after() { std::process::abort() }",
    ] {
        for path in ["rtmp/a.rs", "media/a.rs", "stream/a.rs", "egress/a.rs", "ingress/a.rs"] {
            assert_eq!(faults(path, code).len(), 1, "{path}: {code}: {:?}", faults(path, code));
        }
    }
    assert_eq!(faults("shard/a.rs", "use tokio::net::TcpStream;").len(), 1);
    assert_eq!(faults("control/a.rs", "use monoio::net::TcpStream;").len(), 1);
}

#[test]
fn comments_literals_and_tests_are_no_code() {
    for code in [
        "// use std::fs;\n/* crate::shard /* nested */ std::env */ fn f() {}",
        "/// Not a [`crate::shard::fleet::Fleet`].\nfn f() {}",
        "const A: &str = \"std::fs::read \\\" crate::shard\"; const B: &str = r#\"tokio::spawn \" crate::shard\"#;",
        "fn f<'a>(x: &'a str) -> char { '\"' } // std::fs\nfn g() -> char { '\\'' }",
        "#[cfg(test)]\nmod tests {\n    use std::{fs, thread};\n    fn f() { if true { thread::yield_now() } }\n}",
        "#[cfg(all(test, loom))]\nmod model {\n    use std::thread;\n}",
        "#[cfg(test)]\nuse std::fs;",
    ] {
        assert_eq!(faults("stream/a.rs", code), [""; 0], "{code}");
    }
}

#[test]
fn limits_outside_their_file_are_found() {
    for code in [
        "const NAME_BYTES_MAX: usize = 256;",
        "pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);",
        "    const MAX_NAMES: u32 = 1 << 10;",
    ] {
        assert_eq!(faults("rtmp/a.rs", code).len(), 1, "{code}");
        assert_eq!(faults("limits.rs", code), [""; 0], "{code}");
    }
    for code in ["const HEADER_BYTES: usize = 11;", "const NAME_MAX: usize = limits::NAME_BYTES_MAX;"] {
        assert_eq!(faults("rtmp/a.rs", code), [""; 0], "{code}");
    }
}

#[test]
fn headless_and_long_files_are_found() {
    assert_eq!(violations("rtmp/a.rs", "use std::fmt;\n").len(), 1);
    let long = "fn f() {}\n".repeat(FILE_LINES + 1);
    assert_eq!(faults("rtmp/a.rs", &long).len(), 1);
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(faults("rtmp/a.rs", &tests), [""; 0]);
}
