//! The servers that `compare` and `capacity` start.

use super::values::parse_merge;
use crate::variant::Variant;
use clap::Args;
use std::path::PathBuf;

/// Servers that are started here.
#[derive(Clone, Debug, Args)]
pub struct ServersArgs {
    /// The CPU servers run on
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The CPU the load generator runs on
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// Values of Shardcast's --merge-ms, each measured as a server of its own: milliseconds, auto, or default (without
    /// the flag). 0 if neither this nor --variant is given
    #[arg(long, value_delimiter = ',', value_parser = parse_merge)]
    pub merge_ms: Vec<String>,
    /// A Shardcast with these flags, measured as a server of its own; '' is one without any. Repeat it for several. It
    /// has one shard on --server-cpu unless it sets --cpus, --shards or --no-pin: '--cpus 0,1' has two
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, value_parser = Variant::parse)]
    pub variant: Vec<Variant>,
    /// Flags for all of these Shardcasts, unless a variant sets them itself
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, value_parser = Variant::parse, default_value = "")]
    pub shardcast_args: Variant,
    /// The Shardcast binary; without this and --nginx, both servers take part and the binary is the one beside this
    #[arg(long)]
    pub shardcast: Option<PathBuf>,
    /// nginx with its RTMP module takes part
    #[arg(long)]
    pub nginx: bool,
    /// nginx takes no part: ratios refer to the first Shardcast
    #[arg(long, conflicts_with = "nginx")]
    pub no_nginx: bool,
    /// The nginx binary
    #[arg(long, default_value = "/usr/sbin/nginx")]
    pub nginx_path: PathBuf,
    /// nginx's RTMP module; "builtin" if it is compiled in
    #[arg(long, default_value = "/usr/lib/nginx/modules/ngx_rtmp_module.so")]
    pub nginx_module: PathBuf,
}

impl ServersArgs {
    /// Those of --merge-ms, then those of --variant, with the flags they share.
    pub fn variants(&self) -> Vec<Variant> {
        let mut variants: Vec<Variant> = self.merge_ms.iter().map(|value| Variant::merging(value)).collect();
        variants.extend(self.variant.iter().cloned());
        if variants.is_empty() {
            variants.push(Variant::merging("0"));
        }
        variants.iter().map(|variant| variant.with(&self.shardcast_args)).collect()
    }
}
