//! The flags for HTTP callbacks: who is asked about clients, and told of them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgAction, Args};
use hyper::Uri;

use super::{
    super::{
        callbacks::{Format, Plan},
        small_file::SmallFile,
        values,
    },
    Given,
};
use crate::limits;

#[derive(Args, Debug)]
#[command(next_help_heading = "Callbacks (see docs/callbacks.md)")]
pub(super) struct CallbackArgs {
    /// POST to this URL when a client connects, before it can ask for anything. 2xx lets it, 4xx refuses it
    #[arg(long, env = "SHARDCAST_ON_CONNECT", value_name = "URL", value_parser = url)]
    on_connect: Option<Uri>,

    /// POST to this URL when a client wants to publish a stream. It is not read until the answer: 2xx lets it, 4xx refuses it
    #[arg(long, env = "SHARDCAST_ON_PUBLISH", value_name = "URL", value_parser = url)]
    on_publish: Option<Uri>,

    /// POST to this URL when a client wants to play a stream. It is not read until the answer: 2xx lets it, 4xx refuses it
    #[arg(long, env = "SHARDCAST_ON_PLAY", value_name = "URL", value_parser = url)]
    on_play: Option<Uri>,

    /// POST to this URL when a publisher has ended, or is gone. The answer does not matter
    #[arg(long, env = "SHARDCAST_ON_PUBLISH_DONE", value_name = "URL", value_parser = url)]
    on_publish_done: Option<Uri>,

    /// POST to this URL when a player has ended, or is gone. The answer does not matter
    #[arg(long, env = "SHARDCAST_ON_PLAY_DONE", value_name = "URL", value_parser = url)]
    on_play_done: Option<Uri>,

    /// Milliseconds an answer may take, the time in the queue included
    #[arg(long, env = "SHARDCAST_CALLBACK_TIMEOUT_MS", value_name = "MS")]
    #[arg(value_parser = values::whole(limits::CALLBACK_TIMEOUT_MS_MIN..=limits::CALLBACK_TIMEOUT_MS_MAX, "milliseconds"))]
    #[arg(default_value_t = limits::CALLBACK_TIMEOUT_DEFAULT.as_millis() as u64)]
    callback_timeout_ms: u64,

    /// json, or nginx-rtmp: forms as nginx-rtmp-module sends them
    #[arg(long, env = "SHARDCAST_CALLBACK_FORMAT", value_name = "FORMAT", default_value = "json", value_parser = format)]
    callback_format: Format,

    /// What becomes of clients while nobody answers, or what cannot be understood (5xx, 3xx, time-out, no connection): deny
    /// or allow
    #[arg(long, env = "SHARDCAST_CALLBACK_FAILURE", value_name = "deny|allow", default_value = "deny")]
    #[arg(value_parser = failure, action = ArgAction::Set)]
    callback_failure: bool,

    /// Requests under way at once. Those beyond wait, up to 4096; beyond that they count as failures
    #[arg(long, env = "SHARDCAST_CALLBACK_CONCURRENCY", value_name = "N")]
    #[arg(value_parser = values::whole(1..=limits::CALLBACK_CONCURRENCY_MAX as u64, "requests"))]
    #[arg(default_value_t = limits::CALLBACK_CONCURRENCY_DEFAULT as u64)]
    callback_concurrency: u64,

    /// Sign requests by the secret in this file: X-Shardcast-Signature, so that the server knows who asks
    #[arg(long, env = "SHARDCAST_CALLBACK_SECRET", value_name = "FILE")]
    callback_secret: Option<PathBuf>,
}

impl CallbackArgs {
    pub(super) fn secret_file(&self) -> Option<&Path> {
        self.callback_secret.as_deref()
    }

    /// None if there is nobody to ask or tell. The error is one line.
    pub(super) fn plan(
        self,
        given: &Given,
        node: &str,
        ca: Option<PathBuf>,
        notes: &mut Vec<String>,
    ) -> Result<Option<Plan>, String> {
        let secret = match &self.callback_secret {
            Some(path) => Some(
                secret(path, notes).map_err(|why| format!("{} {path:?}: {why}", given.origin("--callback-secret")))?,
            ),
            None => None,
        };
        let plan = Plan {
            urls: [self.on_connect, self.on_publish, self.on_play, self.on_publish_done, self.on_play_done],
            format: self.callback_format,
            timeout: Duration::from_millis(self.callback_timeout_ms),
            failure_allows: self.callback_failure,
            concurrency: usize::try_from(self.callback_concurrency).unwrap_or(limits::CALLBACK_CONCURRENCY_DEFAULT),
            secret: secret.map(Into::into),
            ca,
            node: node.to_owned(),
        };
        Ok(plan.any().then_some(plan))
    }
}

