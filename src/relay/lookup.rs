//! stub
use super::{rules::{Lookup, Template}, upstream::Upstream};
use crate::rtmp::key::StreamKey;
#[derive(Debug)]
pub struct InOrder(pub Vec<Template>);
impl Lookup for InOrder { fn candidates(&self, _k: &StreamKey) -> Vec<Upstream> { Vec::new() } }
