//! stub
#[derive(Debug, Default)]
pub struct HealthBook;
