//! Approaches against servers that ask for this and that.

use super::*;

const NOW: Duration = Duration::from_secs(1_000);
const NEED_USER: &str = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
const NEED_ANSWER: &str = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=camera&salt=s4lt&challenge=ch4l&opaque=0paque=";

fn approach(tc_url: &str, app: &str) -> Approach {
    let credentials = Credentials { user: "camera".into(), password: "let me in".into() };
    Approach::new(tc_url, app, "show?key=secret", Some(credentials)).unwrap()
}

fn refusal(description: &str, redirect: Option<&str>) -> SessionError {
    let (code, redirect) = ("NetConnection.Connect.Rejected".into(), redirect.map(Into::into));
    SessionError::Refused { code, description: description.into(), redirect }
}

fn texts(approach: &Approach) -> [String; 3] {
    let config = approach.config(ClientRole::Publish);
    [config.tc_url, config.app, config.name]
}

#[test]
fn a_server_that_asks_is_told_who_then_answered_then_taken_at_its_word() {
    let mut approach = approach("rtmp://host/live", "live");
    assert_eq!(texts(&approach), ["rtmp://host/live", "live", "show?key=secret"]);
    assert_eq!(approach.refused(&refusal(NEED_USER, None), 7, NOW), Ok(()));
    let user = "?authmod=adobe&user=camera";
    assert_eq!(texts(&approach)[..2], [format!("rtmp://host/live{user}"), format!("live{user}")]);
    assert_eq!(approach.refused(&refusal(NEED_ANSWER, None), 42, NOW), Ok(()));
    let answer = format!("{user}&challenge=0000002a&response=zN6FjAB3RO5OFYr7HVV7LQ==&opaque=0paque=");
    assert_eq!(texts(&approach)[..2], [format!("rtmp://host/live{answer}"), format!("live{answer}")]);
    assert_eq!(approach.elsewhere(), None);
    assert!(!format!("{approach:?}").contains("secret") && !format!("{approach:?}").contains("camera"));
    assert_eq!(approach.refused(&refusal(NEED_ANSWER, None), 8, NOW), Err(GiveUp::WrongCredentials));
    // Asked to reconnect, it authenticates anew.
    assert_eq!(approach.moved(None, NOW), Ok(()));
    assert_eq!(texts(&approach)[1], "live");
    assert_eq!(approach.refused(&refusal(NEED_ANSWER, None), 8, NOW), Ok(()));
}

#[test]
fn what_cannot_be_answered_is_given_up() {
    let refused = |error: SessionError| approach("rtmp://host/live?a=b", "live?a=b").refused(&error, 7, NOW);
    assert_eq!(refused(refusal("no", None)), Err(GiveUp::Refused));
    assert_eq!(refused(SessionError::HandshakeTimeout), Err(GiveUp::Refused));
    assert_eq!(refused(refusal("authmod=adobe ?reason=authfailed", None)), Err(GiveUp::WrongCredentials));
    let long = format!("{NEED_ANSWER}{}", "x".repeat(REQUEST_TEXT_BYTES_MAX));
    assert_eq!(refused(refusal(&long, None)), Err(GiveUp::Challenge));
    let mut without = Approach::new("rtmp://host/live", "live", "show", None).unwrap();
    assert_eq!(without.refused(&refusal(NEED_USER, None), 7, NOW), Err(GiveUp::NoCredentials));
    let mut queried = approach("rtmp://host/live?a=b", "live?a=b");
    assert_eq!(queried.refused(&refusal(NEED_USER, None), 7, NOW), Ok(()));
    assert_eq!(texts(&queried)[1], "live?a=b&authmod=adobe&user=camera");
}

#[test]
fn redirects_are_followed_to_the_app_and_stream_they_name() {
    for (redirect, expected) in [
        ("rtmp://other/live", ["rtmp://other/live", "live", "show?key=secret"]),
        ("rtmps://u:p@other:444/new/inst", ["rtmps://other:444/new/inst", "new/inst", "show?key=secret"]),
        ("rtmp://other/live/show", ["rtmp://other/live", "live", "show?key=secret"]),
        ("rtmp://other/live/show?key=new", ["rtmp://other/live", "live", "show?key=new"]),
        ("//host:1936/live", ["rtmp://host:1936/live", "live", "show?key=secret"]),
    ] {
        let mut approach = approach("rtmp://host/live", "live");
        assert_eq!(approach.refused(&refusal("moved", Some(redirect)), 7, NOW), Ok(()));
        assert_eq!(texts(&approach), expected);
        assert_eq!(approach.elsewhere().unwrap().to_string(), expected[0]);
        let keeps = approach.elsewhere().unwrap().host() == "host";
        let asked = approach.refused(&refusal(NEED_USER, None), 7, NOW);
        assert_eq!(asked, if keeps { Ok(()) } else { Err(GiveUp::NoCredentials) }, "{redirect}");
    }
}

#[test]
fn no_redirect_leaves_tls_or_leads_nowhere() {
    let mut secure = approach("rtmps://host/live", "live");
    assert_eq!(secure.moved(Some("rtmp://host/live"), NOW), Err(GiveUp::Insecure));
    assert_eq!(secure.moved(Some("http://host/live"), NOW), Err(GiveUp::Url(UrlError::Scheme)));
    assert_eq!((texts(&secure)[0].as_str(), secure.elsewhere()), ("rtmps://host/live", None));
    assert_eq!(secure.moved(Some("rtmps://other/live"), NOW), Ok(()));
    assert_eq!(secure.moved(Some("//third/live"), NOW), Ok(()));
    assert_eq!(texts(&secure)[0], "rtmps://third/live");
}

#[test]
fn circles_end_and_a_later_move_does_not_count_with_earlier_ones() {
    let mut circling = approach("rtmp://host/live", "live");
    let places = ["rtmp://a/live", "rtmp://b/live"];
    for step in 0..REDIRECTS_MAX as usize {
        assert_eq!(circling.refused(&refusal("moved", Some(places[step % 2])), 7, NOW), Ok(()));
    }
    assert_eq!(circling.moved(Some(places[0]), NOW), Err(GiveUp::Circles));
    assert_eq!(circling.moved(Some(places[0]), NOW + REDIRECT_WINDOW), Ok(()));
}
