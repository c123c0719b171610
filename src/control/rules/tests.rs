use std::path::Path;

use super::*;

#[test]
fn a_flag_is_rules_apart_by_blanks() {
    let rules = of_flag(" a/*=rtmp://x/{stream},unix:/y \n b=rtmp://z ").unwrap();
    let read = |(streams, urls): &(Piece, Vec<Piece>)| {
        let urls = urls.iter().map(|url| url.text.clone()).collect::<Vec<_>>();
        format!("{} {}", streams.text, urls.join(" "))
    };
    let read = rules.iter().map(read).collect::<Vec<_>>();
    assert_eq!(read, ["a/* rtmp://x/{stream} unix:/y", "b rtmp://z"]);
}

#[test]
fn pieces_stand_where_they_were() {
    let value = "ä/*=rtmp://x/a,rtmp://y  b=unix:z";
    for (streams, urls) in of_flag(value).unwrap() {
        for piece in [vec![streams], urls].concat() {
            assert_eq!(value[piece.at.clone()], piece.text);
        }
    }
}

#[test]
fn every_truncation_of_a_flag_is_rules_or_a_finding_within_it() {
    let value = "live/*=rtmp://a/{stream},rtmp://b ü=unix:c";
    for end in (0..value.len()).filter(|end| value.is_char_boundary(*end)) {
        match of_flag(&value[..end]) {
            Ok(rules) => assert!(!rules.is_empty(), "{end}"),
            Err(finding) => assert!(value[..end].get(finding.at.clone()).is_some(), "{end}: {finding:?}"),
        }
    }
}

/// What is said about a rule, with the text it is said of.
fn said(value: &str, always: bool, push: bool) -> Vec<String> {
    let secrets = Secrets::new(Path::new("/"));
    let mut maker = Maker { secrets: &secrets, linger: Duration::ZERO, findings: Vec::new() };
    for (streams, urls) in of_flag(value).unwrap() {
        let made = match push {
            true => maker.push(&PushText { streams, targets: urls, proxied: false }).is_some(),
            false => maker
                .pull(&PullText { streams, sources: Sources::InOrder(urls), always, linger: None, proxied: false })
                .is_some(),
        };
        assert_eq!(made, !maker.findings.iter().any(Finding::is_fault));
    }
    let said = |finding: Finding| format!("{}: {}", &value[finding.at.clone()], finding.text);
    maker.findings.into_iter().map(said).collect()
}

#[test]
fn what_is_wrong_is_said_of_its_piece() {
    assert!(said("live/*=rtmp://a/live/{stream}", false, false).is_empty());
    let many = ["rtmp://a"; limits::SOURCES_MAX + 1].join(",");
    for (value, always, push, start) in [
        ("live/*=http://a/b,rtmp://c/d/e", false, false, "h: the upstream is neither"),
        ("live/../x=rtmp://a", false, false, ".: no stream's name"),
        ("live/*=rtmp://a/live/{strem}", false, false, "{: this is no placeholder"),
        ("live/*=rtmp://a", true, false, "live/*: a stream that is always"),
        ("live/*=rtmp://a/b/c", true, false, "live/*: a stream that is always pulled"),
        ("live=rtmp://a/b/c", true, false, "live: a stream that is always pulled"),
        ("live/a=rtmp://a/b/{env:SHARDCAST_NONE}", false, true, "{env:SHARDCAST_NONE}: {env:SHARDCAST_NONE}: "),
        ("live/a=rtmp://a/b/c,rtmp://a/b/c", false, true, "rtmp://a/b/c: this target stands there twice"),
        (&format!("live/a={many}"), false, false, "live/a: it has 17 sources, expected 1 to 16"),
    ] {
        let said = said(value, always, push);
        assert!(said.len() == 1 && said[0].starts_with(start), "{value}: {said:?}");
    }
}

#[test]
fn a_wider_rule_hides_later_ones() {
    let secrets = Secrets::new(Path::new("/"));
    let hidden = |streams: &[&str]| {
        let mut maker = Maker { secrets: &secrets, linger: Duration::ZERO, findings: Vec::new() };
        let mut rule = |streams: &&str| {
            let sources = Sources::InOrder(vec![Piece::new("rtmp://a", 0)]);
            maker.pull(&PullText {
                streams: Piece::new(streams, 0),
                sources,
                always: false,
                linger: None,
                proxied: false,
            })
        };
        hidden_pulls(&streams.iter().map(|streams| rule(streams).unwrap()).collect::<Vec<_>>())
    };
    assert_eq!(hidden(&["live/*", "live/a", "vod", "live/b*c", "vod/*"]), [(1, 0), (3, 0), (4, 2)]);
    assert!(hidden(&["live/a", "live/*", "vod/a*b", "vod/*b", "vod/a*"]).is_empty());
}
