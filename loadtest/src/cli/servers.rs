//! The servers that `compare` and `capacity` start.

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
    /// Values of Shardcast's --merge-ms, each measured as a server of its own
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub merge_ms: Vec<u32>,
    /// The Shardcast binary; without this and --nginx, both servers take part and the binary is the one beside this
    #[arg(long)]
    pub shardcast: Option<PathBuf>,
    /// nginx with its RTMP module takes part
    #[arg(long)]
    pub nginx: bool,
    /// The nginx binary
    #[arg(long, default_value = "/usr/sbin/nginx")]
    pub nginx_path: PathBuf,
    /// nginx's RTMP module; "builtin" if it is compiled in
    #[arg(long, default_value = "/usr/lib/nginx/modules/ngx_rtmp_module.so")]
    pub nginx_module: PathBuf,
}
