//! `shardcast sign`: makes of a URL a link that is good for a while. The node only has to have the same secret.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{CommandFactory, Parser};

use super::{
    EXIT_USAGE, Fault, Stop,
    args::{self, Given},
    hand_out,
    rules::access::read,
};
use crate::{
    access::{
        Action,
        links::{self, Link},
        secrets::SignSecrets,
    },
    limits::{LINK_LIFE_DEFAULT, LINK_LIFE_MAX},
    rtmp::{
        key::{StreamKey, query_value, split_query},
        url::RtmpUrl,
    },
};

const EXAMPLES: &str = "\
Examples:
  shardcast sign play rtmp://edge.example/live/show --secret-file links.secret
  shardcast sign publish rtmp://ingest.example/live/show --secret-file links.secret --for 7d --ip 192.0.2.7";

/// Prints the URL with what makes it a signed link
#[derive(Debug, Parser)]
#[command(
    name = "shardcast sign",
    override_usage = "shardcast sign publish|play URL --secret-file FILE [OPTIONS]",
    after_help = EXAMPLES,
    max_term_width = 100
)]
struct SignCommand {
    /// What the link is good for: publish or play
    #[arg(value_name = "ACTION", value_parser = action)]
    action: Action,

    /// rtmp://HOST/APP/NAME, or rtmps://
    #[arg(value_name = "URL")]
    url: String,

    /// The file with the secret, as for --play-signed; the first in it signs
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,

    /// How long it is good: 90s, 15m, 1h, 7d [default: 1h]
    #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "until")]
    life: Option<Duration>,

    /// When it runs out, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    until: Option<u64>,

    /// An address, or a network such as 10.0.0.0/8, that it is good from; without it from everywhere
    #[arg(long, value_name = "CIDR", value_parser = ip)]
    ip: Option<String>,
}

/// The exit code.
pub(super) fn run(given: &Given) -> Result<u8, Stop> {
    hand_out(&format!("{}\n", make(given)?))?;
    Ok(0)
}

pub(super) fn make(given: &Given) -> Result<String, Stop> {
    let own = Given::new(given.args().get(1..).unwrap_or_default());
    let command: SignCommand = args::parse(SignCommand::command(), &own)?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(command.link(now_s).map_err(|why| Fault(EXIT_USAGE, why))?)
}

impl SignCommand {
    fn link(&self, now_s: u64) -> Result<String, String> {
        let url = RtmpUrl::parse(&self.url).map_err(|why| format!("{:?}: {why}", self.url))?;
        let stream = stream(&url).map_err(|why| format!("{:?}: {why}", self.url))?;
        let secrets = secrets(&self.secret_file)?;
        let secret = secrets.first().ok_or_else(|| {
            format!(
                "--secret-file {:?}: there is no secret in it; shardcast key --secret NAME makes one",
                self.secret_file
            )
        })?;
        let life = self.life.unwrap_or(LINK_LIFE_DEFAULT);
        let exp = self.until.unwrap_or(now_s.saturating_add(life.as_secs()));
        if exp <= now_s {
            return Err(format!("--until {exp}: that is over, it is {now_s} now"));
        }
        if exp - now_s > LINK_LIFE_MAX.as_secs() {
            let days = LINK_LIFE_MAX.as_secs() / (24 * 60 * 60);
            return Err(format!("a link is good for {days} days at most; for longer, make a key: shardcast key"));
        }
        let ip = self.ip.as_deref().unwrap_or_default();
        let signed = Link { action: self.action, stream: &stream, exp, ip }.signed(secret);
        let url = url.to_string();
        let join = if url.contains('?') { '&' } else { '?' };
        Ok(format!("{url}{join}{signed}"))
    }
}

fn secrets(path: &Path) -> Result<SignSecrets, String> {
    let parsed = read(path).and_then(|(text, _)| SignSecrets::parse(&text).map_err(|why| why.to_string()));
    parsed.map_err(|why| format!("--secret-file {path:?}: {why}"))
}

