//! What a session may ask, and how much of it.
//!
//! *Never*: is wider than the configuration, but where a test takes a wall away.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::jail::mutation;
use crate::proxy::Limits;
use crate::rules::{DomainMatch, Mistake, Policies, Rule, RuleSet};

/// What may be asked by processes at home, and how much of it; or everything, where [`mutation`] leaves
/// a wall off.
pub(super) fn bounds(
    config: &Config,
    home: Option<u64>,
) -> Result<(Arc<Policies>, Limits), Mistake> {
    const EVERYTHING: [&str; 2] = ["domain=*", "domain=test,127.0.0.1,169.254.169.254"];
    const LONG: Duration = Duration::from_hours(1);
    const MANY: usize = 1 << 24;
    let (mut rules, mut limits) = (RuleSet::clone(&config.rules), config.limits.clone());
    if !mutation::stands("verdicts") {
        let all = EVERYTHING.iter().map(|rule| rule.parse()).collect::<Result<Vec<Rule>, _>>()?;
        rules = RuleSet::new(all, DomainMatch::default());
    }
    if !mutation::stands("limits") {
        limits = Limits { head_bytes: MANY, head_time: LONG, silence: LONG, ..limits };
    }
    Ok((Arc::new(Policies::around(rules, home)), limits))
}
