//! Clients that several test binaries run: GStreamer's elements, and librtmp's rtmpdump. (FFmpeg's are in `media`.)

use std::{path::Path, process::Command};

use super::{
    packets::Track,
    tool::{Client, require, require_element},
};

/// A GStreamer pipeline.
fn launch(pipeline: &str) -> Client {
    let words = pipeline.split_whitespace();
    Client::spawn(Command::new(require("gst-launch-1.0")).arg("-q").args(words))
}

/// Publishes an FLV file at its own pace through `element` (rtmp2sink, rtmpsink) and keeps what was sent in `sent`, for
/// the muxer is GStreamer's own. `shift_ms` is added to the times that the muxer gets.
pub fn gst_publish(from: &Path, tracks: &[Track], shift_ms: u64, element: &str, url: &str, sent: &Path) -> Client {
    require_element(element);
    let location = if element == "rtmpsink" { format!("\"{url} live=1\"") } else { url.to_owned() };
    let shift = format!("identity ts-offset={}", shift_ms * 1_000_000);
    let track = |track: &Track| match track {
        Track::Video => format!("d.video ! queue ! identity sync=true ! {shift} ! m.video"),
        Track::Audio => format!("d.audio ! queue ! identity sync=true ! {shift} ! m.audio"),
    };
    let tracks: Vec<String> = tracks.iter().map(track).collect();
    launch(&format!(
        "filesrc location={} ! flvdemux name=d flvmux name=m streamable=true ! tee name=t {} \
         t. ! queue ! {element} sync=false location={location} t. ! queue ! filesink location={}",
        from.display(),
        tracks.join(" "),
        sent.display(),
    ))
}

/// Plays by `element` (rtmp2src, rtmpsrc), which passes on every byte it gets as FLV.
pub fn gst_play(element: &str, url: &str, file: &Path) -> Client {
    require_element(element);
    // Unbuffered, so that all is there if the player has to be killed.
    let sink = "filesink async=false buffer-mode=unbuffered";
    launch(&format!("{element} location={url} ! {sink} location={}", file.display()))
}

pub fn rtmpdump(url: &str, file: &Path) -> Client {
    Client::spawn(Command::new(require("rtmpdump")).args(["-q", "--live", "-r", url, "-o"]).arg(file))
}