/// The stream that a node takes the URL for.
fn stream(url: &RtmpUrl) -> Result<StreamKey, String> {
    let app = url.app();
    let (path, query) = split_query(&app);
    if let Some(taken) = ["exp", "sig", "ip", "kid"].into_iter().find(|name| query_value(query, name).is_some()) {
        return Err(format!("it has {taken}= already; sign it without"));
    }
    let (app, name) = path.trim_end_matches('/').rsplit_once('/').ok_or("name a stream: rtmp://HOST/APP/NAME")?;
    StreamKey::new("", app, &format!("{name}?{query}")).map_err(|why| why.to_string())
}

fn action(text: &str) -> Result<Action, String> {
    let actions = [Action::Publish, Action::Play];
    actions.into_iter().find(|action| action.name() == text).ok_or_else(|| "expected publish or play".to_owned())
}

fn ip(text: &str) -> Result<String, String> {
    links::check_ip(text).map(|()| text.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number and its unit: 90s, 15m, 1h, 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(expected()),
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let seconds = number.and_then(|number| number.checked_mul(unit)).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The link of a command line made at second 1000, or what is wrong with it. `SECRET` is a file.
    fn link(line: &str) -> Result<String, String> {
        static FILES: AtomicUsize = AtomicUsize::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("shardcast-sign-{}-{number}", std::process::id()));
        std::fs::write(&file, "may 0123456789abcdef0123456789abcdef\nold fedcba9876543210\n").unwrap();
        let line = line.replace("SECRET", file.to_str().unwrap());
        let words = std::iter::once("sign").chain(line.split(' ')).map(OsString::from).collect::<Vec<_>>();
        let command = match args::parse::<SignCommand>(SignCommand::command(), &Given::new(&words)) {
            Ok(command) => command,
            Err(args::Answer::Fault(line) | args::Answer::Text(line)) => return Err(line),
        };
        let link = command.link(1_000);
        std::fs::remove_file(file).unwrap();
        link
    }

    #[test]
    fn a_link_is_the_url_and_what_is_signed() {
        let made = link("play rtmp://h:1936/live/show --secret-file SECRET --for 15m").unwrap();
        assert!(made.starts_with("rtmp://h:1936/live/show?exp=1900&kid=may&sig="), "{made}");
        let made =
            link("publish rtmps://h/live/show?vhost=v --secret-file SECRET --until 2000 --ip 10.0.0.0/8").unwrap();
        assert!(made.starts_with("rtmps://h/live/show?vhost=v&exp=2000&ip=10%2E0%2E0%2E0%2F8&kid=may&sig="), "{made}");
        assert!(link("play rtmp://h/a/b --secret-file SECRET").unwrap().contains("exp=4600&"));
    }

    #[test]
    fn what_cannot_be_signed_is_said() {
        for (line, expected) in [
            ("watch rtmp://h/a/b --secret-file SECRET", "expected publish or play"),
            ("play http://h/a/b --secret-file SECRET", "scheme is not"),
            ("play rtmp://h/a --secret-file SECRET", "name a stream"),
            ("play rtmp://h/a/b?exp=1 --secret-file SECRET", "exp= already"),
            ("play rtmp://h/a/b --secret-file /nowhere", "--secret-file \"/nowhere\": No such file"),
            ("play rtmp://h/a/b --secret-file SECRET --until 1000", "that is over"),
            ("play rtmp://h/a/b --secret-file SECRET --for 1y", "90s, 15m"),
            ("play rtmp://h/a/b --secret-file SECRET --for 0h", "90s, 15m"),
            ("play rtmp://h/a/b --secret-file SECRET --for ä", "90s, 15m"),
            ("play rtmp://h/a/b --secret-file SECRET --ip 10.0.0.1/8", "did you mean 10.0.0.0/8?"),
            ("play rtmp://h/a/b --secret-file SECRET --for 1h --until 2000", "--for cannot be used with --until"),
            ("play rtmp://h/a/b --secret-file SECRET --for 3651d", "3650 days at most"),
            ("play rtmp://h/a/b --secret-file SECRET --until 18446744073709551615", "3650 days at most"),
            ("play rtmp://h/a/b", "needs --secret-file"),
        ] {
            let said = link(line).unwrap_err();
            assert!(said.contains(expected) && said.lines().count() == 1, "{line}: {said}");
        }
    }
}
