use super::{super::hidden, *};

fn rule(streams: Option<&str>) -> Rule {
    let streams = streams.map(|streams| Pattern::parse(streams).unwrap());
    Rule { name: "x".into(), streams, deny: Vec::new(), allow: Vec::new(), takes: Takes::Everybody }
}

#[test]
fn a_wider_rule_hides_later_ones() {
    let hidden =
        |streams: &[Option<&str>]| hidden(&streams.iter().map(|streams| rule(*streams)).collect::<Vec<_>>(), covers);
    assert_eq!(hidden(&[Some("live/*"), Some("live/a"), None, Some("vod")]), [(1, 0), (3, 2)]);
    assert!(hidden(&[Some("live/a"), Some("live/*"), Some("*"), Some("*//*"), None]).is_empty());
}

#[test]
fn files_of_tokens_are_known_by_their_names() {
    let folder = std::env::temp_dir().join(format!("shardcast-access-rules-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("may.txt"), "0123456789abcdef").unwrap();
    std::fs::write(folder.join("none.txt"), "# none yet\n").unwrap();
    std::fs::write(folder.join("bytes.txt"), [0xFF]).unwrap();
    std::fs::write(folder.join("long.txt"), vec![b'#'; limits::ACCESS_FILE_BYTES_MAX as usize + 1]).unwrap();
    let mut maker = AccessMaker::new(&folder);
    let mut read = |file: &str| {
        let tokens = maker.tokens(&TokensText { keys: vec![Piece::new(file, 7)], ..TokensText::default() });
        let findings = std::mem::take(&mut maker.findings);
        assert!(findings.iter().all(|finding| finding.at == (7..7 + file.len())), "{findings:?}");
        assert_eq!(tokens.is_none(), findings.iter().any(Finding::is_fault));
        findings.into_iter().map(|finding| finding.text).collect::<Vec<_>>().join("; ")
    };
    assert!(!read("may.txt").contains("no key"));
    assert!(read("none.txt").contains("there is no key in"));
    assert!(read("bytes.txt").ends_with("bytes.txt: not UTF-8"));
    assert!(read("long.txt").ends_with("longer than 1048576 bytes"));
    assert!(read("nowhere.txt").contains("nowhere.txt: No such file"));
    assert_eq!(maker.files.len(), 5);
    std::fs::remove_dir_all(folder).unwrap();
}
