//! stub
use super::{rules::Timing, upstream::Upstream, puller::Fault};
use std::time::Duration;
pub enum PushHeard { Connected, Publishing, Progress, Failed(Fault) }
pub enum PushOrder { Open, Close }
pub struct PushReport { pub state: &'static str, pub attempts: u64, pub since: Duration }
#[derive(Debug)]
pub struct Pusher;
impl Pusher {
  pub fn new(_target: Upstream, _timing: Timing, _seed: u64) -> Self { Self }
  pub fn begin(&mut self, _now: Duration) {} 
  pub fn hear(&mut self, _heard: PushHeard, _now: Duration) {}
  pub fn next(&mut self, _now: Duration) -> Option<PushOrder> { None }
  pub fn deadline(&self) -> Option<Duration> { None }
  pub fn report(&self) -> PushReport { PushReport { state: "", attempts: 0, since: Duration::ZERO } }
}
