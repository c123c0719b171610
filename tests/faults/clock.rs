//! The wall clock is set while streams run.

use std::{fs, path::Path};

use crate::{
    audience::Ground,
    common::{seconds, tool::scratch},
};

/// Where Debian and others have it.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The hour at which a line of the log was written, in UTC.
fn hour(line: &str) -> Option<u32> {
    line.get(11..13)?.parse().ok()
}

#[test]
fn an_hour_ahead_and_an_hour_back_change_nothing() {
    let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    let library = library.expect("libfaketime is not installed: run `tests/run`, which installs it");
    let offset = scratch("offset");
    fs::write(&offset, "+0\n").expect("the build's folder can be written");
    let settings = [
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ];
    let launcher: Vec<&str> = ["env"].into_iter().chain(settings.iter().map(String::as_str)).collect();
    // The file is read again after start, from a folder that the node knows nothing of.
    let ground = Ground::by(&launcher, &["--landlock", "off"]);
    let said = || ground.server.log().lines().last().and_then(hour);
    let before = said();
    for step in ["+3600", "-3600", "+0"] {
        fs::write(&offset, format!("{step}\n")).expect("the build's folder can be written");
        std::thread::sleep(seconds(2));
        // Something is logged by the clock as it is set.
        let other = crate::common::rtmp::Peer::publisher(ground.server.rtmp, &format!("at{step}"));
        ground.server.wait_said(&format!("at{step}"));
        if step != "+0" {
            assert_ne!(said(), before, "the clock was not set: {}", ground.server.log());
        }
        drop(other);
        ground.server.wait_gone(&format!("at{step}"), seconds(5));
    }
    assert!(ground.audience.is_whole());
    ground.assert_recovers();
}
