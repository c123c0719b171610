use super::*;

fn key(app: &str, name: &str) -> StreamKey {
    StreamKey::new("", app, name).unwrap()
}

fn fill(template: &str, key: &StreamKey) -> Upstream {
    Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}")).fill(key)
}

/// tcUrl, app and name.
fn asked(template: &str, key: &StreamKey) -> [String; 3] {
    let upstream = fill(template, key);
    [upstream.tc_url, upstream.app, upstream.name]
}

#[test]
fn the_last_segment_is_the_name_and_the_rest_the_app() {
    let show = key("live", "show");
    for (template, expected) in [
        ("rtmp://h/live/{stream}", ["rtmp://h/live", "live", "show"]),
        ("RTMP://h:1936/a/b/{stream}", ["rtmp://h:1936/a/b", "a/b", "show"]),
        ("rtmp://h/{app}/{stream}", ["rtmp://h/live", "live", "show"]),
        ("rtmp://h/x-{app}/pre-{stream}.sd", ["rtmp://h/x-live", "x-live", "pre-show.sd"]),
        ("rtmps://h/app/key-1?bitrate=1&a=/b", ["rtmps://h/app", "app", "key-1?bitrate=1&a=/b"]),
        ("rtmp://h/app/{stream}?s={stream}&v={vhost}", ["rtmp://h/app", "app", "show?s=show&v="]),
        ("rtmp://h/app/a#b?c#d", ["rtmp://h/app", "app", "a#b?c#d"]),
        ("rtmp://h/app/{{{stream}}}", ["rtmp://h/app", "app", "{show}"]),
        ("rtmp://h/{vhost}/app/{stream}", ["rtmp://h/app", "app", "show"]),
        ("rtmp://[::1]:19/app/x", ["rtmp://[::1]:19/app", "app", "x"]),
    ] {
        assert_eq!(asked(template, &show), expected, "{template}");
    }
    assert_eq!(asked("rtmp://h/x/{app}/{stream}", &key("a/b", "c/d")), ["rtmp://h/x/a/b/c", "x/a/b/c", "d"]);
}

#[test]
fn a_bare_host_or_socket_is_asked_for_the_same_stream() {
    for template in ["rtmp://h", "rtmp://h/", "unix:/run/s.sock"] {
        for (app, name) in [("live", "show"), ("a/b", "c"), ("live?vhost=v.example", "show"), ("", "show")] {
            let key = key(app, name);
            let [tc_url, app, name] = asked(template, &key);
            assert_eq!(StreamKey::new(&tc_url, &app, &name).unwrap(), key, "{template} {tc_url} {app} {name}");
        }
    }
    assert_eq!(fill("unix:/run/a b.sock", &key("a", "b")).endpoint, Endpoint::Unix("/run/a b.sock".into()));
    assert_eq!(asked("unix:x", &key("a", "b")), ["rtmp://localhost/a", "a", "b"]);
}

#[test]
fn no_name_gets_out_of_its_place() {
    for hostile in [
        "show%26token=1",
        "a%23b",
        "100%25",
        "a%2541",
        "%25%32%46..%25%32%46",
        "k%C3%A4se x",
        "a&b=c+d",
        "{app}",
        "a@b:c",
        "a\u{2028}b",
        "\u{FFFD}",
        "...",
        "vhost=x",
    ] {
        for app in ["live", "a%26b/c d", "live?vhost=v%26"] {
            let key = key(app, hostile);
            for template in ["rtmp://h", "rtmp://h/{app}/{stream}?vhost={vhost}", "unix:/s"] {
                let [tc_url, app, name] = asked(template, &key);
                RtmpUrl::parse(&tc_url).unwrap_or_else(|error| panic!("{tc_url}: {error}"));
                let heard = StreamKey::new(&tc_url, &app, &name).unwrap();
                let vhost_is_decoded = !key.as_str().contains("v%26");
                assert!(heard == key || !vhost_is_decoded, "{template}: {key:?} became {heard:?}");
            }
            let [_, app, name] = asked("rtmp://h/app/x{stream}y?k={stream}&end=1", &key);
            let (path, query) = name.split_once('?').unwrap();
            assert_eq!(app, "app");
            assert!(!path.contains(['/', '#']) && path.starts_with('x') && path.ends_with('y'), "{name}");
            assert!(query.starts_with("k=") && query.matches(['&', '?', '=']).count() == 3, "{name}");
        }
    }
    let dotted = asked("rtmp://h/.{vhost}/.{vhost}.", &key("live", "show"));
    assert_eq!(dotted, ["rtmp://h/%2E", "%2E", "%2E%2E"]);
}

