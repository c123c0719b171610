//! What the process starts with: the flags, checked against each other and against the machine.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{AccessSource, Args, DrainSettings, Given, addresses};
use crate::{
    access::{AccessInForce, Takeover},
    control::{
        access::Access,
        callbacks::Plan,
        certificates::CertificateFiles,
        containment::Containment,
        cores::{self, Allowance},
        file::ConfigFile,
        reload::Reload,
        rules::access::AccessMade,
        values::LogFormat,
    },
    limits,
    shard::{config::Config, listen_addr::ListenAddr},
};

/// What the operator sees while the process runs.
#[derive(Debug)]
pub(in crate::control) enum Face {
    /// A server: where it listens, and what to try.
    Banner,
    /// One stream from one place to others: how it goes.
    Relay { title: String },
}

/// What the process starts with.
#[derive(Debug)]
pub(in crate::control) struct Settings {
    pub(in crate::control) face: Face,
    pub(in crate::control) config: Config,
    /// What is read again when it changes.
    pub(in crate::control) certificates: Option<CertificateFiles>,
    pub(in crate::control) admin: Option<SocketAddr>,
    pub(in crate::control) drain: DrainSettings,
    /// Who is asked and told about clients.
    pub(in crate::control) callbacks: Option<Plan>,
    /// None: everybody may do everything, and there is nothing to read again.
    pub(in crate::control) access: Option<Access>,
    /// How long a process that was replaced serves those it has.
    pub(in crate::control) upgrade_timeout: Duration,
    pub(in crate::control) containment: Containment,
    pub(in crate::control) log: String,
    pub(in crate::control) log_format: LogFormat,
    /// For the log once it runs: accepted, but worth knowing.
    pub(in crate::control) notes: Vec<String>,
}

impl Settings {
    /// That `addr` is from.
    pub(in crate::control) fn flag_of(&self, addr: &ListenAddr) -> &'static str {
        let is_plain = self.config.rtmp.contains(addr) || !self.config.rtmps.contains(addr);
        if is_plain { "--rtmp" } else { "--rtmps" }
    }

    /// What is read again while the node runs.
    pub(in crate::control) fn reloads(&self) -> Vec<Reload> {
        let certificates = self.certificates.clone().zip(self.config.tls.clone());
        let certificates = certificates.map(|(files, server)| files.reload(server));
        let access = self.access.clone().map(Access::into_reload);
        certificates.into_iter().chain(access).collect()
    }
}

/// Checks flags against each other and the CPUs in `allowance`. The error is one line.
pub(super) fn settings(
    args: Args,
    given: &Given,
    file: Option<&ConfigFile>,
    allowance: &Allowance,
) -> Result<Settings, String> {
    addresses::check(&args.rtmp, &args.tls.rtmps, args.admin.0, given)?;
    let listed = args.cpus.as_ref().map(|list| list.0.as_slice());
    let shards = args.shards.and_then(|n| usize::try_from(n).ok());
    let plan = cores::plan(shards, listed, !args.no_pin, allowance)
        .map_err(|why| format!("{} {:?}: {why}", given.origin("--cpus"), cores::list(listed.unwrap_or(&[]))))?;
    let sockets = args.sockets.options(&plan.cpus, given)?;
    let mut notes = plan.notes;
    let mut secrets: Vec<PathBuf> = args.callbacks.secret_file().map(Path::to_owned).into_iter().collect();
    let relays = args.relays.rules(given, file, &mut secrets, &mut notes)?;
    let access = AccessSource::new(args.access, given, file);
    let AccessMade { rules, files } = access.make(&mut notes)?;
    if args.takeover.takeover == Takeover::ReplaceIfSameCredential && rules.publish.is_empty() {
        notes.push(
            "--takeover replace-if-same-credential replaces nobody: without rules for publishers there are no credentials; see \
             docs/takeover.md"
                .to_owned(),
        );
    }
    let in_force = Arc::new(AccessInForce::new(rules));
    let upstream_ca = args.relays.upstream.ca();
    let upstream_ca = upstream_ca.map_err(|why| format!("{} {why}", given.origin("--upstream-ca")))?;
    let callbacks = args.callbacks.plan(given, &relays.node, upstream_ca.clone(), &mut notes)?;
    let tls = args.tls.served(given, &mut notes)?;
    let drain = args.drain.drain(&mut notes);
    let config = Config {
        rtmp: args.rtmp,
        rtmps: args.tls.rtmps,
        tls: tls.server,
        balancers: args.proxied.balancers(given, &mut notes)?,
        cpus: plan.cpus,
        driver: args.driver,
        chunk_bytes: usize::try_from(args.chunk_size).unwrap_or(limits::CHUNK_BYTES_OUT_DEFAULT),
        merging: args.merge_ms,
        delay_target: Duration::from_millis(args.delay_target_ms),
        hold_audio: Duration::from_millis(args.hold_audio_ms),
        gop_cache: args.gop_cache,
        tcp_nodelay: args.tcp_nodelay,
        gop_bytes_max: args.gop_bytes_max.0,
        tracks: args.tracks,
        segment_bytes: limits::SEGMENT_BYTES,
        wakes_at_once: limits::WAKES_AT_ONCE,
        lag_max: Duration::from_millis(args.lag_ms_max),
        join_wait: Duration::from_millis(args.join_wait_ms),
        play_wait: Duration::from_secs(args.play_wait_s),
        publisher_idle: Duration::from_secs(args.idle_timeout_s),
        unpublish_grace: Duration::from_secs(args.unpublish_grace_s),
        sockets,
        relays,
        upstream_ca,
        ceilings: args.ceilings.ceilings(),
        access: Arc::clone(&in_force),
        takeover: args.takeover.takeover,
        callbacks: callbacks.as_ref().map(Plan::for_shards).unwrap_or_default(),
        predecessor: None,
    };
    Ok(Settings {
        face: Face::Banner,
        config,
        certificates: tls.files,
        admin: args.admin.0,
        drain,
        callbacks,
        containment: args.containment.containment(args.config, secrets),
        access: Some(Access { source: access, files, in_force }),
        upgrade_timeout: args.upgrade.timeout(),
        log: args.log,
        log_format: args.log_format,
        notes,
    })
}
