//! Where a ReconnectRequest leads: a URL, a line feed, and the reference a hostile server sends.

use shardcast::{limits::REQUEST_TEXT_BYTES_MAX, rtmp::url::RtmpUrl};

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (base, reference) = text.split_once('\n').unwrap_or(("rtmp://host:1935/live?q", &text));
    let Ok(base) = RtmpUrl::parse(base) else { return };
    check(&base);
    assert_eq!(base.resolve(None).as_ref(), Ok(&base));
    let resolved = base.resolve(Some(reference));
    if let Ok(url) = &resolved {
        check(url);
        assert_eq!(RtmpUrl::check_reference(reference), Ok(()), "what leads somewhere may be sent: {reference:?}");
        assert_eq!(url.resolve(Some("")).as_ref(), Ok(url));
        assert_eq!(base.resolve(Some(&url.to_string())).as_ref(), Ok(url), "an absolute URL leads to itself");
    }
}

/// What any URL keeps to.
fn check(url: &RtmpUrl) {
    let text = url.to_string();
    assert!(text.len() <= REQUEST_TEXT_BYTES_MAX && text.starts_with("rtmp"), "{text:?}");
    assert!(!url.host().is_empty() && url.port() != 0, "{text:?}");
    assert!(!text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\'), "{text:?}");
    let path = url.app();
    let path = path.split('?').next().unwrap_or_default();
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{text:?}");
    assert_eq!(RtmpUrl::parse(&text).as_ref(), Ok(url), "a URL is read as it was written");
}