#[test]
fn credentials_are_kept_apart() {
    let upstream = fill("rtmp://us%40er:p:%3A{{w@h/app/{stream}?token=t", &key("live", "show"));
    let credentials = upstream.credentials.clone().unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("us@er", "p::{w"));
    assert_eq!(upstream.tc_url, "rtmp://h/app");
    assert_eq!(upstream.label, "rtmp://h/app/show");
    assert_eq!(fill("rtmp://a@b@h/app/x", &key("live", "show")).credentials.unwrap().user, "a@b");
}

#[test]
fn nothing_secret_is_shown() {
    let template = Template::parse("rtmps://user:hidden1@h/app/hidden2{stream}?k=hidden3").unwrap();
    let upstream = template.fill_secret(&key("live", "show"));
    assert_eq!(upstream.name, "hidden2show?k=hidden3");
    assert_eq!(upstream.label, "rtmps://h/app");
    for shown in [format!("{template} {template:?} {upstream:?}"), upstream.label] {
        assert!(!shown.contains("hidden") && !shown.contains("user"), "{shown}");
    }
    assert_eq!(template.to_string(), "rtmps://h/app/...{stream}");
    assert_eq!(Template::parse("rtmp://h").unwrap().to_string(), "rtmp://h");
    let target = Template::parse("rtmp://h").unwrap().fill_secret(&key("live", "hidden"));
    assert_eq!(target.label, "rtmp://h/live");
    for faulty in
        ["rtmp://u:hidden@h/app/{hidden}", "rtmp://u:hidden@h:x/app/x", "rtmp://h/hidden", "rtmp://h/a/x}hidden"]
    {
        let error = Template::parse(faulty).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
    }
}

#[test]
fn faults_name_their_place() {
    use TemplateFault::*;
    for (text, at, expected) in [
        ("", 0, Empty),
        ("http://h/a/b", 0, Scheme),
        ("h/a/b", 0, Scheme),
        ("unix:", 5, NoPath),
        ("unix:/a/{app}", 8, PlaceholderInHost),
        ("unix:/a\n", 7, Url(UrlError::Character)),
        ("rtmp://{app}/a/b", 7, PlaceholderInHost),
        ("rtmp://u:p@a{app}/a/b", 12, PlaceholderInHost),
        ("rtmp://{app}:p@a/a/b", 7, PlaceholderInHost),
        ("rtmp:///a/b", 7, Url(UrlError::Host)),
        ("rtmp://u@:19/a/b", 9, Url(UrlError::Host)),
        ("rtmp://h:0/a/b", 7, Url(UrlError::Port)),
        ("rtmp://h/a b/c", 10, Url(UrlError::Character)),
        ("rtmp://h/app", 8, NoApp),
        ("rtmp://h?x=y", 8, NoApp),
        ("rtmp://h/app/", 13, NoName),
        ("rtmp://h/app/?key=1", 13, NoName),
        ("rtmp://h/a//b", 11, Segment),
        ("rtmp://h//b", 9, Segment),
        ("rtmp://h/a/../b", 11, Segment),
        ("rtmp://h/a#/b", 10, Fragment),
        ("rtmp://h/app/{name}", 13, Placeholder),
        ("rtmp://h/app/{stream", 13, Placeholder),
        ("rtmp://h/app/x}", 14, Placeholder),
        ("rtmp://h/app/x?k={key}", 17, Placeholder),
        ("rtmp://h/{app}{app}{app}/{app}{app}{app}?{app}{app}{app}", 51, Placeholders),
    ] {
        let error = Template::parse(text).map(|_| ()).unwrap_err();
        assert_eq!(error, TemplateError { at, fault: expected }, "{text}");
    }
    let long = format!("rtmp://h/app/{}", "x".repeat(REQUEST_TEXT_BYTES_MAX));
    assert!(matches!(Template::parse(&long).unwrap_err().fault, Url(UrlError::TooLong(_))));
}

#[test]
fn every_truncation_is_an_upstream_or_a_fault_inside_it() {
    for text in ["rtmps://us:pa@[2001:db8::1]:19/{app}/b/ä{stream}{{?q={vhost}#", "unix:/run/ä"] {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            match Template::parse(&text[..end]) {
                Ok(template) => drop(template.fill(&key("live", "show"))),
                Err(error) => assert!(error.at <= end, "{}: {error}", &text[..end]),
            }
        }
    }
}

#[test]
fn an_escaped_text_is_taken_as_it_is() {
    let secret = "a{stream}}{";
    let name = fill(&format!("rtmp://h/app/{}", Template::escape(secret)), &key("live", "show")).name;
    assert_eq!(name, secret);
}