fn url(text: &str) -> Result<Uri, String> {
    let url =
        text.parse::<Uri>().map_err(|error| format!("{error}; expected http://HOST/PATH or https://HOST/PATH"))?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let Some(authority) = url.authority().filter(|_| scheme) else {
        return Err("expected http://HOST/PATH or https://HOST/PATH".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("a name and password in the URL are not sent; sign requests by --callback-secret".to_owned());
    }
    Ok(url)
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "nginx-rtmp" => Ok(Format::NginxRtmp),
        _ => Err("expected json or nginx-rtmp".to_owned()),
    }
}

/// Whether a failure allows.
fn failure(text: &str) -> Result<bool, String> {
    match text {
        "deny" => Ok(false),
        "allow" => Ok(true),
        _ => Err("expected deny or allow".to_owned()),
    }
}

fn secret(path: &Path, notes: &mut Vec<String>) -> Result<Vec<u8>, String> {
    let file = SmallFile::read(path, limits::SECRET_BYTES_MAX);
    let file = file.map_err(|why| format!("{why}; name a file with the secret"))?;
    if file.others_read() {
        notes.push(format!("--callback-secret: every user can read {path:?}: chmod o= it"));
    }
    let bytes = file.into_line();
    if bytes.len() < limits::CALLBACK_SECRET_BYTES_MIN {
        let least = limits::CALLBACK_SECRET_BYTES_MIN;
        return Err(format!("shorter than {least} bytes; make one by: openssl rand -hex 32"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fault, settings_of};
    use super::*;
    use crate::shard::questions::Event;

    #[test]
    fn every_flag_reaches_its_setting() {
        assert!(settings_of("--callback-format nginx-rtmp").unwrap().callbacks.is_none());
        let line = "--on-connect http://a/1 --on-publish https://a/2 --on-play http://a/3 --on-publish-done http://a/4 \
                    --on-play-done http://a/5 --callback-timeout-ms 500 --callback-format nginx-rtmp \
                    --callback-failure allow --callback-concurrency 2";
        let settings = settings_of(line).unwrap();
        let plan = settings.callbacks.unwrap();
        let urls = plan.urls.iter().map(|url| url.as_ref().unwrap().to_string()).collect::<Vec<_>>();
        assert_eq!(urls, ["http://a/1", "https://a/2", "http://a/3", "http://a/4", "http://a/5"]);
        assert_eq!((plan.timeout.as_millis(), plan.format, plan.concurrency), (500, Format::NginxRtmp, 2));
        assert!(plan.failure_allows && plan.secret.is_none() && !plan.node.is_empty());
        let some = settings_of("--on-play http://a/").unwrap().config.callbacks;
        assert_eq!(Event::ALL.iter().filter(|event| some.concern(**event)).count(), 1);
        assert!(some.concern(Event::Play) && !some.failure_allows);
    }

    #[test]
    fn bad_values_are_named() {
        for url in ["rtmp://a/b", "/path", "a", "http://", "ftp://a/"] {
            let said = fault(&format!("--on-publish {url}"));
            assert!(said.starts_with("--on-publish ") && said.contains("expected http://HOST/PATH"), "{said}");
        }
        assert!(fault("--on-play http://u:p@h/").contains("not sent"));
        let said = fault("--on-play http://user:pearl@h/?token=pearl");
        assert!(said.contains("not sent") && !said.contains("pearl") && !said.contains("user:"), "{said}");
        assert!(fault("--callback-failure maybe").ends_with("expected deny or allow"));
        assert!(fault("--callback-format xml").ends_with("expected json or nginx-rtmp"));
        assert!(fault("--callback-timeout-ms 1").contains("from 50 to 10000"));
        assert!(fault("--callback-secret /nowhere --on-play http://a/").contains("name a file with the secret"));
        assert!(fault("--callback-secret /dev/null --on-play http://a/").contains("not a file"));
    }
}
